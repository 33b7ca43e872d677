package main

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// makeLate makes view v look as if its yearly schedule had been due and had not run.
func makeLate(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Exec(t, pool, `
		update tinydevcrm.matviews
		   set schedule_began_at = now() - interval '3 years', last_refreshed_at = now() - interval '2 years'
		 where relation = 'v'::regclass`)
}

// Views that are late, or that read a renamed table, are not ok.
func TestStatusOfLateAndRenamed(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table orders as select 1 as n")
	mustCommand(t, databaseURL, "matview", "create", "v", "select n from orders", "--notify-when", "never")
	mustCommand(t, databaseURL, "matview", "schedule", "v", "0 0 1 1 *")
	mustCommand(t, databaseURL, "status")

	dbtest.Exec(t, pool, "alter table orders rename to orders_2025")
	dbtest.Exec(t, pool, "create table orders as select 2 as n")
	if stdout, _, err := command(t, databaseURL, "", "status"); err == nil || !strings.Contains(stdout, "reads renamed table") ||
		!strings.Contains(stdout, "orders_2025, which was") {
		t.Errorf("a renamed table: %v: %s", err, stdout)
	}
	mustCommand(t, databaseURL, "matview", "accept", "v")
	mustCommand(t, databaseURL, "status")

	makeLate(t, pool)
	if stdout, _, err := command(t, databaseURL, "", "status"); err == nil || !strings.Contains(stdout, "late since 20") {
		t.Errorf("a late view: %v: %s", err, stdout)
	}
	if err := noteLateOnce(t.Context(), pool); err != nil {
		t.Error(err)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	mustCommand(t, databaseURL, "status")
}

// A refresh that takes longer than its period is not late while it runs.
func TestRefreshUnderWayIsNotLate(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	mustCommand(t, databaseURL, "matview", "create", "v", "select 1 as n")
	mustCommand(t, databaseURL, "matview", "schedule", "v", "0 0 1 1 *")
	makeLate(t, pool)
	status := func() string {
		return dbtest.Value[string](t, pool, `
			select status || ' ' || (select count(*) from tinydevcrm._list_late_matviews() join tinydevcrm.matviews on id = matview_id where relation = 'v'::regclass)
			  from tinydevcrm.matview_status where relation = 'v'::regclass`)
	}
	if got := status(); got != "late 1" {
		t.Errorf("before: %s", got)
	}
	refreshing, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer refreshing.Rollback()
	if _, err := refreshing.ExecContext(t.Context(), "refresh materialized view v"); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != "ok 0" {
		t.Errorf("meanwhile: %s", got)
	}
	if err := refreshing.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != "late 1" {
		t.Errorf("after: %s", got)
	}
}
