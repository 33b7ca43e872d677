//go:build faults

package main

import (
	"database/sql"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A view that fails and one that takes thirty seconds do not disturb 98 others with a schedule of five seconds,
// run by pg_cron itself: after the first run the slow one has a job of its own. No run is lost or doubled.
func TestSlowAndFailingViewsLeaveOthersTheirRhythm(t *testing.T) {
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	pool := openPool(t, server.URL)
	const healthy, period, slow, rounds = 98, 5, 30, 12
	dbtest.Exec(t, pool, "create table knobs as select 1 as divisor, 0.0::double precision as seconds")
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('v' || i, 'select 1 as n') from generate_series(1, $1) as i`, healthy)
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('failing', 'select 1 / divisor as n from knobs')`)
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('slow', 'select pg_sleep(seconds)::text from knobs')`)
	dbtest.Exec(t, pool, `
		select tinydevcrm.schedule_matview(relation, '5 seconds')
		  from tinydevcrm.matviews
		  join pg_class on pg_class.oid = relation
		 where relnamespace = current_schema()::regnamespace`)
	dbtest.Exec(t, pool, "update knobs set divisor = 0, seconds = $1", slow)
	dbtest.Exec(t, pool, `
		create view scheduled as
		select substring(matview from '[a-z]+\d*$') as name, outcome, is_notified, started_at, started_at + duration as ended_at,
		       floor(extract(epoch from started_at) / 5)::bigint as round
		  from tinydevcrm.matview_refresh_events
		 where schedule_id is not null and matview like current_schema() || '.%'`)

	// After a hundred refreshes at once pg_cron may miss its new job for a minute, and where it has no seconds
	// it begins at the next full minute. Half a minute later the slow view's first refresh is over, and with
	// it the first run.
	const secondRound = `select min(floor(extract(epoch from ended_at) / 5)::bigint) + 1 from scheduled where name = 'slow' and ended_at - started_at > interval '20 seconds'`
	dbtest.Eventually(t, 4*time.Minute, "the slow view has had its turn", func() bool {
		return dbtest.Value[sql.Null[int64]](t, pool, secondRound).Valid
	})
	second := dbtest.Value[int64](t, pool, secondRound)
	dbtest.Eventually(t, 2*time.Minute, "a dozen rounds are over", func() bool {
		return dbtest.Value[bool](t, pool, "select clock_timestamp() > to_timestamp(($1::bigint + $2::bigint) * $3::bigint) + interval '3 seconds'",
			second, rounds, period)
	})

	if wrong := dbtest.Value[string](t, pool, `
		select coalesce(string_agg(format('%s had %s in round %s', name, count, round - $1), '; '), '')
		  from (
		    select names.name, round, count(scheduled.name)
		      from (select distinct name from scheduled where name <> 'slow') as names
		     cross join generate_series($1::bigint, $1::bigint + $2 - 1) as round
		      left join scheduled using (name, round)
		     group by names.name, round
		    having count(scheduled.name) <> 1) as wrong`, second, rounds); wrong != "" {
		t.Errorf("each view has one refresh in a round, but %s", wrong)
	}
	if names := dbtest.Value[int](t, pool, "select count(distinct name) from scheduled"); names != healthy+2 {
		t.Errorf("%d views were refreshed, want %d", names, healthy+2)
	}
	if outcomes := dbtest.Value[string](t, pool, `
		select string_agg(distinct outcome, ' ') from scheduled where name like 'v%' or name = 'slow'`); outcomes != "refreshed" {
		t.Errorf("the healthy views and the slow one were %s", outcomes)
	}
	if notified := dbtest.Value[int](t, pool, "select count(*) from scheduled where name = 'failing' and is_notified and outcome = 'failed'"); notified != 1 {
		t.Errorf("the failing view notified %d times, want once", notified)
	}
	if turns := dbtest.Value[int](t, pool, "select count(*) from scheduled where name = 'slow'"); turns < 2 {
		t.Errorf("the slow view was refreshed %d times", turns)
	}
}
