package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestEventsTail(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table divisors as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 / n as n from divisors', notify_when => 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('w', 'select 1 as n', notify_when => 'always')")
	if _, stderr, err := command(t, databaseURL, "", "events", "tail", "--matview", "v"); err != nil || !strings.Contains(stderr, "no event has notified") {
		t.Errorf("without events it ends with %v: %s", err, stderr)
	}
	mustCommand(t, databaseURL, "matview", "refresh", "v")
	mustCommand(t, databaseURL, "matview", "refresh", "w")
	dbtest.Exec(t, pool, "update divisors set n = 0")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")

	lines := strings.Split(strings.TrimSpace(mustCommand(t, databaseURL, "events", "tail", "--matview", "v")), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "refreshed") || !strings.Contains(lines[0], ".v: 1 row") ||
		!strings.Contains(lines[1], "failed") || !strings.Contains(lines[1], "division by zero") {
		t.Errorf("the events are %q, want the refresh and then the failure", lines)
	}
	if all := mustCommand(t, databaseURL, "events", "tail", "--since", "1h"); !strings.Contains(all, ".w: 1 row") || !strings.Contains(all, ".v: 1 row") {
		t.Errorf("all events are %q", all)
	}
	if old := mustCommand(t, databaseURL, "events", "tail", "--since", "1us"); old != "" {
		t.Errorf("the events of the last microsecond are %q", old)
	}
	var event struct {
		Matview string
		Rows    []struct{ N int }
	}
	line, _, _ := strings.Cut(mustCommand(t, databaseURL, "events", "tail", "--matview", "v", "--json"), "\n")
	if err := json.Unmarshal([]byte(line), &event); err != nil || len(event.Rows) != 1 || event.Rows[0].N != 1 || !strings.HasSuffix(event.Matview, ".v") {
		t.Errorf("as JSON the first is %s, %v", line, err)
	}

	// Each is printed once, whether it was there, is notified, or its notification was lost.
	dbtest.Exec(t, pool, "update divisors set n = 1")
	following, _, end := begin(t, databaseURL, "events", "tail", "--follow", "--matview", "v")
	count := func(want int) func() bool {
		return func() bool { return strings.Count(following.String(), "\n") == want }
	}
	dbtest.Eventually(t, dbtest.Deadline, "the first events", count(2))
	mustCommand(t, databaseURL, "matview", "refresh", "v")
	dbtest.Eventually(t, dbtest.Deadline, "the recovery", count(3))
	dbtest.Exec(t, pool, `
		begin;
		alter table tinydevcrm.matview_refresh_events disable trigger _900_notify;
		select tinydevcrm.refresh_matview('v'), tinydevcrm.refresh_matview('w');
		alter table tinydevcrm.matview_refresh_events enable trigger _900_notify;
		commit`)
	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '0')")
	dbtest.Eventually(t, dbtest.Deadline, "an event whose notification was lost", count(4))
	mustCommand(t, databaseURL, "matview", "refresh", "v")
	dbtest.Eventually(t, dbtest.Deadline, "another refresh", count(5))
	end()
	if log := following.String(); strings.Count(log, "\n") != 5 || !strings.Contains(log, "recovered") || strings.Contains(log, ".w:") {
		t.Errorf("it has printed %q", log)
	}
	if pending := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.subscriptions"); pending != 0 {
		t.Errorf("looking has left %d subscriptions", pending)
	}
}
