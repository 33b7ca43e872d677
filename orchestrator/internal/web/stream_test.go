package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// A stream reads server-sent events, and ends with its test.
type stream struct {
	t     *testing.T
	lines chan string
	end   func()
}

func openStream(t *testing.T, serverURL, lastID string) *stream {
	t.Helper()
	return openStreamAt(t, serverURL+"/events/stream", lastID)
}

func openStreamAt(t *testing.T, address, lastID string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	request, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("status %d, type %q", answer.StatusCode, got)
	}

	s := &stream{t: t, lines: make(chan string, 10_000)}
	go func() {
		defer close(s.lines)
		defer answer.Body.Close()
		for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	s.end = func() {
		cancel()
		for range s.lines {
		}
	}
	t.Cleanup(s.end)
	return s
}

// next returns the data of the next event, and checks that its lines belong together.
func (s *stream) next() (id int64, data string) {
	s.t.Helper()
	for line := range s.lines {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "id":
			id, _ = strconv.ParseInt(value, 10, 64)
		case "event":
			if value != "refresh" {
				s.t.Errorf("an event called %q", value)
			}
		case "data":
			var event struct{ ID int64 }
			if err := json.Unmarshal([]byte(value), &event); err != nil || event.ID != id {
				s.t.Errorf("event %d has the data %s", id, value)
			}
			return id, value
		}
	}
	s.t.Fatal("the stream ended")
	return 0, ""
}

// waitFor reads until an event arrives.
func (s *stream) waitFor(wanted int64) string {
	s.t.Helper()
	for {
		if id, data := s.next(); id == wanted {
			return data
		}
	}
}

func (f *fixture) refresh(relation string) int64 {
	f.t.Helper()
	return f.number("select id from tinydevcrm.refresh_matview($1::text::regclass)", relation)
}

func TestStream(t *testing.T) {
	f := newFixture(t)
	f.exec(`select tinydevcrm.create_matview('v', $$select e'two\nlines' as text, 9007199254740993 as big$$)`)
	f.exec(`select tinydevcrm.create_matview('quiet', 'select 1', 'never')`)

	before := f.refresh("v")
	first := openStream(t, f.server.URL, "")
	data := first.waitFor(before)
	if !strings.Contains(data, `[{"text": "two\nlines", "big": 9007199254740993}]`) {
		t.Errorf("the event lacks its rows: %s", data)
	}

	second := openStream(t, f.server.URL, "")
	second.waitFor(before)
	f.refresh("quiet")
	live := f.refresh("v")
	for _, stream := range []*stream{first, second} {
		id, _ := stream.next()
		if id != live {
			t.Errorf("got event %d, want %d and no event that is not notified", id, live)
		}
	}

	// Many at once, in their order.
	var last int64
	for range 60 {
		last = f.refresh("v")
	}
	previous := live
	for previous != last {
		id, _ := first.next()
		if id <= previous {
			t.Fatalf("event %d came after %d", id, previous)
		}
		previous = id
	}
}

// A stream has each event once, whatever ids are notified, and however often. It also has an event whose
// notification was lost, once a later one says that some may have been missed.
func TestStreamSendsEventsOnce(t *testing.T) {
	const flood = 300
	f := newFixture(t)
	f.exec(`select tinydevcrm.create_matview('v', 'select 1 as n')`)
	old := f.refresh("v")
	stream := openStream(t, f.server.URL, "")
	stream.waitFor(old)

	lost := f.number(`
		with silent as (select set_config('session_replication_role', 'replica', true)),
		made as (
		    insert into tinydevcrm.matview_refresh_events
		           (owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
		    select owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration
		      from tinydevcrm.matview_refresh_events, silent
		     where id = $1
		    returning id)
		select id from made`, old)
	for range flood {
		f.events.send(0)
		f.events.send(old)
		f.events.send(old - 5000)
	}
	last := f.refresh("v")
	var came []int64
	for id := int64(0); id != last; came = append(came, id) {
		id, _ = stream.next()
	}
	// The query for missed events may come after the last event.
	if !slices.Contains(came, lost) {
		id, _ := stream.next()
		came = append(came, id)
	}
	slices.Sort(came)
	if !slices.Equal(came, []int64{lost, last}) {
		t.Errorf("events %v came, want %d and %d once each", came, lost, last)
	}
}

func TestStreamResumes(t *testing.T) {
	f := newFixture(t)
	f.exec(`select tinydevcrm.create_matview('v', 'select 1 as n')`)
	for range 60 {
		f.refresh("v")
	}
	last := f.refresh("v")

	tests := []struct {
		name   string
		lastID string
		// after is what the page sends.
		after string
		// wanted are the events before the last one. Its notification may still be on its way.
		wanted int
	}{
		{"at the beginning", "", "", 19},
		{"a page without events, that was away", "", "?after=0", 61},
		{"a page that knows from where on", "", fmt.Sprintf("?after=%d", last-10), 11},
		{"and was cut off", fmt.Sprint(last - 5), fmt.Sprintf("?after=%d", last-10), 12},
		{"after a while: all that came since, and what is close", fmt.Sprint(last - 10), "", 64},
		{"not from this database", fmt.Sprint(last + 100_000), "", 0},
		{"with nonsense", "x", "", 19},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stream := openStreamAt(t, f.server.URL+"/events/stream"+test.after, test.lastID)
			// The last event is notified after all others. It ends what the stream sends by itself.
			end := f.refresh("v")
			// By id, because an event that has just been notified may come twice.
			came := map[int64]bool{}
			for id, _ := stream.next(); id != end; id, _ = stream.next() {
				came[id] = true
			}
			delete(came, last)
			if len(came) != test.wanted {
				t.Errorf("%d events come first, want %d", len(came), test.wanted)
			}
			last = end
		})
	}
}

func TestStreamHeartbeat(t *testing.T) {
	f := newFixture(t)
	stream := openStream(t, f.server.URL, "")
	for line := range stream.lines {
		if strings.HasPrefix(line, ":") {
			return
		}
	}
	t.Fatal("the stream ended without a sign of life")
}

// When the program ends, it cancels the requests' contexts. The stream must then end at once and unsubscribe.
func TestStreamEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	base, stop := context.WithCancel(t.Context())
	handler := web.Handler(f.config())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(base, cancel)()
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	defer server.Close()

	stream := openStream(t, server.URL, "")
	<-stream.lines
	if count := f.events.count(); count != 1 {
		t.Fatalf("%d subscribers, want 1", count)
	}
	stop()
	for range stream.lines {
	}
	server.Close()
	if count := f.events.count(); count != 0 {
		t.Errorf("%d subscribers are left", count)
	}
}
