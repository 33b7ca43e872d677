package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestReceiversThatMisbehaveDelayNobody(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	// retryAfter is longer than any delay without a Retry-After.
	const events, rotateAt, retryAfter = 10, 5, 2 * time.Minute
	pool, server := newServer(t)
	// Each event is of another view, so that none waits for another, and no endpoint counts as down.
	createViews(t, pool, events)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set webhook_failure_limit = 1000")
	healthy, secret := newWebhook(t, pool, "healthy", always(http.StatusOK))
	failing, failingSecret := newWebhook(t, pool, "failing", failTwice)
	gone, _ := newWebhook(t, pool, "gone", always(http.StatusGone))
	limited, _ := newWebhook(t, pool, "limited", withHeader(http.StatusTooManyRequests, "Retry-After", "120"))
	newWebhook(t, pool, "redirecting", withHeader(http.StatusTemporaryRedirect, "Location", "http://10.0.0.1/"))
	newWebhook(t, pool, "resetting", reset)
	newWebhook(t, pool, "hanging", hang)
	background(t, server.URL, upWithWebhooks...)

	var newSecret string
	var ids []int64
	var slowest time.Duration
	pace := time.NewTicker(2 * time.Second)
	defer pace.Stop()
	for i := range events {
		if i == rotateAt {
			newSecret = dbtest.Value[string](t, pool, "select tinydevcrm.rotate_webhook_secret('healthy')")
		}
		ids = append(ids, dbtest.Value[int64](t, pool, "select id from tinydevcrm.refresh_matview($1::text::regclass)", fmt.Sprintf("v%d", i+1)))
		start := time.Now()
		dbtest.Eventually(t, 5*time.Second, "the healthy one gets an event", func() bool {
			return healthy.accepted()[ids[i]] == 1
		})
		slowest = max(slowest, time.Since(start))
		if i == 0 {
			awaitStatus(t, pool, "gone", "switched off")
		}
		<-pace.C
	}

	t.Run("healthy", func(t *testing.T) {
		t.Logf("the slowest of %d events took %s", events, slowest.Round(time.Millisecond))
		checkSignatures(t, healthy, secret, newSecret, ids[rotateAt])
	})
	t.Run("failing", func(t *testing.T) { checkFailing(t, failing, failingSecret, ids) })
	t.Run("limited", func(t *testing.T) { checkLimited(t, pool, limited, retryAfter, ids) })
	t.Run("gone", func(t *testing.T) {
		awaitStatus(t, pool, "gone", "switched off")
		if got := gone.all(); len(got) != 1 {
			t.Errorf("it got %d requests, want none after the first", len(got))
		}
	})
	t.Run("refused", func(t *testing.T) { checkRefused(t, pool, events) })
	if _, stderr, err := command(t, server.URL, "", "status"); err == nil || !strings.Contains(stderr, "subscription gone is switched off") {
		t.Errorf("status does not mention it: %v, %s", err, stderr)
	}
}

func awaitStatus(t *testing.T, pool *sql.DB, name, want string) {
	t.Helper()
	var status string
	dbtest.Eventually(t, dbtest.Deadline, fmt.Sprintf("%s is %q", name, want), func() bool {
		status = dbtest.Value[string](t, pool,
			"select status from tinydevcrm.subscription_status where subscription = $1", name)
		return status == want
	})
}

// checkSignatures requires the old secret to sign all messages, and the new one those after an event.
func checkSignatures(t *testing.T, r *receiver, old, new string, from int64) {
	t.Helper()
	r.checkIDs(t)
	for _, request := range r.all() {
		if !isSignedBy(t, request, old) {
			t.Errorf("%s is not signed by the first secret", request.id)
		}
		if isSignedBy(t, request, new) != (request.eventID >= from) {
			t.Errorf("%s: signed by the second secret: %t", request.id, request.eventID < from)
		}
	}
}

// checkFailing requires each event to succeed at its third attempt, after pauses of 5 and 15 seconds, plus or
// minus half, and the time until the next poll.
func checkFailing(t *testing.T, r *receiver, secret string, ids []int64) {
	t.Helper()
	dbtest.Eventually(t, 90*time.Second, "it accepts all events", func() bool { return len(r.accepted()) == len(ids) })
	r.checkIDs(t)
	times := make(map[int64][]time.Time)
	for _, request := range r.all() {
		if !isSignedBy(t, request, secret) {
			t.Errorf("%s is not signed", request.id)
		}
		times[request.eventID] = append(times[request.eventID], request.at)
	}
	const look = 6 * time.Second
	for _, id := range ids {
		if len(times[id]) != 3 {
			t.Errorf("event %d came %d times, want 3", id, len(times[id]))
			continue
		}
		for i, delay := range []time.Duration{5 * time.Second, 15 * time.Second} {
			pause := times[id][i+1].Sub(times[id][i])
			if pause < delay/2 || pause > delay*3/2+look {
				t.Errorf("event %d came again after %s, want about %s", id, pause, delay)
			}
		}
	}
}

