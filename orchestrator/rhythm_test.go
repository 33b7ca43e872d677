//go:build faults

package main

import (
	"context"
	"database/sql"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A view that fails and one that takes thirty seconds do not disturb 98 others with a schedule of five seconds,
// run by pg_cron itself: after the first run the slow one has a job of its own. No run is lost or doubled.
func TestSlowAndFailingViewsLeaveOthersTheirRhythm(t *testing.T) {
	server := dbtest.NewMigrated(t)
	pool := openPool(t, server.URL)
	const healthy, period, slow, rounds = 98, 5, 30, 12
	dbtest.Exec(t, pool, "create table knobs as select 1 as divisor, 0.0::double precision as seconds")
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview('v' || i, 'select clock_timestamp() as at') from generate_series(1, $1) as i`, healthy)
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

// A pg_dump that takes half a minute blocks the plain refreshes of the views that it dumps, and nothing else: the
// others keep their rhythm of five seconds, and no reader waits for longer than a refresh does.
func TestViewsKeepTheirRhythmBesideADump(t *testing.T) {
	server := dbtest.NewMigrated(t)
	pool := openPool(t, server.URL)
	dbtest.Exec(t, pool, "create table big as select i, repeat('x', 100) as text from generate_series(1, 50000) as i")
	dbtest.Exec(t, pool, `select tinydevcrm.create_matview(name, 'select 1 as n, clock_timestamp() as at', key => case name when 'keyed' then array['n'] end)
		from unnest(array['a', 'b', 'keyed', 'c', 'd']) as name`)
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview(relation, '5 seconds') from tinydevcrm.matviews")
	const scheduled = "from tinydevcrm.matview_refresh_events where schedule_id is not null and matview = 'public.'"
	count := func(view, outcome string) int {
		return dbtest.Value[int](t, pool, "select count(*) "+scheduled+" || $1 and outcome = $2", view, outcome)
	}
	dbtest.Eventually(t, 90*time.Second, "the first round", func() bool { return count("d", "refreshed") > 0 })

	// Nobody reads what it writes, so that it stays open.
	dump := exec.Command(filepath.Join(dbtest.Value[string](t, pool, "select setting from pg_config where name = 'BINDIR'"), "pg_dump"),
		server.URL, "--table=a", "--table=c", "--table=keyed", "--table=big")
	if _, err := dump.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = dump.Process.Kill()
			_ = dump.Wait()
		}
	}
	t.Cleanup(end)

	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration, 1)
	reader := openPool(t, server.URL)
	go func() {
		var most time.Duration
		for ctx.Err() == nil {
			begun := time.Now()
			if _, err := reader.ExecContext(ctx, "select from a"); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			most = max(most, time.Since(begun))
			time.Sleep(10 * time.Millisecond)
		}
		longest <- most
	}()
	dbtest.Eventually(t, time.Minute, "half a minute is over", func() bool { return time.Since(start) > 31*time.Second })
	cancel()
	end()

	for _, view := range []string{"b", "keyed", "d"} {
		late := dbtest.Value[float64](t, pool, "select coalesce(max(extract(epoch from started_at)::numeric % 5), 0)::float8 "+scheduled+" || $1 and started_at between $2 and $3", view, start, start.Add(30*time.Second))
		rounds := dbtest.Value[int](t, pool, "select count(distinct floor(extract(epoch from started_at) / 5)) "+scheduled+" || $1 and outcome = 'refreshed' and started_at between $2 and $3", view, start, start.Add(30*time.Second))
		if rounds < 6 || late > 2.5 {
			t.Errorf("%s was refreshed in %d rounds of half a minute, up to %.1f s late", view, rounds, late)
		}
	}
	for _, view := range []string{"a", "c"} {
		if failed := count(view, "failed"); failed < 5 {
			t.Errorf("%s failed %d times", view, failed)
		}
		message := dbtest.Value[string](t, pool, "select error_message "+scheduled+" || $1 and outcome = 'failed' order by id limit 1", view)
		if !strings.Contains(message, "for a lock on public."+view+" that session ") || !strings.Contains(message, "application pg_dump) holds since ") {
			t.Errorf("%s says %q", view, message)
		}
		dbtest.Eventually(t, 75*time.Second, view+" recovers", func() bool { return count(view, "recovered") == 1 })
	}
	if most := <-longest; most > 2*time.Second {
		t.Errorf("a reader waited for %s", most)
	} else {
		t.Logf("the longest wait of a reader took %s", most)
	}
}
