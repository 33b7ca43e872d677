package channel

import (
	"net/url"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// ntfy writes https://docs.ntfy.sh/publish/#publish-as-json: a JSON with the topic, to the root of the server. A message
// has up to 4,096 bytes; a longer one would become a file. Headers would be another way, but no data belongs there. It
// is plain text, because nothing says that it is Markdown.
func ntfy(m message.Message, to *url.URL) (Request, error) {
	look := lookOf(m)
	text, err := fit(m, func(t table) (string, error) {
		lines := append([]string{prose(m)}, t.list()...)
		return strings.Join(lines, "\n"), nil
	}, func(text string) bool { return m.Limits.Text == 0 || size(text) <= m.Limits.Text })
	if err != nil {
		return Request{}, err
	}
	values := map[string]any{
		"topic":    strings.Trim(to.Path, "/"),
		"title":    cut(line(m.Title), m.Limits.Title, plain, size),
		"message":  cut(text, m.Limits.Text, plain, size),
		"priority": look.priority,
	}
	if look.tags != nil {
		values["tags"] = look.tags
	}
	if m.Link != "" {
		values["click"] = m.Link
	}
	body, err := marshal(values)
	root := url.URL{Scheme: to.Scheme, Host: to.Host, Path: "/", RawQuery: to.RawQuery}
	return Request{URL: root.String(), Body: body}, err
}
