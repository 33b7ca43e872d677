package channel

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// ntfy writes https://docs.ntfy.sh/publish/#publish-as-json: a JSON with the topic, to the root of the server.
// Headers would be another way, but no data belongs there.
func ntfy(m message.Message, to *url.URL) (Request, error) {
	body, err := json.Marshal(map[string]any{
		"topic":   strings.Trim(to.Path, "/"),
		"title":   m.Title,
		"message": m.Text,
		"click":   m.Link,
	})
	root := url.URL{Scheme: to.Scheme, Host: to.Host, Path: "/", RawQuery: to.RawQuery}
	return Request{URL: root.String(), Body: body}, err
}
