package main

import (
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestSuggestedAndReplayedRules(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table orders as select 1 as n")
	contains := func(got string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in: %s", want, got)
			}
		}
	}

	contains(mustCommand(t, databaseURL, "matview", "create", "tracked", "select n from orders"),
		"tracked has the rule changed, because its tables are tracked: ")
	created := mustCommand(t, databaseURL, "matview", "create", "clock", "select now() as at", "--notify-when", "never")
	if strings.Contains(created, "has the rule") {
		t.Errorf("a rule that was given is explained: %s", created)
	}
	status := mustCommand(t, databaseURL, "status", "--json")
	contains(status, `"is_tracked": true`, `"untracked_reason": "it calls now(), whose`, `"last_changed_at":`, `"last_checked_at":`)
	contains(mustCommand(t, databaseURL, "status"), "TRACKED", "yes", "no: it calls now()", "LAST CHANGE", "CHECKED")

	for _, change := range []string{"select", "insert into orders values (2)", "update orders set n = n", "delete from orders"} {
		dbtest.Exec(t, pool, change)
		mustCommand(t, databaseURL, "matview", "refresh", "tracked")
	}
	contains(mustCommand(t, databaseURL, "matview", "replay", "tracked"),
		"tracked would have notified 2 times in 168h0m0s; of 0 other refreshes that is not known", "when its rows change")
	contains(mustCommand(t, databaseURL, "matview", "replay", "tracked", "--rule", "empty"), "would have notified 1 times")
	contains(mustCommand(t, databaseURL, "matview", "replay", "tracked", "--rule", "always", "--notify-after", "3"), "would have notified 2 times")
	contains(mustCommand(t, databaseURL, "matview", "replay", "tracked", "--rule", "always", "--notify-interval", "1h"), "would have notified 1 times")
	contains(mustCommand(t, databaseURL, "matview", "replay", "tracked", "--since", "1us"), "would have notified 0 times")
	if _, stderr, err := command(t, databaseURL, "", "matview", "replay", "tracked", "--rule", "nope"); err == nil || !strings.Contains(stderr, "there is no rule") {
		t.Errorf("an unknown rule: %v: %s", err, stderr)
	}
}

// A change that commits is known to the next look, that of the orchestrator too, while pg_cron is away.
func TestDeadline(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table orders as select 1 as n")
	mustCommand(t, databaseURL, "matview", "create", "v", "select n from orders", "--notify-deadline", "1h")
	log := func() string {
		t.Helper()
		if err := noteLateOnce(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
		return dbtest.Value[string](t, pool, `
			select coalesce(string_agg(outcome, ' ' order by id), '')
			  from tinydevcrm.matview_refresh_events
			 where matview_id = (select id from tinydevcrm.matviews where relation = 'v'::regclass)
			   and outcome in ('silent', 'resumed')`)
	}
	age := func() {
		t.Helper()
		log()
		dbtest.Exec(t, pool, "update tinydevcrm.table_change_times set changed_at = now() - interval '2 hours' where relation = 'orders'::regclass")
		dbtest.Exec(t, pool, "update tinydevcrm.matviews set deadline_set_at = now() - interval '2 hours' where relation = 'v'::regclass")
		dbtest.Exec(t, pool, "update tinydevcrm.matviews set created_at = now() - interval '2 hours' where relation = 'v'::regclass")
	}

	// It changes while a longer transaction, which began earlier, has not committed.
	long, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Rollback()
	if _, err := long.ExecContext(t.Context(), "insert into orders values (2)"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "insert into orders values (3)")
	age()
	if got := log(); got != "silent" {
		t.Errorf("what has not committed counts: %q", got)
	}
	stdout, _, err := command(t, databaseURL, "", "status")
	if err == nil || !strings.Contains(stdout, "its tables have not changed for 01:00:00, since 20") {
		t.Errorf("status: %v: %s", err, stdout)
	}
	if err := long.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := log(); got != "silent resumed" {
		t.Errorf("what commits late is missed: %q", got)
	}
	mustCommand(t, databaseURL, "matview", "watch", "v", "--notify-deadline", "0")
	age()
	if got := log(); got != "silent resumed" {
		t.Errorf("a deadline that was removed: %q", got)
	}
}
