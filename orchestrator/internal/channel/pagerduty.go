package channel

import (
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// maxKey is the length of a dedup_key.
const maxKey = 255

// pagerDuty writes an alert event: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/. A summary has up
// to 1,024 characters, a payload up to 512 KB. The URL has the routing key, and the body gets it. What is over resolves
// the incident of its key.
func pagerDuty(m message.Message, to *url.URL) (Request, error) {
	action := "trigger"
	if m.IsResolved && !m.IsTest {
		action = "resolve"
	}
	body, err := fit(m, func(t table) ([]byte, error) {
		details := map[string]any{"text": prose(m)}
		if len(t.rows) > 0 {
			details["rows"] = t.list()
		}
		event := map[string]any{
			"routing_key":  to.Query().Get("routing_key"),
			"event_action": action,
			"dedup_key":    cut(line(m.Key), maxKey, plain, characters),
			"client":       "TinyDevCRM",
			"payload": map[string]any{
				"summary":        cut(line(m.Title), m.Limits.Title, plain, characters),
				"source":         line(m.Matview),
				"severity":       lookOf(m).pagerDuty,
				"class":          m.Severity,
				"custom_details": details,
			},
		}
		if m.Link != "" {
			event["client_url"] = m.Link
			event["links"] = []any{map[string]any{"href": m.Link, "text": openLink}}
		}
		return marshal(event)
	}, fits(m))
	target := *to
	target.RawQuery = ""
	return Request{URL: target.String(), Body: body}, err
}
