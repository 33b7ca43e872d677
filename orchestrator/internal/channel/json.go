package channel

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// ownJSON is the message template of the subscription: its values are escaped as parts of JSON strings. Without one, or
// when the template makes no JSON, the body has everything that a template could name.
func ownJSON(m message.Message, to *url.URL) (Request, error) {
	note := m.Note
	if m.HasTemplate {
		_, text, err := m.Render(jsonEscape)
		if err == nil {
			if json.Valid([]byte(text)) {
				return Request{URL: to.String(), Body: []byte(text)}, nil
			}
			note = "the template of the message makes no JSON: " + explain(text)
		}
	}
	values := map[string]any{
		"title":       line(m.Title),
		"text":        m.Text,
		"severity":    m.Severity,
		"key":         m.Key,
		"is_resolved": m.IsResolved,
		"is_test":     m.IsTest,
		"view":        m.Matview,
		"event":       m.Event,
	}
	if m.Link != "" {
		values["link"] = m.Link
	}
	if len(m.Also) > 0 {
		values["also"] = m.Also
	}
	if note != "" {
		values["note"] = note
	}
	var parts []map[string]any
	for _, part := range m.Parts {
		parts = append(parts, part.Event)
	}
	if parts != nil {
		values["events"] = parts
	}
	body, err := marshal(values)
	return Request{URL: to.String(), Body: body}, err
}

// jsonEscape is a text as it stands between the quotes of a JSON string.
func jsonEscape(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return ""
	}
	return string(quoted[1 : len(quoted)-1])
}

func explain(text string) string {
	var value any
	return fmt.Sprint(json.Unmarshal([]byte(text), &value))
}
