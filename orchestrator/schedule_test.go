package main

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A round that two sessions come to at once is one round.
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

// Two sessions that put the first views on one schedule make one job; those that take the last ones
// off leave none.
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
	if _, err := tx.Exec("select tinydevcrm._lock_matview(id) from tinydevcrm.matviews where relation = 'v'::regclass"); err != nil {
		t.Fatal(err)
	}
	if outcome := dbtest.Value[string](t, pool, "select outcome from tinydevcrm.refresh_matview('v')"); outcome != "skipped" {
		t.Errorf("outcome is %s, want skipped", outcome)
	}
}

// A view that fails and one that takes longer than its period leave the others their rhythm: from the
// second round on the slow one has a job of its own.
func TestSlowAndFailingViewsLeaveOthersTheirRhythm(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	const healthy, period, slow = 20, 2, 5
	dbtest.Exec(t, pool, "create table one as select 1 as n")
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('v' || i, 'select 1 as n') from generate_series(1, $1) as i`, healthy)
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('failing', 'select 1 / n as n from one')`)
	dbtest.Exec(t, pool, `
		select tinydevcrm.create_matview(
		           'slow', format('select 1 as n from one where n = 1 or pg_sleep(%s) is null', $1::integer))`, slow)
	dbtest.Exec(t, pool, `
		select tinydevcrm.schedule_matview(relation, '2 seconds')
		  from tinydevcrm.matviews
		  join pg_class on pg_class.oid = relation
		 where relnamespace = current_schema()::regnamespace`)
	dbtest.Exec(t, pool, "update one set n = 0")
	began := time.Now()

	// As pg_cron does: the job of each schedule, again and again.
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for _, isSlow := range []bool{false, true} {
		group.Go(func() {
			for ctx.Err() == nil {
				var id sql.Null[int64]
				err := pool.QueryRowContext(ctx, `
					select max(id) from tinydevcrm.schedules where schedule = '2 seconds' and is_slow = $1`, isSlow).Scan(&id)
				if err == nil && id.Valid {
					_, err = pool.ExecContext(ctx, "call tinydevcrm.refresh_scheduled($1)", id.V)
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("a round: %v", err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	// A job goes on after a cancel, which it takes for one of the refresh.
	<-ctx.Done()
	dbtest.Exec(t, pool, `
		select pg_terminate_backend(pid)
		  from pg_stat_activity
		 where query like 'call tinydevcrm.refresh_scheduled(%' and pid <> pg_backend_pid()`)
	group.Wait()

	const scheduled = " from tinydevcrm.matview_refresh_events where schedule_id is not null and matview like current_schema() || '.%' "
	if gap := dbtest.Value[float64](t, pool, `
		select extract(epoch from max(gap))::double precision
		  from (
		    select started_at - lag(started_at) over (partition by matview order by started_at) as gap
		    `+scheduled+`
		       and matview ~ '\.v\d+$' and started_at between $1::timestamptz + $2::integer * interval '1 second' and $1::timestamptz + interval '25 seconds'
		  ) as gaps`, began, slow+2*period); gap > 1.9*period {
		t.Errorf("%.1f s between two refreshes of a healthy view", gap)
	}
	if count := dbtest.Value[int](t, pool, "select count(*)"+scheduled+"and matview like '%.slow'"); count < 3 {
		t.Errorf("the slow view was refreshed %d times", count)
	}
	if told := dbtest.Value[int](t, pool, "select count(*)"+scheduled+"and matview like '%.failing' and is_told"); told != 1 {
		t.Errorf("the failing view was told %d times, want once", told)
	}
	if doubled := dbtest.Value[int](t, pool, `
		select count(*) from (
		    select 1`+scheduled+`group by matview, floor(extract(epoch from started_at) / 2) having count(*) > 1) as doubled`); doubled > 0 {
		t.Errorf("%d rounds came twice", doubled)
	}
}
