package channel

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// slack writes a message for an incoming webhook of Slack:
// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, with blocks:
// https://docs.slack.dev/reference/block-kit/blocks. A header has up to 150 characters, a text up to 3,000, a message
// up to 50 blocks. Data is only in plain_text and rich_text, where Slack knows no markup and no mentions.
func slack(m message.Message, to *url.URL) (Request, error) {
	title := cut(line(m.Title), m.Limits.Title, plain, characters)
	var blocks []any
	if text := prose(m); text != "" {
		blocks = append(blocks, slackText("rich_text_section", cut(text, m.Limits.Text, plain, characters)))
	}
	block, err := fit(m, func(t table) (string, error) { return t.block(), nil }, func(text string) bool {
		return m.Limits.Text == 0 || characters(text) <= m.Limits.Text
	})
	if err != nil {
		return Request{}, err
	}
	if block != "" {
		blocks = append(blocks, slackText("rich_text_preformatted", block))
	}
	if m.Link != "" {
		blocks = append(blocks, slackRich("rich_text_section", map[string]any{"type": "link", "url": m.Link, "text": openLink}))
	}
	body, err := marshal(map[string]any{
		// For notifications, and for servers that take Slack's messages without blocks. It is the only mrkdwn.
		"text": slackEscape.Replace(title),
		"blocks": []any{map[string]any{
			"type": "header",
			"text": map[string]any{"type": "plain_text", "text": title, "emoji": false},
		}},
		"attachments": []any{map[string]any{
			"color":  fmt.Sprintf("#%06x", lookOf(m).colour),
			"blocks": blocks,
		}},
		"unfurl_links": false,
		"unfurl_media": false,
	})
	return Request{URL: to.String(), Body: body}, err
}

// openLink is the text of the link to the page.
const openLink = "Open the view"

// slackEscape is all that mrkdwn needs: https://docs.slack.dev/messaging/formatting-message-text#escaping.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slackText(kind, text string) map[string]any {
	return slackRich(kind, map[string]any{"type": "text", "text": text})
}

func slackRich(kind string, element map[string]any) map[string]any {
	return map[string]any{
		"type":     "rich_text",
		"elements": []any{map[string]any{"type": kind, "elements": []any{element}}},
	}
}
