package events

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

const (
	// missedEvents is how many events a page gets that reconnects. Older ones are in the event table.
	missedEvents = 5000
	// maxStreams is how many event streams each user has at once. Further ones wait streamPatience.
	maxStreams     = 50
	streamPatience = 3 * time.Second
	// sessionLasts bounds a stream of a user who has logged in. lookAtRole is how often it checks that the
	// user may still log in.
	sessionLasts = 5 * time.Minute
	lookAtRole   = 5 * time.Second
	// idMargin is how far before the last sent id the stream of a reconnecting client begins: ids are assigned
	// before the commit, so smaller ones may appear later. The client drops the events that it has.
	idMargin = 1000
	// missedApart is the time between two queries for missed events.
	missedApart = time.Second
	// writeTimeout is how long a client may take to accept events.
	writeTimeout = 30 * time.Second
)

// streamEvents sends the recent events, and then each new one when it is notified, until the client leaves or
// the program ends.
func (s *screen) streamEvents(w http.ResponseWriter, r *http.Request) {
	stream := eventStream{
		sent:    make(map[int64]struct{}),
		writer:  w,
		control: http.NewResponseController(w),
		filter:  filterOf(r.URL.Query()),
	}
	if user := s.site.Session(r.Context()).User; user != "" {
		leave, err := s.streams.Take(r.Context(), user)
		if err != nil {
			s.site.WriteProblem(w, r, err)
			return
		}
		defer leave()
	}
	if release := s.site.Session(r.Context()).Release; release != nil {
		// An open page does not count as an active user. It reconnects by itself, and logs in again.
		release()
		ctx, cancel := context.WithTimeout(r.Context(), sessionLasts)
		defer cancel()
		r = r.WithContext(ctx)
	}

	var err error
	if stream.role, err = s.site.RoleOf(r.Context(), s.site.Session(r.Context()).User); err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}
	// It listens before it reads: an event of the meantime is then read twice rather than not at all.
	ids, cancel := s.arrivals()
	defer cancel()

	// A page says after which event it needs them. A browser that reconnects by itself sends the last id that
	// it has.
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	lastID, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	limit := missedEvents
	if lastID == 0 && !r.URL.Query().Has("after") {
		limit = shownEvents
	}
	after = max(after, lastID-idMargin)
	stream.after = after
	messages, err := s.events.ReadInTime(r.Context(), parts.Latest, after, limit,
		stream.filter.Matview, stream.filter.Outcome, 0)
	if err != nil {
		s.site.WriteProblem(w, r, err)
		return
	}

	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no")
	if err := stream.send("retry: 2000\n\n", messages); err != nil {
		return
	}
	stream.floor = stream.lastID - idMargin
	s.followEvents(r.Context(), &stream, ids)
}

func (s *screen) followEvents(ctx context.Context, stream *eventStream, ids <-chan int64) {
	quiet := time.NewTicker(s.heartbeat)
	defer quiet.Stop()
	looking := time.NewTicker(lookAtRole)
	defer looking.Stop()
	// Missed events are read at intervals, however often notifications ask for it.
	var lookAgain <-chan time.Time
	var lookedAt time.Time

	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			err = stream.send(": still here\n\n", nil)
		case <-looking.C:
			var role int64
			if role, err = s.site.RoleOf(ctx, s.site.Session(ctx).User); err == nil && role != stream.role {
				err = kit.ErrLocked
			}
		case <-lookAgain:
			lookAgain, lookedAt = nil, time.Now()
			err = s.forwardMissed(ctx, stream)
			quiet.Reset(s.heartbeat)
		case id, isOpen := <-ids:
			if !isOpen {
				return
			}
			all := takeAll(ids, id)
			if slices.Contains(all, 0) && lookAgain == nil {
				lookAgain = time.After(time.Until(lookedAt.Add(missedApart)))
			}
			err = s.forward(ctx, stream, all)
			quiet.Reset(s.heartbeat)
		}
		if err != nil {
			// The client reconnects by itself, and then gets what it missed.
			if ctx.Err() == nil {
				s.site.Logger.WarnContext(ctx, "event stream broke off", "error", err)
			}
			return
		}
	}
}

// takeAll adds the ids that already wait behind this one, so that a burst needs one query.
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

// forward sends the events with these ids, unless the stream has sent them.
func (s *screen) forward(ctx context.Context, stream *eventStream, ids []int64) error {
	ids = slices.DeleteFunc(ids, stream.has)
	if len(ids) == 0 {
		return nil
	}
	messages, err := s.events.ReadInTime(ctx, parts.Notified, pq.Array(ids), stream.filter.Matview, stream.filter.Outcome)
	if err != nil {
		return err
	}
	return stream.send("", messages)
}

// forwardMissed sends the unsent events, from idMargin before the last sent id; from where the client asked, when none was
// sent.
func (s *screen) forwardMissed(ctx context.Context, stream *eventStream) error {
	after := stream.after
	if stream.lastID != 0 {
		after = max(0, stream.lastID-idMargin)
	}
	messages, err := s.events.ReadInTime(ctx, parts.Unsent, after, missedEvents,
		stream.filter.Matview, stream.filter.Outcome, 0, pq.Array(stream.recent()))
	if err != nil {
		return err
	}
	return stream.send("", messages)
}
