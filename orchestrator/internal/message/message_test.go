package message

import (
	"encoding/json"
	"html"
	"reflect"
	"strings"
	"testing"
)

// notification returns the JSON of a notification with these templates and this event.
func notification(t *testing.T, title, text, event string) []byte {
	t.Helper()
	document, err := json.Marshal(map[string]any{
		"message_id":  "event_17",
		"title":       "late_orders: 2 rows added",
		"summary":     "2 rows were added to public.late_orders.",
		"severity":    "change",
		"key":         "public.late_orders",
		"path":        "/views/public.late_orders?event=17",
		"matview":     "public.late_orders",
		"description": nil,
		"templates":   map[string]any{"title": title, "message": text},
		"event":       json.RawMessage(event),
	})
	if err != nil {
		t.Fatal(err)
	}
	return document
}

const twoAdded = `{"id": 17, "outcome": "refreshed", "row_count": 5, "added_count": 3, "removed_count": 0, "updated_count": null,
	"error_message": null, "rows": [{"number": 1002, "customer": "Birch & Co", "due": null}, {"number": 1004, "customer": "Elm", "due": "2026-02-15"}],
	"added": [{"number": 1002, "customer": "Birch & Co", "due": null}, {"number": 1004, "customer": "Elm", "due": "2026-02-15"}]}`

