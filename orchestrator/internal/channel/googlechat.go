package channel

import (
	"fmt"
	"html"
	"net/url"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// googleChat writes a card: https://developers.google.com/workspace/chat/api/reference/rest/v1/cards. It has up to
// 32 KB and 100 widgets. Its texts are HTML, which can be escaped, and mention nobody; the "text" of a message cannot,
// and "<users/all>" in it mentions everyone.
func googleChat(m message.Message, to *url.URL) (Request, error) {
	body, err := fit(m, func(t table) ([]byte, error) {
		widgets := []any{
			googleText(fmt.Sprintf(`<font color="#%06x">■</font> `, lookOf(m).colour) + googleEscape(
				cut(prose(m), m.Limits.Text, plain, characters))),
		}
		for _, l := range t.list() {
			widgets = append(widgets, map[string]any{"decoratedText": map[string]any{"text": googleEscape(l), "wrapText": true}})
		}
		if m.Link != "" {
			widgets = append(widgets, map[string]any{"buttonList": map[string]any{"buttons": []any{map[string]any{
				"text":    openLink,
				"onClick": map[string]any{"openLink": map[string]any{"url": m.Link}},
			}}}})
		}
		return marshal(map[string]any{"cardsV2": []any{map[string]any{
			"cardId": "event",
			"card": map[string]any{
				"header":   map[string]any{"title": cut(line(m.Title), m.Limits.Title, plain, characters)},
				"sections": []any{map[string]any{"widgets": widgets}},
			},
		}}})
	}, fits(m))
	return Request{URL: to.String(), Body: body}, err
}

func googleEscape(text string) string {
	return strings.ReplaceAll(html.EscapeString(text), "\n", "<br>")
}

func googleText(text string) map[string]any {
	return map[string]any{"textParagraph": map[string]any{"text": text}}
}
