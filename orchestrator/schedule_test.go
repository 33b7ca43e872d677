package main

import (
	"strings"
	"sync"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// When two sessions run a schedule at once, it is run once.
func TestTwoRoundsAtOnceAreOne(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, `
		select tinydevcrm.create_matview(
		           format('v%s', number), 'select pg_sleep(0.05)::text, ' || number)
		  from generate_series(1, 10) as number`)
	// Far in the future for pg_cron, so that only this test calls it.
	dbtest.Exec(t, pool, `
		select tinydevcrm.schedule_matview(relation, '0 0 1 1 *')
		  from tinydevcrm.matviews
		  join pg_class on pg_class.oid = relation
		 where relnamespace = current_schema()::regnamespace`)
	schedule := dbtest.Value[int64](t, pool, "select id from tinydevcrm.schedules where schedule = '0 0 1 1 *'")

	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := pool.ExecContext(t.Context(), "call tinydevcrm.refresh_scheduled($1)", schedule); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()

	if count := dbtest.Value[int](t, pool, `
		select count(*) from tinydevcrm.matview_refresh_events where schedule_id = $1`, schedule); count != 10 {
		t.Errorf("%d refreshes, want 10", count)
	}
	if count := dbtest.Value[int](t, pool, `
		select count(distinct xmin::text) from tinydevcrm.matview_refresh_events where schedule_id = $1`, schedule); count != 10 {
		t.Errorf("%d transactions, want one for each of 10", count)
	}
}

// Two sessions that put the first views on one schedule create one job. Those that take the last ones off leave
// none.
func TestSchedulingAtOnceMakesOneJob(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		dbtest.Exec(t, pool, "select tinydevcrm.create_matview($1, 'select 1 as one')", name)
	}
	const jobs = "select count(*) from cron.job where schedule = '59 23 31 12 *'"
	atOnce := func(statement string) {
		var group sync.WaitGroup
		for _, name := range names {
			group.Go(func() {
				if _, err := pool.ExecContext(t.Context(), statement, name); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	for range 10 {
		atOnce("select tinydevcrm.schedule_matview($1::text::regclass, '59 23 31 12 *')")
		if count := dbtest.Value[int](t, pool, jobs); count != 1 {
			t.Fatalf("%d jobs, want 1", count)
		}
		atOnce("select tinydevcrm.unschedule_matview($1::text::regclass)")
		if count := dbtest.Value[int](t, pool, jobs); count != 0 {
			t.Fatalf("%d jobs, want none", count)
		}
	}
}

// A refresh that another one has overtaken is skipped, and says so.
func TestRefreshUnderWayIsSkipped(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("select from tinydevcrm.matviews, tinydevcrm._begin_refresh(matviews) where relation = 'v'::regclass"); err != nil {
		t.Fatal(err)
	}
	if outcome := dbtest.Value[string](t, pool, "select outcome from tinydevcrm.refresh_matview('v')"); outcome != "skipped" {
		t.Errorf("outcome is %s, want skipped", outcome)
	}
}

func TestScheduleWhoseFirstRefreshFails(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table divisors as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 / n as n from divisors')")
	dbtest.Exec(t, pool, "update divisors set n = 0")
	stdout, stderr, err := command(t, databaseURL, "", "matview", "schedule", "v", "1 hour")
	if err == nil || !strings.Contains(stdout, `v is refreshed on schedule "0 * * * *"`) ||
		!strings.Contains(stderr, "the schedule is set, and the first refresh of v failed: division by zero (SQLSTATE 22012)") {
		t.Errorf("it ends with %v, and says %q and %q", err, stdout, stderr)
	}

	dbtest.Exec(t, pool, "update divisors set n = 1")
	if stdout, stderr, err := command(t, databaseURL, "", "matview", "schedule", "v", "1 hour"); err != nil || stderr != "" {
		t.Errorf("one that succeeds ends with %v: %q, %q", err, stdout, stderr)
	}
	if said := mustCommand(t, databaseURL, "matview", "schedule", "v", "weekdays at 9:00", "--time-zone", "europe/berlin", "--catch-up=false"); said != "v is refreshed on schedule \"0 9 * * 1-5 Europe/Berlin\"\n" {
		t.Errorf("words and a time zone say %q", said)
	}
	if makesUp := dbtest.Value[bool](t, pool, "select catch_up from tinydevcrm.matviews where relation = 'v'::regclass"); makesUp {
		t.Error("--catch-up=false does not arrive")
	}
	if said := mustCommand(t, databaseURL, "status"); !strings.Contains(said, "weekdays at 9:00 Europe/Berlin") {
		t.Errorf("the status shows %q, not what was typed", said)
	}
	if said := mustCommand(t, databaseURL, "matview", "refresh", "v"); !strings.Contains(said, "v: refreshed, 1 row in ") || !strings.Contains(said, "ms\n") {
		t.Errorf("a refresh says %q", said)
	}
}
