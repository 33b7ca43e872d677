package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// An orderly receiver records per view which events it accepted, in which order.
type orderly struct {
	// answersAfter is how long it takes to answer, as a network does.
	answersAfter time.Duration
	// isDown says that it closes connections instead of answering.
	isDown atomic.Bool
	// refuses says whether it answers 500, by event and attempt; nil for never.
	refuses func(id int64, attempt int) bool

	mu       sync.Mutex
	order    map[string][]int64
	attempts map[int64]int
	requests int
	first    time.Time
	last     time.Time
}

func newOrderly(t *testing.T, answersAfter time.Duration) (*orderly, string) {
	o := &orderly{answersAfter: answersAfter, order: make(map[string][]int64), attempts: make(map[int64]int)}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	return o, server.URL
}

func (o *orderly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		// The sender was killed.
		return
	}
	var message struct {
		Data struct {
			ID      int64  `json:"id"`
			Matview string `json:"matview"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		panic(err)
	}
	time.Sleep(o.answersAfter)
	id := message.Data.ID
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	if o.isDown.Load() {
		panic(http.ErrAbortHandler)
	}
	o.attempts[id]++
	if o.refuses != nil && o.refuses(id, o.attempts[id]) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if o.first.IsZero() {
		o.first = time.Now()
	}
	o.last = time.Now()
	o.order[message.Data.Matview] = append(o.order[message.Data.Matview], id)
	w.WriteHeader(http.StatusNoContent)
}

// checkOrder requires each view's events to be accepted in order for the first time, and count of them in all. It
// returns how often one was accepted again.
func (o *orderly) checkOrder(t *testing.T, count int) (repeats int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	accepted := 0
	for view, ids := range o.order {
		seen := make(map[int64]bool)
		var newest int64
		for _, id := range ids {
			if seen[id] {
				repeats++
				continue
			}
			if id < newest {
				t.Errorf("of %s, event %d is accepted after %d", view, id, newest)
			}
			newest = id
			seen[id] = true
		}
		accepted += len(seen)
	}
	if accepted != count {
		t.Errorf("%d events are accepted, want %d", accepted, count)
	}
	return repeats
}

func (o *orderly) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests
}

// fillBacklog writes many events of each view.
func fillBacklog(t *testing.T, pool *sql.DB, each int) {
	t.Helper()
	dbtest.Exec(t, pool, "alter table tinydevcrm.matview_refresh_events disable trigger _500_remember")
	dbtest.Exec(t, pool, `
		insert into tinydevcrm.matview_refresh_events
		       (owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
		select owner, id, 'public.' || relation, 'refreshed', true, 'plain', 1, clock_timestamp(), '0 s'
		  from generate_series(1, $1), tinydevcrm.matviews
		 where relation::text like 'v_%'`, each)
}

const pendingDeliveries = "select count(*) from tinydevcrm.deliveries where acknowledged_at is null"

func TestABacklogIsDeliveredWhenItsEndpointIsBack(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	// Its answers take long enough for the processors not to be what limits the rate, also in a run of all tests.
	checkOutage(t, 20, 50, 20*time.Second, 20*time.Millisecond, 0.7)
}

// checkOutage has an endpoint down for a while, with many pending deliveries of several views: few posts, few lines,
// no attempts lost. Then everything is delivered, in order per view, at a share of the rate of a bare client.
func checkOutage(t *testing.T, views, each int, lasts, answersAfter time.Duration, share float64) {
	t.Helper()
	const perEndpoint, failures, lines = 4, 5, 50
	pool, server := newServer(t)
	createViews(t, pool, views)
	o, url := newOrderly(t, answersAfter)
	o.isDown.Store(true)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set webhook_probe_pause = '1 second'")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', $1)", dbtest.ByName(url))
	fillBacklog(t, pool, each)
	stdout, stderr := background(t, server.URL, upWithWebhooks...)

	time.Sleep(lasts)
	// A probe a second at most, and as many failures as make the endpoint count as down.
	most := failures + perEndpoint + int(lasts.Seconds())
	if posts := o.count(); posts < failures || posts > most {
		t.Errorf("%d posts while it was down, want %d to %d", posts, failures, most)
	}
	if lost := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where attempts > 2 or parked_at is not null"); lost > 0 {
		t.Errorf("%d deliveries have lost more than two attempts", lost)
	}
	if tried := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where attempts > 0"); tried > views {
		t.Errorf("%d deliveries were tried of %d views", tried, views)
	}
	if !dbtest.Value[bool](t, pool, "select status = 'failing' and next_attempt_at < now() + '2 s' from tinydevcrm.subscription_status where subscription = 'w'") {
		t.Error("the status does not show the failure and the next attempt")
	}

	count := views * each
	o.isDown.Store(false)
	dbtest.Eventually(t, dbtest.Deadline+time.Duration(count)*answersAfter, "all is delivered", func() bool {
		return dbtest.Value[int](t, pool, pendingDeliveries) == 0
	})
	if repeats := o.checkOrder(t, count); repeats > 0 {
		t.Errorf("%d events were accepted twice", repeats)
	}
	took := o.last.Sub(o.first)
	rate := bareRate(t, url, perEndpoint, count) / (float64(count) / took.Seconds())
	t.Logf("fault: an endpoint is down for %s with %d deliveries: delivered in %s, %.2f times the rate of a bare client, %d lines",
		lasts, count, took.Round(time.Millisecond), 1/rate, strings.Count(stdout.String()+stderr.String(), "\n"))
	if 1/rate < share {
		t.Errorf("%.2f times the rate of a bare client, want %.2f", 1/rate, share)
	}
	if got := strings.Count(stdout.String()+stderr.String(), "\n"); got >= lines {
		t.Errorf("%d lines in the log, want fewer than %d:\n%s", got, lines, stderr)
	}
	for _, want := range []string{"webhook endpoint is down", "webhook endpoint is back", "webhook backlog is delivered"} {
		if got := strings.Count(stderr.String(), want); got != 1 {
			t.Errorf("%d lines say %q, want one:\n%s", got, want, stderr)
		}
	}
}

// bareRate is how many posts a second a bare client makes, of the same size.
func bareRate(t *testing.T, url string, parallel, count int) float64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}
	defer client.CloseIdleConnections()
	body := []byte(`{"data": {"id": 1, "matview": "bare", "filler": "` + strings.Repeat("x", 450) + `"}}`)
	var group sync.WaitGroup
	start := time.Now()
	for range parallel {
		group.Go(func() {
			for range count / parallel {
				response, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		})
	}
	group.Wait()
	return float64(count) / time.Since(start).Seconds()
}

// An event that is refused is not overtaken by later ones of its view, also with two programs; other views go on.
func TestTwoOrchestratorsKeepTheOrderOfEachView(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	const views, each = 8, 20
	pool, server := newServer(t)
	createViews(t, pool, views)
	o, url := newOrderly(t, 5*time.Millisecond)
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('w', $1)", dbtest.ByName(url))
	fillBacklog(t, pool, each)
	// An event in the middle of the first view is refused twice, so for at least ten seconds.
	bad := dbtest.Value[int64](t, pool, `
		select id
		  from tinydevcrm.matview_refresh_events
		 where matview = 'public.v1'
		 order by id
		offset 10
		 limit 1`)
	o.refuses = func(id int64, attempt int) bool { return id == bad && attempt <= 2 }
	background(t, server.URL, upWithWebhooks...)
	background(t, server.URL, upWithWebhooks...)

	dbtest.Eventually(t, 10*time.Second, "the other views do not wait", func() bool {
		return dbtest.Value[int](t, pool, pendingDeliveries) == each-10
	})
	if got := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null and attempts > 0"); got != 1 {
		t.Errorf("%d deliveries have an attempt, want that of the refused one only", got)
	}
	dbtest.Eventually(t, 2*dbtest.Deadline, "all is delivered", func() bool {
		return dbtest.Value[int](t, pool, pendingDeliveries) == 0
	})
	if repeats := o.checkOrder(t, views*each); repeats > 0 {
		t.Errorf("%d events were accepted twice", repeats)
	}
}

func TestRetrySubscriptionCommand(t *testing.T) {
	t.Parallel()
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('s')")
	refresh(t, pool)
	dbtest.Exec(t, pool, "select tinydevcrm.reject_event(delivery_id, 'no', '1 hour') from tinydevcrm.receive_events('s')")
	next := dbtest.Value[time.Time](t, pool, "select next_attempt_at from tinydevcrm.subscription_status")
	if list, want := mustCommand(t, server.URL, "subscription", "list"), next.Format("15:04"); !strings.Contains(list, want) {
		t.Errorf("the list lacks the next attempt at %s:\n%s", want, list)
	}
	if got, want := mustCommand(t, server.URL, "subscription", "retry", "s"), fmt.Sprintf("deliveries of %q that are tried again now: 1\n", "s"); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if got := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.receive_events('s')"); got != 1 {
		t.Errorf("%d deliveries are received, want 1", got)
	}
}
