package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/lib/pq"
)

const (
	// shownEvents are as many as a page shows that comes for the first time.
	shownEvents = 20
	// missedEvents are as many as one gets that comes back; what is older it finds in the log.
	missedEvents = 5000
	// sessionLasts bounds a stream where users log in.
	sessionLasts = 5 * time.Minute
	// idMargin is how far before the last id sent a client that comes back begins again: ids are handed
	// out before commit, so that smaller ones may come late. It drops what it has.
	idMargin = 1000
)

// A filter is which events a feed shows: those of one view, of one outcome, older than one; or all.
type filter struct {
	matview, outcome string
	before           int64
}

func filterOf(values url.Values) filter {
	before, _ := strconv.ParseInt(values.Get("before"), 10, 64)
	return filter{matview: values.Get("of"), outcome: values.Get("outcome"), before: before}
}

// fillEvents reads the newest events, or those before one.
func (s *server) fillEvents(ctx context.Context, shown *page) error {
	filter := filterOf(shown.Chosen)
	filter.before = shown.Before
	if filter.matview != "" {
		// Events have the name with its schema; a dropped view is known by that only.
		err := s.pool(ctx).QueryRowContext(ctx, `
			select coalesce(
			           (
			               select format('%I.%I', nspname, relname)
			                 from tinydevcrm.matviews
			                 join pg_catalog.pg_class
			                   on pg_class.oid = matviews.relation
			                 join pg_catalog.pg_namespace
			                   on pg_namespace.oid = pg_class.relnamespace
			                where matviews.relation::text = $1
			                limit 1
			           ),
			           $1)`, filter.matview).Scan(&filter.matview)
		if err != nil {
			return fmt.Errorf("find a view by its name: %w", err)
		}
		shown.Chosen.Set("of", filter.matview)
	}
	events, err := s.readPageEvents(ctx, latestEvents, 0, shownEvents+1,
		filter.matview, filter.outcome, filter.before)
	if err != nil {
		return err
	}
	shown.HasMore.Events = len(events) > shownEvents
	shown.Events = events[:min(len(events), shownEvents)]
	return nil
}

func (s *server) listEvents(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := timeoutOf(r)
	defer cancel()

	filter := filterOf(r.URL.Query())
	messages, err := s.readEvents(ctx, latestEvents, 0, shownEvents, filter.matview, filter.outcome, filter.before)
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	events := make([]json.RawMessage, len(messages))
	for i, message := range messages {
		events[i] = message.data
	}
	s.writeJSON(w, r, http.StatusOK, events)
}

// streamEvents sends the recent events, and from then on each one as it is notified, until the
// client goes or the program ends.
func (s *server) streamEvents(w http.ResponseWriter, r *http.Request) {
	stream := eventStream{
		writer:  w,
		control: http.NewResponseController(w),
		filter:  filterOf(r.URL.Query()),
	}
	if release := s.session(r.Context()).release; release != nil {
		// An open page is no active user. It comes back by itself, and logs in again.
		release()
		ctx, cancel := context.WithTimeout(r.Context(), sessionLasts)
		defer cancel()
		r = r.WithContext(ctx)
	}

	// Listens first, reads then: what comes in between comes twice rather than not at all.
	ids, cancel := s.Events()
	defer cancel()

	// A page says from which event on it needs them, and by itself the browser what it has when it comes back.
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	lastID, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	limit := missedEvents
	if lastID == 0 && !r.URL.Query().Has("after") {
		limit = shownEvents
	}
	after = max(after, lastID-idMargin)
	messages, err := s.readEventsInTime(r.Context(), latestEvents, after, limit,
		stream.filter.matview, stream.filter.outcome, 0)
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}

	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no")
	if err := stream.send("retry: 2000\n\n", messages); err != nil {
		return
	}
	s.followEvents(r.Context(), &stream, ids, greatestID(messages, 0))
}

func (s *server) followEvents(ctx context.Context, stream *eventStream, ids <-chan int64, lastID int64) {
	quiet := time.NewTicker(s.heartbeat)
	defer quiet.Stop()

	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			err = stream.send(": still here\n\n", nil)
		case id, isOpen := <-ids:
			if !isOpen {
				return
			}
			lastID, err = s.forward(ctx, stream, takeAll(ids, id), lastID)
			quiet.Reset(s.heartbeat)
		}
		if err != nil {
			// The client comes back by itself, and then gets what it lacks.
			if ctx.Err() == nil {
				s.Logger.WarnContext(ctx, "event stream broke off", "error", err)
			}
			return
		}
	}
}

// takeAll adds to an id those that wait behind it, so that a burst is one query.
func takeAll(ids <-chan int64, first int64) []int64 {
	all := []int64{first}
	for len(all) < 1000 {
		select {
		case id, isOpen := <-ids:
			if !isOpen {
				return all
			}
			all = append(all, id)
		default:
			return all
		}
	}
	return all
}

// forward sends the events of these ids, and when some may have been missed all those from a little
// before the last one sent. It returns the greatest id that it has sent.
func (s *server) forward(ctx context.Context, stream *eventStream, ids []int64, lastID int64) (int64, error) {
	messages, err := s.readEventsInTime(ctx, toldEvents, pq.Array(ids), stream.filter.matview, stream.filter.outcome)
	if err != nil {
		return lastID, err
	}
	if slices.Contains(ids, 0) {
		recent, err := s.readEventsInTime(ctx, latestEvents, max(0, lastID-idMargin), missedEvents,
			stream.filter.matview, stream.filter.outcome, 0)
		if err != nil {
			return lastID, err
		}
		messages = append(messages, recent...)
	}
	return greatestID(messages, lastID), stream.send("", messages)
}

func greatestID(messages []message, lastID int64) int64 {
	for _, message := range messages {
		lastID = max(lastID, message.id)
	}
	return lastID
}

// An eventStream writes server-sent events.
type eventStream struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	filter  filter
}

// send writes a text and then messages, which are newest first, in the order in which they happened.
func (s *eventStream) send(text string, messages []message) error {
	body := bytes.NewBufferString(text)
	for _, message := range slices.Backward(messages) {
		fmt.Fprintf(body, "id: %d\nevent: refresh\ndata: %s\n\n", message.id, message.data)
	}
	if body.Len() == 0 {
		return nil
	}

	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.writer.Write(body.Bytes()); err != nil {
		return fmt.Errorf("write to the event stream: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("flush the event stream: %w", err)
	}
	return nil
}
