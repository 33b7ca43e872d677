package channel

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// telegram writes https://core.telegram.org/bots/api#sendmessage: 1 to 4,096 characters, without the HTML. What the URL
// asks for, such as chat_id, goes into the body.
func telegram(m message.Message, to *url.URL) (Request, error) {
	title := cut(line(m.Title), m.Limits.Title, telegramProse, characters)
	asked := m.Limits.Text
	text, err := fit(m, func(t table) (telegramText, error) {
		written := telegramText{}
		written.add("<b>", title, "</b>")
		block, link := t.block(), ""
		rest := asked - written.length - characters(block) - 2
		if m.Link != "" {
			link = openLink
			rest -= characters(link) + 1
		}
		// A text that is too long alone is cut, once no row is left.
		if len(t.rows) == 0 {
			written.add("", cut(prose(m), max(rest, 1), telegramProse, characters), "")
		} else {
			written.add("", telegramProse(prose(m)), "")
		}
		written.add("<pre>", block, "</pre>")
		written.add(`<a href="`+telegramEscape.Replace(m.Link)+`">`, link, "</a>")
		return written, nil
	}, func(written telegramText) bool { return written.length <= asked })
	if err != nil {
		return Request{}, err
	}
	values := map[string]any{}
	for name, value := range to.Query() {
		values[name] = value[0]
	}
	values["text"] = strings.Join(text.lines, "\n")
	values["parse_mode"] = "HTML"
	values["link_preview_options"] = map[string]any{"is_disabled": true}
	body, err := marshal(values)
	target := *to
	target.RawQuery = ""
	return Request{URL: target.String(), Body: body}, err
}

// telegramEscape is all that HTML for Telegram needs: https://core.telegram.org/bots/api#html-style.
var telegramEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// telegramMention is what Telegram makes a mention of a user, without any markup. A block has none.
var telegramMention = regexp.MustCompile(`(^|[^A-Za-z0-9_])@([A-Za-z0-9_])`)

func telegramProse(text string) string { return telegramMention.ReplaceAllString(text, "$1@\u2060$2") }

// A telegramText is lines of HTML, and their length without it.
type telegramText struct {
	lines  []string
	length int
}

func (t *telegramText) add(before, text, after string) {
	if text == "" {
		return
	}
	t.lines = append(t.lines, before+telegramEscape.Replace(text)+after)
	t.length += characters(text) + 1
}