// checkLimited requires that nothing is sent before the receiver allows it.
func checkLimited(t *testing.T, pool *sql.DB, r *receiver, retryAfter time.Duration, ids []int64) {
	t.Helper()
	requests := r.all()
	if len(requests) != 1 || requests[0].eventID != ids[0] {
		t.Fatalf("it got %d requests, want none after the first", len(requests))
	}
	const own = " = (select id from tinydevcrm.subscriptions where name = 'limited')"
	for what, until := range map[string]time.Time{
		"the endpoint": dbtest.Value[time.Time](t, pool, "select rate_limited_until from tinydevcrm.webhooks where subscription_id"+own),
		"the event":    dbtest.Value[time.Time](t, pool, "select visible_at from tinydevcrm.deliveries where event_id = $1 and subscription_id"+own, ids[0]),
	} {
		if pause := until.Sub(requests[0].at); pause < retryAfter || pause > retryAfter+5*time.Second {
			t.Errorf("%s rests for %s, want %s", what, pause, retryAfter)
		}
	}
}

// checkRefused requires the reason to be kept with each refused delivery, and no delivery to be lost.
func checkRefused(t *testing.T, pool *sql.DB, events int) {
	t.Helper()
	for _, test := range []struct {
		name, want string
		// least is how many deliveries must have been refused by now.
		least int
	}{
		{"hanging", "no answer within 15s", 4},
		{"resetting", "connection reset by peer", events},
		{"redirecting", "the address is private; --allow-webhooks-to allows it", events},
		{"limited", "429 Too Many Requests", 1},
		{"gone", "410 Gone", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var pending, refused, others int
			if err := pool.QueryRowContext(t.Context(), `
				select count(*) filter (where acknowledged_at is null and parked_at is null),
				       count(*) filter (where last_error = $2 and attempts >= 1),
				       count(*) filter (where last_error <> $2)
				  from tinydevcrm.deliveries
				 where subscription_id = (select id from tinydevcrm.subscriptions where name = $1)`,
				test.name, test.want).Scan(&pending, &refused, &others); err != nil {
				t.Fatal(err)
			}
			if pending != events || refused < test.least || others != 0 {
				t.Errorf("%d deliveries are pending, want %d; %d were refused for %q, want %d; %d for something else",
					pending, events, refused, test.want, test.least, others)
			}
			if shown := dbtest.Value[string](t, pool, `
				select last_error
				  from tinydevcrm.subscription_status
				 where subscription = $1`, test.name); shown != test.want {
				t.Errorf("the status says %q, want %q", shown, test.want)
			}
		})
	}
}

func TestTwoOrchestratorsShareTheWork(t *testing.T) {
	t.Parallel()
	// perEndpoint is how many posts to one endpoint run at once that is too slow to get more.
	const events, views, perEndpoint, slow = 60, 20, 4, 1100 * time.Millisecond
	pool, server := newServer(t)
	createViews(t, pool, views)
	var mu sync.Mutex
	var underWay, most int
	count := func(change int) {
		mu.Lock()
		defer mu.Unlock()
		underWay += change
		most = max(most, underWay)
	}
	r, _ := newWebhook(t, pool, "w", func(http.ResponseWriter, *http.Request, int) int {
		count(1)
		defer count(-1)
		time.Sleep(slow)
		return http.StatusNoContent
	})
	first, _ := background(t, server.URL, upWithWebhooks...)
	second, _ := background(t, server.URL, upWithWebhooks...)
	dbtest.Exec(t, pool, `
		select tinydevcrm.refresh_matview(('v' || view)::regclass)
		  from generate_series(1, $1::integer) as view, generate_series(1, $2)`, views, events/views)

	dbtest.Eventually(t, dbtest.Deadline, "all is acknowledged", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.deliveries where acknowledged_at is null") == 0
	})
	if got := r.all(); len(got) != events || len(r.accepted()) != events {
		t.Errorf("%d posts of %d events, want %d of each", len(got), len(r.accepted()), events)
	}
	if lines := len(first.events(t)) + len(second.events(t)); lines != events {
		t.Errorf("%d lines in both logs, want %d", lines, events)
	}
	if most <= perEndpoint || most > 2*perEndpoint {
		t.Errorf("%d posts were under way at once, want more than %d and at most twice that", most, perEndpoint)
	}
	r.checkIDs(t)
}