func parsed(t *testing.T, notification []byte) Message {
	t.Helper()
	m, err := Parse(notification, "https://crm.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestParse(t *testing.T) {
	t.Parallel()
	m := parsed(t, notification(t, "", "", twoAdded))
	if m.Link != "https://crm.example.com/views/public.late_orders?event=17" {
		t.Errorf("link: %s", m.Link)
	}
	if m.Title != "late_orders: 2 rows added" || m.Text != "2 rows were added to public.late_orders." || m.HasTemplate || m.Note != "" {
		t.Errorf("default texts: %+v", m)
	}
	if m.Event["added_count"] != json.Number("3") {
		t.Errorf("event: %v", m.Event)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, event string
		columns     []string
		rows        [][]string
		more        int
	}{
		{"added rows, and one that the event does not carry", twoAdded, []string{"number", "customer", "due"},
			[][]string{{"1002", "Birch & Co", ""}, {"1004", "Elm", "2026-02-15"}}, 1},
		{"the rows when nothing was compared", `{"row_count": 1, "rows": [{"b": 1.50, "a": {"x": [1, "y"]}}]}`,
			[]string{"b", "a"}, [][]string{{"1.50", `{"x":[1,"y"]}`}}, 0},
		{"all kinds of changes", `{"row_count": 9, "added_count": 2, "removed_count": 2, "updated_count": 1, "rows": [],
			"added": [{"id": 3, "v": "c"}], "removed": [{"id": 1, "v": "a"}],
			"updated": [{"key": {"id": 2}, "old": {"id": 2, "v": "b"}, "new": {"id": 2, "v": "B"}}]}`,
			[]string{"", "id", "v"}, [][]string{{"~", "2", "b → B"}, {"+", "3", "c"}, {"-", "1", "a"}}, 0},
		{"a failure", `{"outcome": "failed", "row_count": null, "rows": null}`, nil, nil, 0},
		{"what is not a row", `{"row_count": 2, "rows": [1, [2], {"a": 1}], "updated": [5]}`, nil, [][]string{{}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := parsed(t, notification(t, "", "", test.event))
			if !reflect.DeepEqual(m.Columns, test.columns) || !reflect.DeepEqual(m.Rows, test.rows) || m.MoreRows != test.more {
				t.Errorf("got %q %q and %d more", m.Columns, m.Rows, m.MoreRows)
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, template, want string }{
		{"fields of the event and of the notification", "{{view}} {{row_count}} {{outcome}} {{severity}} {{link}}",
			"public.late_orders 5 refreshed change https://crm.example.com/views/public.late_orders?event=17"},
		{"rows", "{{#rows}}{{number}}={{customer}},{{/rows}} and {{more_rows}} more", "1002=Birch & Co,1004=Elm, and 1 more"},
		{"the first row", "{{row.customer}}", "Birch & Co"},
		{"a row on one line, with its columns in order", "{{#rows}}{{.}}|{{/rows}}",
			"number: 1002, customer: Birch & Co, due: |number: 1004, customer: Elm, due: 2026-02-15|"},
		{"a list", "{{added}}", "number: 1002, customer: Birch & Co, due: ; number: 1004, customer: Elm, due: 2026-02-15"},
		{"what is missing or null is empty", "[{{nothing}}{{row.nothing}}{{nothing.at.all}}{{error}}{{updated_count}}{{row.due}}{{> passwd}}]", "[]"},
		{"sections of nothing", "{{#removed_count}}gone{{/removed_count}}{{^removed_count}}none gone{{/removed_count}}{{#error}}!{{/error}}", "none gone"},
		{"a method of Go is a missing field", "[{{rows.Format}}{{row.String}}]", "[]"},
		{"the text when the message has no template", "", "2 rows were added to public.late_orders."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := parsed(t, notification(t, "", test.template, twoAdded))
			if m.Text != test.want || m.Note != "" || m.HasTemplate != (test.template != "") {
				t.Errorf("got %q %q", m.Text, m.Note)
			}
		})
	}
}

func TestTitleTemplateIsOneLine(t *testing.T) {
	t.Parallel()
	m := parsed(t, notification(t, "Late:\r\nBcc: {{row.customer}}\x00{{title}}", "{{title}}!", twoAdded))
	if want := "Late: Bcc: Birch & Co late_orders: 2 rows added"; m.Title != want || m.Text != want+"!" {
		t.Errorf("got %q %q", m.Title, m.Text)
	}
	if m := parsed(t, notification(t, "{{nothing}}", "", twoAdded)); m.Title != "late_orders: 2 rows added" {
		t.Errorf("got %q", m.Title)
	}
}

// Data that looks like a template or like markup is data, however the template asks for it.
func TestDataIsNeitherRenderedNorMarkup(t *testing.T) {
	t.Parallel()
	const evil = `{{link}}<script>{{{link}}}{{=<% %>=}}{{#rows}}`
	event, err := json.Marshal(map[string]any{"row_count": 1, "rows": []any{map[string]any{"x": evil, evil: "y"}}})
	if err != nil {
		t.Fatal(err)
	}
	m := parsed(t, notification(t, "", "<b>{{row.x}}|{{{row.x}}}|{{&row.x}}|{{row}}</b>", string(event)))
	if want := "<b>" + strings.Repeat(evil+"|", 3) + "x: " + evil + ", " + evil + ": y</b>"; len(m.Text) != len(want) {
		t.Errorf("got %q", m.Text)
	}
	_, text, err := m.Render(html.EscapeString)
	if err != nil || strings.Count(text, "<") != 2 || strings.Count(text, html.EscapeString(evil)) != 5 {
		t.Errorf("got %q %v", text, err)
	}
}

func TestBrokenTemplateFallsBack(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("{{#rows}}", 9) + strings.Repeat("{{/rows}}", 9)
	event := `{"row_count": 100, "rows": [` + strings.TrimSuffix(strings.Repeat(`{"a": 1},`, 100), ",") + `]}`
	for _, template := range []string{"{{#rows}}", "{{/rows}}", "{{", "{{}}", "{{#a}}{{#b}}{{/a}}{{/b}}", deep} {
		m := parsed(t, notification(t, "Mine", template, event))
		if m.Note == "" || m.HasTemplate || m.Title != "late_orders: 2 rows added" || m.Text != "2 rows were added to public.late_orders." {
			t.Errorf("%.20s: %q %q %q", template, m.Title, m.Text, m.Note)
		}
	}
}

func TestRenderedTextIsBounded(t *testing.T) {
	t.Parallel()
	event := `{"row_count": 1000, "rows": [` + strings.TrimSuffix(strings.Repeat(`{"a": "`+strings.Repeat("ä", 500)+`"},`, 1000), ",") + `]}`
	m := parsed(t, notification(t, "", "{{#rows}}{{a}}{{/rows}}", event))
	if len(m.Text) > maxRendered || len(m.Text) < maxRendered-1000 {
		t.Errorf("%d bytes, %s", len(m.Text), m.Note)
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	one := notification(t, "", "", twoAdded)
	document, err := json.Marshal(map[string]any{
		"title": "2 notifications", "path": "/events", "events": []json.RawMessage{one, one},
		"templates": map[string]any{"title": nil, "message": "{{row_count}} rows"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := parsed(t, document)
	if m.Title != "2 notifications" || m.HasTemplate || len(m.Parts) != 2 || m.Parts[1].Text != "5 rows" || m.Parts[1].Link == "" {
		t.Errorf("got %+v", m)
	}
}

func TestLinkNeedsAPublicURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ publicURL, path, want string }{
		{"", "/views/v", ""},
		{"https://x.example", "", ""},
		{"https://x.example", "@evil.example/", ""},
		{"https://x.example/crm/", "/views/a%22b?event=1", "https://x.example/crm/views/a%22b?event=1"},
	} {
		if got := link(test.publicURL, test.path); got != test.want {
			t.Errorf("%q %q: %q", test.publicURL, test.path, got)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, template := range []string{"{{a}}", "{{{a}}}", "{{=<% %>=}}<%a%>", "{{#rows}}{{.}}{{/rows}}", "{{^a}}{{!x}}{{&b}}", "{{={{ }}=}}", "{{ {}}"} {
		f.Add(template)
	}
	f.Fuzz(func(t *testing.T, template string) {
		m, err := Parse(notification(t, template, template, twoAdded), "")
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(m.Title, "\r\n") || m.Title == "" {
			t.Errorf("title %q", m.Title)
		}
	})
}
