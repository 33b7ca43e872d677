// Package parts are what several screens show: events, charts, rows.
package parts

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// Files are the templates of the parts.
//
//go:embed templates
var Files embed.FS

const (
	// maxReads is how many reads of events each user has at once. Further ones wait readPatience.
	maxReads     = 2
	readPatience = 3 * time.Second
)

// An Event is a row of tinydevcrm.matview_refresh_events, as tinydevcrm.event_json() gives it.
type Event struct {
	ID           int64  `json:"id"`
	Outcome      string `json:"outcome"`
	IsNotified   bool   `json:"is_notified"`
	SuppressedBy string `json:"suppressed_by"`
	Matview      string `json:"matview"`
	Method       string `json:"method"`
	PlainReason  string `json:"plain_reason"`
	RowCount     *int64 `json:"row_count"`
	AddedCount   *int64 `json:"added_count"`
	RemovedCount *int64 `json:"removed_count"`
	UpdatedCount *int64 `json:"updated_count"`
	// Columns are those of the Rows and of the changed rows, in the view's order.
	Columns      []string  `json:"columns"`
	Rows         rowList   `json:"rows"`
	Added        rowList   `json:"added"`
	Removed      rowList   `json:"removed"`
	Updated      pairList  `json:"updated"`
	ErrorCode    string    `json:"error_code"`
	ErrorMessage string    `json:"error_message"`
	Reason       string    `json:"reason"`
	StartedAt    time.Time `json:"started_at"`
	DurationMS   float64   `json:"duration_ms"`
}

// URL is the page of its view or source.
func (e Event) URL() string {
	if name, isOfSource := strings.CutPrefix(e.Matview, "source "); isOfSource {
		return kit.Path("sources", name)
	}
	return kit.Path("views", e.Matview)
}

// IsOfSource means that it is about a source, and not about a view.
func (e Event) IsOfSource() bool { return strings.HasPrefix(e.Matview, "source ") }

// A rowList holds the rows of an event. Users can write events of their own views: an event with anything else
// shows no rows.
type rowList []map[string]json.RawMessage

func (l *rowList) UnmarshalJSON(data []byte) error {
	var rows []map[string]json.RawMessage
	if err := json.Unmarshal(data, &rows); err == nil {
		*l = rows
	}
	return nil
}

// A pairList holds the updated rows of an event, or none, as a rowList does.
type pairList []struct {
	Old, New map[string]json.RawMessage
}

func (l *pairList) UnmarshalJSON(data []byte) error {
	var pairs []struct {
		Old, New map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &pairs); err == nil {
		*l = pairs
	}
	return nil
}

// A Line is a row of an event as cells. How is added, removed, old or new for a changed row.
type Line struct {
	How   string
	Cells []kit.Cell
}

// Changes returns the changed rows in the order in which the page shows them, as events.js does.
func (e Event) Changes() []Line {
	var changes []Line
	add := func(how string, row map[string]json.RawMessage) {
		changes = append(changes, Line{How: how, Cells: rowCells(row, e.Columns)})
	}
	for _, pair := range e.Updated {
		add("old", pair.Old)
		add("new", pair.New)
	}
	for _, row := range e.Added {
		add("added", row)
	}
	for _, row := range e.Removed {
		add("removed", row)
	}
	return changes
}

// Lines returns the rows of an event that has no changed rows.
func (e Event) Lines() []Line {
	var lines []Line
	for _, row := range e.Rows {
		lines = append(lines, Line{Cells: rowCells(row, e.Columns)})
	}
	return lines
}

// rowCells returns the values of one row of an event: text without its quotes, the rest as JSON.
func rowCells(row map[string]json.RawMessage, names []string) []kit.Cell {
	cells := make([]kit.Cell, len(names))
	for i, name := range names {
		value := row[name]
		var text string
		switch {
		case len(value) == 0 || string(value) == "null":
			cells[i].IsNull = true
		case json.Unmarshal(value, &text) == nil:
			cells[i].Text = kit.Shorten(text)
		default:
			var compact bytes.Buffer
			_ = json.Compact(&compact, value) // jsonb is valid JSON
			cells[i].Text = kit.Shorten(compact.String())
			cells[i].IsNumber = value[0] == '-' || value[0] >= '0' && value[0] <= '9'
		}
	}
	return cells
}

// Latest returns the latest notified events that a reader may see, newest first: those with an id above
// the second parameter, as many as the third says, of one view and one outcome if these are given.
const Latest = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._list_latest_events(
	           nullif($1, ''), $2, $3, nullif($4, ''), nullif($5, ''), nullif($6, 0)) as events`

// Numbered returns the events with these ids that a reader may see. Notified returns those of them
// that are notified, of one view and one outcome if these are given.
const (
	Numbered = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._list_events_by_id(nullif($1, ''), $2) as events`
	Notified = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._list_events_by_id(
	           nullif($1, ''), $2, nullif($3, ''), nullif($4, ''), true) as events`
)

// Unsent are Latest without the ids in the seventh parameter.
const Unsent = Latest + `
	 where events.id <> all ($7)`

// Events are read with the orchestrator's own pool, so that open pages hold no connections.
type Events struct {
	site *kit.Site
	// reads bound what each user reads at once, on the pool that all users share.
	reads *kit.ClientSlots
}

// NewEvents returns the reader of events.
func NewEvents(site *kit.Site) *Events {
	return &Events{site: site, reads: kit.NewClientSlots("reads of your events", maxReads, readPatience)}
}

// A Message is an event for the stream: its id, and its JSON on one line.
type Message struct {
	ID   int64
	Data json.RawMessage
}

// maxEventBytes bounds what is read at once. The newest events come first; the last one may exceed the limit.
const maxEventBytes = 4 << 20

// Read reads for the user who asks.
func (e *Events) Read(ctx context.Context, query string, arguments ...any) ([]Message, error) {
	user := e.site.Session(ctx).User
	if user != "" {
		release, err := e.reads.Take(ctx, user)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	rows, err := e.site.Pool.QueryContext(ctx, query, append([]any{user}, arguments...)...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()

	messages := []Message{}
	for bytes := 0; bytes < maxEventBytes && rows.Next(); {
		var next Message
		if err := rows.Scan(&next.ID, &next.Data); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		messages = append(messages, next)
		bytes += len(next.Data)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return messages, nil
}

// ReadInTime is Read within the time for a page.
func (e *Events) ReadInTime(ctx context.Context, query string, arguments ...any) ([]Message, error) {
	ctx, cancel := context.WithTimeout(ctx, kit.ReadTimeout)
	defer cancel()
	return e.Read(ctx, query, arguments...)
}

// ReadForPage is ReadInTime, with what a page shows of each event.
func (e *Events) ReadForPage(ctx context.Context, query string, arguments ...any) ([]Event, error) {
	messages, err := e.ReadInTime(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(messages))
	for i, message := range messages {
		if err := json.Unmarshal(message.Data, &events[i]); err != nil {
			// Postgres nests JSON more deeply than Go reads it. Such an event does not hide the others.
			events[i] = Event{ID: message.ID, ErrorMessage: "This event cannot be shown: " + err.Error()}
		}
	}
	return events, nil
}
