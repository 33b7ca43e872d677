package web

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// An event is a row of tinydevcrm.matview_refresh_events, as tinydevcrm.event_json() gives it.
type event struct {
	ID           int64  `json:"id"`
	Outcome      string `json:"outcome"`
	SuppressedBy string `json:"suppressed_by"`
	Matview      string `json:"matview"`
	RowCount     *int64 `json:"row_count"`
	AddedCount   *int64 `json:"added_count"`
	RemovedCount *int64 `json:"removed_count"`
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

// A changedRow is a row that the event shows as added, removed, old or new.
type changedRow struct {
	How string
	Row map[string]json.RawMessage
}

// Changes returns the changed rows in the order in which the page shows them, as feed.js does.
func (e event) Changes() []changedRow {
	var changes []changedRow
	for _, pair := range e.Updated {
		changes = append(changes, changedRow{"old", pair.Old}, changedRow{"new", pair.New})
	}
	for _, row := range e.Added {
		changes = append(changes, changedRow{"added", row})
	}
	for _, row := range e.Removed {
		changes = append(changes, changedRow{"removed", row})
	}
	return changes
}

// latestEvents returns the latest notified events that a reader may see, newest first: those with an id above
// the second parameter, as many as the third says, of one view and one outcome if these are given.
const latestEvents = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._list_latest_events(
	           nullif($1, ''), $2, $3, nullif($4, ''), nullif($5, ''), nullif($6, 0)) as events`

// numberedEvents returns the events with these ids that a reader may see. notifiedEvents returns those of them
// that are notified, of one view and one outcome if these are given.
const (
	numberedEvents = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._list_events_by_id(nullif($1, ''), $2) as events`
	notifiedEvents = `
	select events.id,
	       tinydevcrm.event_json(events)
	  from tinydevcrm._list_events_by_id(
	           nullif($1, ''), $2, nullif($3, ''), nullif($4, ''), true) as events`
)

// unsentEvents are latestEvents without the ids in the seventh parameter.
const unsentEvents = latestEvents + `
	 where events.id <> all ($7)`

// A message is an event for the stream: its id, and its JSON on one line.
type message struct {
	id   int64
	data json.RawMessage
}

// maxEventBytes bounds what is read at once. The newest events come first; the last one may exceed the limit.
const maxEventBytes = 4 << 20

// readEvents reads, for the user who asks, with the orchestrator's own pool, so that open pages hold no
// connections.
func (s *server) readEvents(ctx context.Context, query string, arguments ...any) ([]message, error) {
	user := s.session(ctx).user
	if user != "" {
		release, err := s.reads.take(ctx, user)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	rows, err := s.Pool.QueryContext(ctx, query, append([]any{user}, arguments...)...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()

	messages := []message{}
	for bytes := 0; bytes < maxEventBytes && rows.Next(); {
		var next message
		if err := rows.Scan(&next.id, &next.data); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		messages = append(messages, next)
		bytes += len(next.data)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return messages, nil
}

func (s *server) readEventsInTime(ctx context.Context, query string, arguments ...any) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.readEvents(ctx, query, arguments...)
}

func (s *server) readPageEvents(ctx context.Context, query string, arguments ...any) ([]event, error) {
	messages, err := s.readEventsInTime(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	events := make([]event, len(messages))
	for i, message := range messages {
		if err := json.Unmarshal(message.data, &events[i]); err != nil {
			// Postgres nests JSON more deeply than Go reads it. Such an event does not hide the others.
			events[i] = event{ID: message.id, ErrorMessage: "This event cannot be shown: " + err.Error()}
		}
	}
	return events, nil
}
