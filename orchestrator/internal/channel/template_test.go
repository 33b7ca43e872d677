package channel_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// withTemplates is a notification with templates of a title and a message.
func withTemplates(t *testing.T, notification []byte, title, message string) []byte {
	t.Helper()
	var document map[string]json.RawMessage
	if err := json.Unmarshal(notification, &document); err != nil {
		t.Fatal(err)
	}
	templates, err := json.Marshal(map[string]string{"title": title, "message": message})
	if err != nil {
		t.Fatal(err)
	}
	document["templates"] = templates
	body, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// What a template says is text too: no receiver reads markup or mentions in it, or in what it inserts.
func TestTemplatesAreText(t *testing.T) {
	tx, urls := created(t)
	// The template's own words, without what is Mustache.
	words := strings.NewReplacer("{", "(", "}", ")").Replace(nasty)
	for format, of := range urls {
		t.Run(format, func(t *testing.T) {
			r := receive(t, format, rules[format])
			body := withTemplates(t, notification(t, tx, format, cases()["injection"]), words+" {{view}}", words+" {{view}} {{{view}}} {{&view}} {{rows}}")
			if err := send(t.Context(), format, r.at(t, of), body); err != nil {
				t.Errorf("refused: %v\n%s", err, r.got.body)
			}
		})
	}
}

// The template of format json is the body: its values stay within the quotes around them.
func TestOwnJSON(t *testing.T) {
	tx, urls := created(t)
	r := receive(t, "json", rules["json"])
	at := r.at(t, urls["json"])
	post := func(template string) map[string]any {
		t.Helper()
		body := withTemplates(t, notification(t, tx, "json", cases()["injection"]), "", template)
		if err := send(t.Context(), "json", at, body); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(r.got.body, &got); err != nil {
			t.Fatalf("%v: %s", err, r.got.body)
		}
		return got
	}
	got := post(`{"body": "{{view}}", "raw": "{{{view}}}", "count": {{row_count}}, "event_type": "x"}`)
	if want := `public."` + nasty + `"`; got["body"] != want || got["raw"] != want || got["count"] != 1.0 || len(got) != 4 {
		t.Errorf("got %q", got)
	}
	for name, template := range map[string]string{"no JSON": `{"body": {{view}}}`, "a broken template": `{{#rows}}`} {
		got := post(template)
		if note, _ := got["note"].(string); note == "" || got["title"] == nil || got["event"] == nil {
			t.Errorf("%s: got %v, want the default with a note", name, got)
		}
	}
}
