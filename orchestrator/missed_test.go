package main

import (
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A time of a schedule that passed while the database was down is made up for once, by a job of the owner: the first
// of the request and the schedule's own job does it, and nothing is left to do for the other.
func TestMissedRefreshIsMadeUpOnce(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview(name, 'select now() as n', 'never') from unnest(array['a', 'b']) as name")
	dbtest.Exec(t, pool, `
		select tinydevcrm.schedule_matview(
		           relation, to_char(now() at time zone 'Asia/Kolkata' - interval '3 minutes', '"daily at "HH24:MI'), 'Asia/Kolkata')
		  from tinydevcrm.matviews
		  join pg_class on pg_class.oid = relation
		 where relnamespace = current_schema()::regnamespace`)
	schedule := dbtest.Value[int64](t, pool, "select schedule_id from tinydevcrm.matviews where relation = 'a'::regclass")
	const byTheSchedule = "select count(*) from tinydevcrm.matview_refresh_events where schedule_id = $1"
	settle := func() {
		dbtest.Exec(t, pool, "call tinydevcrm.settle_jobs()")
		// This test does what pg_cron would do a few seconds later.
		dbtest.Exec(t, pool, "select cron.unschedule(jobid) from cron.job where command = 'call tinydevcrm.refresh_requested()'")
	}
	down := func() {
		dbtest.Exec(t, pool, `
			update tinydevcrm.matviews
			   set last_refreshed_at = now() - interval '2 days', last_scheduled_at = now() - interval '2 days',
			       schedule_began_at = now() - interval '3 days'
			 where schedule_id = $1`, schedule)
	}

	down()
	settle()
	dbtest.Exec(t, pool, "call tinydevcrm.refresh_requested()")
	if count := dbtest.Value[int](t, pool, byTheSchedule, schedule); count != 2 {
		t.Errorf("%d refreshes by the schedule, want one of each view", count)
	}
	dbtest.Exec(t, pool, "call tinydevcrm.refresh_scheduled($1)", schedule)
	settle()
	dbtest.Exec(t, pool, "call tinydevcrm.refresh_requested()")
	if count := dbtest.Value[int](t, pool, byTheSchedule, schedule); count != 2 {
		t.Errorf("%d refreshes when the job comes late, want no more", count)
	}

	// The other way round: the job is only some minutes late.
	down()
	settle()
	dbtest.Exec(t, pool, "call tinydevcrm.refresh_scheduled($1)", schedule)
	dbtest.Exec(t, pool, "call tinydevcrm.refresh_requested()")
	if count := dbtest.Value[int](t, pool, byTheSchedule, schedule); count != 4 {
		t.Errorf("%d refreshes, want one more of each view", count)
	}

	// While the job is at work, upkeep leaves the rest of the round to it.
	down()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("select tinydevcrm._take_lock('schedule', $1)", schedule); err != nil {
		t.Fatal(err)
	}
	settle()
	const requests = `
		select count(*)
		  from tinydevcrm.refresh_requests
		  join tinydevcrm.matviews on matviews.id = matview_id
		 where matviews.schedule_id = $1`
	if count := dbtest.Value[int](t, pool, requests, schedule); count != 0 {
		t.Errorf("%d requests while the job is at work, want none", count)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	settle()
	if count := dbtest.Value[int](t, pool, requests, schedule); count != 2 {
		t.Errorf("%d requests after it, want 2", count)
	}
}