func TestEndDuringASlowPost(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, server := newServer(t)
	for _, test := range []struct {
		name   string
		answer answer
		// within is how long the program may take to end.
		within         time.Duration
		isAcknowledged bool
	}{
		{"that is answered in time", func(http.ResponseWriter, *http.Request, int) int {
			time.Sleep(time.Second)
			return http.StatusOK
		}, 3 * time.Second, true},
		{"that is not", func(w http.ResponseWriter, r *http.Request, attempt int) int {
			if attempt == 0 {
				return hang(w, r, attempt)
			}
			return http.StatusOK
		}, 8 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _ := newWebhook(t, pool, test.name, test.answer)
			_, _, end := begin(t, server.URL, upWithWebhooks...)
			id := refresh(t, pool)
			dbtest.Eventually(t, dbtest.Deadline, "the post arrives", func() bool { return len(r.all()) == 1 })
			start := time.Now()
			end()
			if took := time.Since(start); took > test.within {
				t.Errorf("it took %s to end, want %s at most", took, test.within)
			}

			const mine = " where subscription_id = (select id from tinydevcrm.subscriptions where name = $1)"
			state := dbtest.Value[string](t, pool, `
				select concat_ws(' ', attempts, acknowledged_at is not null, parked_at is not null,
				           visible_at <= now() + interval '1 minute')
				  from tinydevcrm.deliveries`+mine, test.name)
			if want := fmt.Sprintf("1 %c f t", map[bool]rune{true: 't', false: 'f'}[test.isAcknowledged]); state != want {
				t.Errorf("attempts, acknowledged, parked, soon visible are %s, want %s", state, want)
			}
			// As if the minute were over.
			dbtest.Exec(t, pool, "update tinydevcrm.deliveries set visible_at = now()"+mine, test.name)
			_, _, end = begin(t, server.URL, upWithWebhooks...)
			defer end()
			dbtest.Eventually(t, dbtest.Deadline, "the event is accepted", func() bool { return r.accepted()[id] == 1 })
			r.checkIDs(t)
			dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription($1)", test.name)
		})
	}
}

// A user who fills the log as fast as possible, and runs queries without end, does not delay the deliveries of
// others.
func TestFloodDelaysNobodyElse(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	const lasts, within = 10 * time.Second, 5 * time.Second
	pool, server := newServer(t)
	for _, user := range []string{"ann", "eve"} {
		dbtest.Exec(t, pool, "select tinydevcrm.create_user($1, 'secret word')", user)
	}
	ann, eve := open(t, server.URL, "ann"), open(t, server.URL, "eve")
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('v', 'select 1 as n', 'always')")
	r, _ := newWebhook(t, ann, "hook", always(http.StatusOK))
	dbtest.Exec(t, eve, "select tinydevcrm.create_matview('flood' || i, $$select repeat('x', 6000) as x from generate_series(1, 10)$$, 'always') from generate_series(1, 4) as i")
	newWebhook(t, eve, "hook", always(http.StatusOK))
	background(t, server.URL, upWithWebhooks...)

	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	flood := func(statement string) {
		pool := open(t, server.URL, "eve")
		group.Go(func() {
			for ctx.Err() == nil {
				if _, err := pool.ExecContext(ctx, statement); err != nil && ctx.Err() == nil {
					t.Errorf("eve: %v", err)
					return
				}
			}
		})
	}
	for i := range 4 {
		flood(fmt.Sprintf("select from tinydevcrm.refresh_matview('flood%d')", i+1))
	}
	flood("select count(*) from generate_series(1, 1000000000) as n")

	var slowest time.Duration
	for ctx.Err() == nil {
		id := refresh(t, ann)
		start := time.Now()
		dbtest.Eventually(t, within, "ann's event arrives", func() bool { return r.accepted()[id] == 1 })
		slowest = max(slowest, time.Since(start))
	}
	megabytes := dbtest.Value[float64](t, pool, `
		select sum(octet_length(rows::text)) / 1e6 from tinydevcrm.matview_refresh_events where matview like 'eve.%'`)
	t.Logf("the slowest took %s beside %.0f MB of events a second", slowest.Round(time.Millisecond), megabytes/lasts.Seconds())
	if megabytes < 10 {
		t.Errorf("%.1f MB of events are no flood", megabytes)
	}
}
