// Package message reads the notification that SQL has written for an event, and renders its templates.
package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// A Message is what a person is notified of. It carries raw text: each channel escapes it for its medium.
type Message struct {
	// ID is the same at each attempt.
	ID string
	// Title is one line. Title and Text are rendered by the subscription's templates, or are the default ones.
	Title, Text string
	// Severity says how bad it is, such as failure, recovery or change. Key is the same for a failure and its
	// recovery. Link leads to the view's page, with the event.
	Severity, Key, Link string
	Matview             string
	// Description is the comment on the view.
	Description string
	// Columns and Rows are what the event is about: what was added, removed and updated if something was compared,
	// the view's rows otherwise. With several kinds of changes a first column without a name says "+", "-" or "~".
	Columns []string
	Rows    [][]string
	// MoreRows is how many there are beside Rows.
	MoreRows int
	// Event is what tinydevcrm.event_json() returns. Numbers are a json.Number.
	Event map[string]any
	// Also names the other views of a group of failures.
	Also   []string
	IsTest bool
	// IsResolved says that what Key names is over.
	IsResolved bool
	// Limits are those of the receiver's format.
	Limits Limits
	// HasTemplate says that Text is by the subscription's own template. It has what its author wants of the rows.
	HasTemplate bool
	// Note says why Title and Text are the default ones in spite of a template; empty otherwise.
	Note string
	// Parts are the messages of which this one is made, if it carries several events.
	Parts []Message

	templates templates
	context   document
}

// Limits are what a receiver takes: see tinydevcrm.webhook_formats. 0 is no limit.
type Limits struct {
	Title int `json:"title"`
	Text  int `json:"text"`
	Rows  int `json:"rows"`
	Bytes int `json:"bytes"`
}

type templates struct {
	Title   string `json:"title"`
	Message string `json:"message"`
}

// A document is the JSON of a notification.
type document struct {
	MessageID   string            `json:"message_id"`
	IsTest      bool              `json:"is_test"`
	Title       string            `json:"title"`
	Summary     string            `json:"summary"`
	Severity    string            `json:"severity"`
	Key         string            `json:"key"`
	Path        string            `json:"path"`
	Matview     string            `json:"matview"`
	Description string            `json:"description"`
	Templates   templates         `json:"templates"`
	Event       json.RawMessage   `json:"event"`
	Events      []json.RawMessage `json:"events"`
	Also        []string          `json:"also"`
	IsResolved  bool              `json:"is_resolved"`
	Limits      Limits            `json:"limits"`
}

// Parse reads a notification, renders its templates as plain text, and makes its path a link below publicURL. Each
// of its "events" is a notification too, which has the templates of the whole.
func Parse(notification []byte, publicURL string) (Message, error) {
	return parse(notification, publicURL, nil)
}

func parse(notification []byte, publicURL string, inherited *templates) (Message, error) {
	var d document
	if err := json.Unmarshal(notification, &d); err != nil {
		return Message{}, fmt.Errorf("read a notification: %w", err)
	}
	m := Message{
		ID:          d.MessageID,
		Title:       oneLine(d.Title),
		Text:        d.Summary,
		Severity:    d.Severity,
		Key:         d.Key,
		Link:        link(publicURL, d.Path),
		Matview:     d.Matview,
		Description: d.Description,
		Also:        d.Also,
		IsTest:      d.IsTest,
		IsResolved:  d.IsResolved,
		Limits:      d.Limits,
		templates:   d.Templates,
		context:     d,
	}
	if inherited != nil {
		m.templates = *inherited
	}
	if len(d.Event) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(d.Event))
		decoder.UseNumber()
		if err := decoder.Decode(&m.Event); err != nil {
			return Message{}, fmt.Errorf("read an event: %w", err)
		}
		var e event
		if err := json.Unmarshal(d.Event, &e); err != nil {
			return Message{}, fmt.Errorf("read the rows of an event: %w", err)
		}
		m.Columns, m.Rows, m.MoreRows = e.table()
	}
	for _, part := range d.Events {
		p, err := parse(part, publicURL, &m.templates)
		if err != nil {
			return Message{}, err
		}
		m.Parts = append(m.Parts, p)
	}
	if len(m.Parts) > 0 {
		// The templates are for one event.
		m.templates = templates{}
	}
	title, text, err := m.Render(func(value string) string { return value })
	if err != nil {
		m.Note = "the default text was sent, because of " + err.Error()
		return m, nil
	}
	m.HasTemplate = m.templates.Message != ""
	m.Title, m.Text = title, text
	return m, nil
}

// link is where the path leads below the public URL; empty without one.
func link(publicURL, path string) string {
	target, err := url.Parse(strings.TrimRight(publicURL, "/") + path)
	if publicURL == "" || !strings.HasPrefix(path, "/") || err != nil {
		return ""
	}
	return target.String()
}

// oneLine replaces what would begin another line, or another header, by a space.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, isControlOrSpace), " ")
}
