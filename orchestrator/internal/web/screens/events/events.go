// Package events is the screen of events: the newest ones as they arrive, and each one by itself.
package events

import (
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

//go:embed static templates
var files embed.FS

// shownEvents is how many events a page shows.
const shownEvents = 20

type screen struct {
	site   *kit.Site
	events *parts.Events
	// arrivals gives the ids of events that notify; 0 says that some may have been missed.
	arrivals  func() (ids <-chan int64, cancel func())
	heartbeat time.Duration
	streams   *kit.ClientSlots
}

// New returns the screen. heartbeat is how often an idle stream sends a sign of life.
func New(site *kit.Site, events *parts.Events, arrivals func() (<-chan int64, func()), heartbeat time.Duration) kit.Screen {
	s := &screen{
		site: site, events: events, arrivals: arrivals, heartbeat: heartbeat,
		streams: kit.NewClientSlots("event streams of yours", maxStreams, streamPatience),
	}
	pages := site.Load(files, parts.Files)
	return kit.Screen{
		Name: "Events",
		Path: "/events",
		Routes: map[string]http.HandlerFunc{
			"GET /events":        kit.ByAccept(pages.Show("list.html", s.readList), s.listEvents),
			"GET /events/{id}":   kit.ByAccept(pages.Show("event.html", s.readOne), s.showEvent),
			"GET /events/stream": s.streamEvents,
		},
	}
}

// A filter selects the events of a list: those of one view, of one outcome, older than one event; or all.
type filter struct {
	Matview, Outcome string
	before           int64
}

func filterOf(values url.Values) filter {
	before, _ := strconv.ParseInt(values.Get("before"), 10, 64)
	return filter{Matview: values.Get("of"), Outcome: values.Get("outcome"), before: before}
}

// A list is what the page of the newest events shows, or of those before one.
type list struct {
	filter
	Outcomes []string
	Events   []parts.Event
	HasMore  bool
}

// IsFiltered means that there may be other events.
func (l list) IsFiltered() bool { return l.Matview != "" || l.Outcome != "" || l.before != 0 }

// Stream is the URL of the events as they arrive; empty for a page of older events, which does not change.
func (l list) Stream() string {
	if l.before != 0 {
		return ""
	}
	return "/events/stream?" + l.query(0)
}

// Older is the URL of the events before those on the page; empty for none.
func (l list) Older() string {
	if !l.HasMore {
		return ""
	}
	return "/events?" + l.query(l.Events[len(l.Events)-1].ID)
}

func (l list) query(before int64) string {
	values := url.Values{"of": {l.Matview}, "outcome": {l.Outcome}}
	if before != 0 {
		values.Set("before", strconv.FormatInt(before, 10))
	}
	return values.Encode()
}

func (s *screen) readList(r *http.Request, page *kit.Page) error {
	page.Title = "Events"
	shown := &list{
		filter:   filterOf(r.URL.Query()),
		Outcomes: []string{"refreshed", "failed", "recovered", "late", "silent", "resumed", "dropped"},
	}
	if shown.Matview != "" {
		// Events have the name with its schema; a dropped view is known by that only.
		err := s.site.DB(r.Context()).QueryRowContext(r.Context(),
			"select tinydevcrm._matview_key($1)", shown.Matview).Scan(&shown.Matview)
		if err != nil {
			return fmt.Errorf("find a view by its name: %w", err)
		}
	}
	found, err := s.events.ReadForPage(r.Context(), parts.Latest, 0, shownEvents+1, shown.Matview, shown.Outcome, shown.before)
	if err != nil {
		return err
	}
	shown.HasMore = len(found) > shownEvents
	shown.Events = found[:min(len(found), shownEvents)]
	page.Shown = shown
	return nil
}

// listEvents answers a program.
func (s *screen) listEvents(w http.ResponseWriter, r *http.Request) {
	filter := filterOf(r.URL.Query())
	messages, err := s.events.ReadInTime(r.Context(), parts.Latest, 0, shownEvents, filter.Matview, filter.Outcome, filter.before)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	events := make([]json.RawMessage, len(messages))
	for i, message := range messages {
		events[i] = message.Data
	}
	s.site.WriteJSON(w, r, http.StatusOK, events)
}

// readOne reads the event of an address.
func (s *screen) readOne(r *http.Request, page *kit.Page) error {
	page.Title = "Event " + r.PathValue("id")
	page.Crumbs = []kit.Link{{Name: "Events", URL: "/events"}}
	id, err := idOf(r)
	if err != nil {
		return err
	}
	found, err := s.events.ReadForPage(r.Context(), parts.Numbered, pq.Array([]int64{id}))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return noEvent(id)
	}
	shown := &one{Event: found[0]}
	page.Shown = shown
	err = s.site.DB(r.Context()).QueryRowContext(r.Context(), `
		select coalesce(previous, 0), coalesce(next, 0)
		  from tinydevcrm._find_neighbours($1)`, id).Scan(&shown.Previous, &shown.Next)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("find the events beside event %d: %w", id, err)
	}
	shown.Deliveries, err = db.Collect(r.Context(), s.site.DB(r.Context()), "list the deliveries of an event", (*delivery).fields, `
		select subscription, status, attempts, coalesce(last_error, ''), acknowledged_at
		  from tinydevcrm._list_event_deliveries($1)`, id)
	return err
}

// one is what the page of an event shows.
type one struct {
	parts.Event
	// Previous and Next are the events of the same view that notified before and after it; 0 for none.
	Previous, Next int64
	Deliveries     []delivery
}

// A delivery is a row of tinydevcrm._list_event_deliveries().
type delivery struct {
	Subscription, Status string
	Attempts             int
	LastError            string
	AcknowledgedAt       sql.NullTime
}

func (d *delivery) fields() []any {
	return []any{&d.Subscription, &d.Status, &d.Attempts, &d.LastError, &d.AcknowledgedAt}
}

// showEvent answers a program.
func (s *screen) showEvent(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	found, err := s.events.ReadInTime(r.Context(), parts.Numbered, pq.Array([]int64{id}))
	if err == nil && len(found) == 0 {
		err = noEvent(id)
	}
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	s.site.WriteJSON(w, r, http.StatusOK, found[0].Data)
}

func idOf(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, &db.UserError{
			Status:  http.StatusNotFound,
			Message: fmt.Sprintf("%q is not the number of an event", r.PathValue("id")),
		}
	}
	return id, nil
}

func noEvent(id int64) error {
	return &db.UserError{
		Status:  http.StatusNotFound,
		Message: fmt.Sprintf("there is no event %d that you may see", id),
		Hint:    "Old events are removed: see the retention in tinydevcrm.settings.",
	}
}

// None is an empty event, from which the page's script makes those that arrive.
func (l list) None() parts.Event { return parts.Event{} }
