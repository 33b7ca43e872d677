package channel

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// discord writes https://discord.com/developers/docs/resources/webhook#execute-webhook: one embed. Its title has up to
// 256 characters, its description up to 4,096, and an embed up to 6,000.
func discord(m message.Message, to *url.URL) (Request, error) {
	description, err := fit(m, func(t table) (string, error) {
		var parts []string
		rest := m.Limits.Text
		if block := t.block(); block != "" {
			// No character of the data ends the block.
			block = "```\n" + strings.ReplaceAll(block, "`", "`\u200b") + "\n```"
			parts, rest = append(parts, block), rest-characters(block)-1
		}
		if m.Link != "" {
			link := "[" + openLink + "](" + m.Link + ")"
			parts, rest = append(parts, link), rest-characters(link)-1
		}
		if m.Limits.Text > 0 && rest < characters(prose(m)) && len(t.rows) > 0 {
			return strings.Repeat(" ", m.Limits.Text+1), nil
		}
		text := cut(prose(m), max(rest, 1), discordEscape, characters)
		return strings.Join(append([]string{text}, parts...), "\n"), nil
	}, func(text string) bool { return characters(text) <= m.Limits.Text })
	if err != nil {
		return Request{}, err
	}
	embed := map[string]any{
		"title":       cut(line(m.Title), m.Limits.Title, discordEscape, characters),
		"description": description,
		"color":       lookOf(m).colour,
	}
	body, err := marshal(map[string]any{
		"embeds": []any{embed},
		// Nobody is mentioned, whatever the text says.
		"allowed_mentions": map[string]any{"parse": []string{}},
	})
	target := *to
	query := target.Query()
	// Without it, Discord answers before it knows whether it takes the message.
	query.Set("wait", "true")
	target.RawQuery = query.Encode()
	return Request{URL: target.String(), Body: body}, err
}

var (
	discordMarks = regexp.MustCompile("[\\\\*_~`|<>\\[\\]@]")
	// These are marks at the beginning of a line only: lists and headings.
	discordLines = regexp.MustCompile(`(?m)^(\s*)([-+#])`)
)

// discordEscape makes Discord show Markdown and mentions as they are written.
func discordEscape(text string) string {
	return discordLines.ReplaceAllString(discordMarks.ReplaceAllString(text, `\$0`), `$1\$2`)
}
