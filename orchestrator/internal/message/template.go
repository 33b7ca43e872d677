package message

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode"

	"github.com/cbroglie/mustache"
)

const (
	// maxRendered bounds a rendered text. A channel cuts it to what its receiver takes.
	maxRendered = 256 << 10
	// renderWithin bounds the time, which sections within sections multiply.
	renderWithin = time.Second
)

// Render renders the templates with values that are escaped for a medium, and returns the default title and text
// where there is no template. The templates' own words are not escaped. A default text is escaped as a whole.
func (m Message) Render(escape func(string) string) (title, text string, err error) {
	defaultTitle, defaultText := escape(oneLine(m.context.Title)), escape(m.context.Summary)
	title, text = defaultTitle, defaultText
	if m.templates == (templates{}) {
		return title, text, nil
	}
	values := m.values(escape)
	if m.templates.Title != "" {
		rendered, err := render(m.templates.Title, values)
		if err != nil {
			return defaultTitle, defaultText, fmt.Errorf("the title's template: %w", err)
		}
		// A title of nothing, as when all of it is missing, would be no title.
		if rendered = oneLine(rendered); rendered != "" {
			title = rendered
			values["title"] = rendered
		}
	}
	if m.templates.Message != "" {
		rendered, err := render(m.templates.Message, values)
		if err != nil {
			return defaultTitle, defaultText, fmt.Errorf("the message's template: %w", err)
		}
		text = rendered
	}
	return title, text, nil
}

func render(template string, values map[string]any) (string, error) {
	// Without a provider the library reads partials from files.
	parsed, err := mustache.ParseStringPartials(template, &mustache.StaticProvider{})
	if err != nil {
		return "", err
	}
	// The values are escaped already, so that {{{raw}}} and {{&raw}} are too.
	parsed.Escape(func(value string) string { return value })
	text := bounded{end: time.Now().Add(renderWithin)}
	if err := parsed.FRender(&text, values); err != nil {
		return "", err
	}
	return text.String(), nil
}

// A bounded text ends before the first value that goes beyond maxRendered. The library writes a text, if only an empty one, at each turn
// of a section, and so finds out that the time is over.
type bounded struct {
	strings.Builder
	end    time.Time
	isFull bool
}

var errTooSlow = fmt.Errorf("it takes longer than %v: its sections within sections repeat too often", renderWithin)

func (b *bounded) Write(text []byte) (int, error) {
	if time.Now().After(b.end) {
		return 0, errTooSlow
	}
	if b.isFull = b.isFull || b.Len()+len(text) > maxRendered; !b.isFull {
		b.Builder.Write(text)
	}
	return len(text), nil
}

// values are what a template can name: the fields of the event, and those that the notification adds.
func (m Message) values(escape func(string) string) map[string]any {
	var fields map[string]json.RawMessage
	// It has been parsed before.
	_ = json.Unmarshal(m.context.Event, &fields)
	values := map[string]any{"error_message": ""}
	for name, field := range fields {
		values[name] = value(field, escape)
	}
	maps.Copy(values, map[string]any{
		"view":        escape(m.Matview),
		"description": escape(m.Description),
		"title":       escape(oneLine(m.context.Title)),
		"summary":     escape(m.context.Summary),
		"severity":    escape(m.Severity),
		"link":        escape(m.Link),
		"is_test":     m.IsTest,
		"error":       values["error_message"],
		"more_rows":   m.MoreRows,
	})
	var also list
	for _, name := range m.Also {
		also = append(also, escape(name))
	}
	values["also"] = also
	if rows, _ := values["rows"].(list); len(rows) > 0 {
		values["row"] = rows[0]
	}
	return values
}

// printed is the key of an object's text. No column has an empty name.
const printed = ""

// An object is a row. It prints as one line.
//
// Format is its only method, and has parameters: a template can call methods without.
type object map[string]any

func (o object) Format(state fmt.State, _ rune) { fmt.Fprint(state, o[printed]) }

// A list prints as its elements.
type list []any

func (l list) Format(state fmt.State, _ rune) {
	for i, element := range l {
		if i > 0 {
			fmt.Fprint(state, "; ")
		}
		fmt.Fprint(state, element)
	}
}

// value is a JSON value for a template. A null is an empty text, so that it hides a field of the same name outside
// of the row; 0 is a number, which a section takes for false.
func value(raw json.RawMessage, escape func(string) string) any {
	switch string(raw[:1]) {
	case "{":
		var r row
		if err := r.UnmarshalJSON(raw); err != nil {
			return ""
		}
		o := object{printed: escape(r.String())}
		for name, cell := range r.cells {
			o[name] = value(cell, escape)
		}
		return o
	case "[":
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			return ""
		}
		l := make(list, len(elements))
		for i, element := range elements {
			l[i] = value(element, escape)
		}
		return l
	case "t", "f":
		return string(raw) == "true"
	case "0":
		if len(raw) == 1 {
			return 0
		}
	}
	r := row{cells: map[string]json.RawMessage{printed: raw}}
	return escape(r.text(printed))
}

func isControlOrSpace(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }
