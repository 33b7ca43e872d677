package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Two webhooks of one view: one gets each added row as a message of its own, in order and after a refusal too, the other
// failures alone.
func TestTwoAudiencesOfOneView(t *testing.T) {
	t.Parallel()
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "create table orders (n integer); create table divisors as select 1 as divisor")
	mustCommand(t, server.URL, "matview", "create", "big", "--notify-when", "never", "select n / divisor as n from orders, divisors order by n")
	rows, troubles := newReceiver(t, failOnceAtFirst()), newReceiver(t, always(http.StatusOK))
	mustCommand(t, server.URL, "webhook", "create", "rows", rows.url, "--matview", "big", "--notify-when", "rows_added", "--each-row")
	mustCommand(t, server.URL, "webhook", "create", "troubles", troubles.url, "--matview", "big", "--notify-when", "failed")
	if list := mustCommand(t, server.URL, "subscription", "list"); !strings.Contains(list, "rows_added") || !strings.Contains(list, "failed") {
		t.Errorf("the list does not show the rules:\n%s", list)
	}
	if rules := mustCommand(t, server.URL, "subscription", "rules"); !strings.Contains(rules, "rows_added") || !strings.Contains(rules, "late") {
		t.Errorf("the rules are\n%s", rules)
	}
	background(t, server.URL, upWithWebhooks...)

	refresh := func() { dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('big')") }
	refresh()
	dbtest.Exec(t, pool, "insert into orders select generate_series(1, 20)")
	refresh()
	dbtest.Eventually(t, dbtest.Deadline, "each row is a message", func() bool { return len(acceptedRows(t, rows)) == 20 })
	if got := acceptedRows(t, rows); !slices.IsSorted(got) {
		t.Errorf("the rows came in the order %v", got)
	}
	dbtest.Exec(t, pool, "update divisors set divisor = 0")
	refresh()
	dbtest.Exec(t, pool, "update divisors set divisor = 1")
	refresh()
	dbtest.Eventually(t, dbtest.Deadline, "the failure and the recovery are posted", func() bool { return len(troubles.accepted()) == 2 })
	if got := len(acceptedRows(t, rows)); got != 20 {
		t.Errorf("%d messages of rows after a failure, want 20", got)
	}

	dbtest.Exec(t, pool, "select tinydevcrm.redeliver_event(id) from tinydevcrm.deliveries where row_number = (select max(row_number) from tinydevcrm.deliveries)")
	dbtest.Eventually(t, dbtest.Deadline, "one row comes again", func() bool { return len(acceptedRows(t, rows)) == 21 })
	got := acceptedRows(t, rows)
	if got[20] != got[19] {
		t.Errorf("row %d came again, want %d", got[20], got[19])
	}
}

// failOnceAtFirst refuses the first message once.
func failOnceAtFirst() answer {
	var once sync.Once
	var first string
	return func(_ http.ResponseWriter, r *http.Request, attempt int) int {
		once.Do(func() { first = r.Header.Get("webhook-id") })
		if r.Header.Get("webhook-id") == first && attempt < 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
}

// acceptedRows returns the places of the rows that a receiver has accepted, as the webhook-id ends with them, and requires each
// message to have one row.
func acceptedRows(t *testing.T, r *receiver) []int {
	t.Helper()
	var places []int
	for _, request := range r.all() {
		if !request.isAccepted() {
			continue
		}
		var message struct {
			Data struct {
				AddedCount int               `json:"added_count"`
				Rows       []json.RawMessage `json:"rows"`
			} `json:"data"`
		}
		if err := json.Unmarshal(request.body, &message); err != nil || len(message.Data.Rows) != 1 || message.Data.AddedCount != 1 {
			t.Errorf("%s has not one row: %v, %s", request.id, err, request.body)
		}
		var event, place int
		if _, err := fmt.Sscanf(request.id, "event_%d_%d", &event, &place); err != nil {
			t.Errorf("the id %q names no row", request.id)
		}
		places = append(places, place)
	}
	return places
}

// A refresh that has locked the registration and a subscription with a rule of its own that is being dropped do not wait for each other.
func TestADroppedAudienceDoesNotStopARefresh(t *testing.T) {
	t.Parallel()
	pool, _ := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('s', 'v', notify_when => 'always')")
	refreshing, err := pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer refreshing.Rollback()
	if _, err := refreshing.Exec("update tinydevcrm.matviews set last_row_count = 1"); err != nil {
		t.Fatal(err)
	}
	dropped := make(chan error, 1)
	go func() {
		_, err := pool.Exec("select tinydevcrm.drop_subscription('s')")
		dropped <- err
	}()
	dbtest.Eventually(t, dbtest.Deadline, "the drop waits for the registration", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%drop_subscription%' and pid <> pg_backend_pid()") == 1
	})
	start := time.Now()
	if _, err := refreshing.Exec("select tinydevcrm.refresh_matview('v')"); err != nil {
		t.Errorf("the refresh fails: %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the refresh took %s", took)
	}
	if err := refreshing.Commit(); err != nil {
		t.Error(err)
	}
	if err := <-dropped; err != nil {
		t.Errorf("the drop fails: %v", err)
	}
	if asked := dbtest.Value[string](t, pool, "select asked_rules::text from tinydevcrm.matviews"); asked != "{}" {
		t.Errorf("the view is asked for %s", asked)
	}
}
