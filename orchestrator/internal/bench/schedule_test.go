//go:build bench

package bench

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestSchedule is scripts/bench schedule [VIEWS [RUNS]]: a run of a schedule, compared with the bare refreshes
// and with one pg_cron job per view; a refresh with 5000 events per view; and the size of the log under
// retention.
func TestSchedule(t *testing.T) {
	views, runs := sizeOf(t, 1000), runsOf(t)
	b := newBench(t)
	b.makeViews(views)

	schedule := b.query("select id from tinydevcrm.schedules")
	for run := range runs {
		// Each time with clean catalogs, because refreshes leave dead rows there.
		b.query("vacuum")
		b.timed("bare", func() { b.run("psql", b.url, "-Xqf", b.path("refreshes.sql")) })
		b.query("insert into numbers values (1); update tinydevcrm.matviews set last_scheduled_at = null")
		b.query("vacuum")
		b.timed("round", func() { b.query("call tinydevcrm.refresh_scheduled(" + schedule + ")") })
		say("Run %d of %d", run+1, runs)
	}
	say("A pg_cron job for each view, once: wait for the minute")
	b.jobEach(views)
	fmt.Println(b.report(fmt.Sprintf("%d refreshes by psql", views), "bare", "bare"))
	fmt.Println(b.report(fmt.Sprintf("a round of %d in one job", views), "round", "bare"))
	fmt.Println(b.report(fmt.Sprintf("%d pg_cron jobs", views), "each", "bare"))
	fmt.Println(b.report(fmt.Sprintf("a round of %d in one job", views), "round", "each"))

	b.besideLog(views, runs)
	b.retention()
}

// makeViews creates views of one table, with one schedule that only we run: pg_cron would not run it for a
// year.
func (b *bench) makeViews(count int) {
	b.t.Helper()
	say("Making %d views", count)
	b.query("create table numbers as select i from generate_series(1, 1000) as i")
	b.query(fmt.Sprintf(`
		select tinydevcrm.create_matview('v' || i, 'select * from numbers where i %% ' || i || ' = 0')
		  from generate_series(1, %d) as i`, count))
	b.query("select count(tinydevcrm._assign_schedule(relation, '0 0 1 1 *', null, null)) from tinydevcrm.matviews")
	refreshes := b.query(fmt.Sprintf("select 'refresh materialized view v' || i || ';' from generate_series(1, %d) as i", count))
	if err := os.WriteFile(b.path("refreshes.sql"), []byte(refreshes+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// jobEach creates one pg_cron job for each view, as the proof of concept did, and measures the time from the
// first start to the last end.
func (b *bench) jobEach(views int) {
	b.t.Helper()
	b.query("delete from cron.job_run_details")
	b.query(fmt.Sprintf(`
		select cron.schedule('each ' || i, '* * * * *', 'refresh materialized view v' || i)
		  from generate_series(1, %d) as i`, views))
	for b.queryNumber(`
		select count(*)
		  from cron.job_run_details
		 where command like 'refresh%' and end_time is not null`) < float64(views) {
		time.Sleep(time.Second)
	}
	b.query("select cron.unschedule(jobid) from cron.job where jobname like 'each %'")
	b.times["each"] = append(b.times["each"], b.queryNumber(fmt.Sprintf(`
		select extract(epoch from max(end_time) - min(start_time))
		  from (select * from cron.job_run_details where command like 'refresh%%' order by runid limit %d) as round`, views)))
	// The runs that pg_cron has started meanwhile must end.
	time.Sleep(5 * time.Second)
}

// besideLog measures 500 refreshes with an empty log of events, and with a long one.
func (b *bench) besideLog(views, runs int) {
	b.t.Helper()
	refreshes := func(way string) {
		for range runs {
			// Each time with clean catalogs, because a refresh leaves dead rows there, whatever the log.
			b.query("vacuum")
			b.query("checkpoint")
			b.timed(way, func() {
				b.query("do $$ begin for i in 1 .. 500 loop perform tinydevcrm.refresh_matview('v1'); end loop; end $$")
			})
		}
	}
	b.query("truncate tinydevcrm.matview_refresh_events cascade")
	refreshes("empty")
	say("Writing %d events", 5000*views)
	// The trigger that updates the registry for each event would take minutes.
	b.query(`
		set session_replication_role = replica;
		insert into tinydevcrm.matview_refresh_events
		    (owner, matview_id, matview, outcome, is_notified, suppressed_by, method, row_count, started_at, duration)
		select owner, id, relation::text, 'refreshed', false, 'rule', 'plain', 1, now() - i * interval '1 second', '1 ms'
		  from generate_series(1, 5000) as i
		 cross join tinydevcrm.matviews`)
	b.query("analyze tinydevcrm.matview_refresh_events")
	refreshes("long")
	fmt.Println(b.report("500 refreshes beside an empty log", "empty", "empty"))
	fmt.Println(b.report(fmt.Sprintf("500 refreshes beside %d events", 5000*views), "long", "empty"))
}

// retention runs through ten retention periods, each in ten steps: the log does not grow after the first.
func (b *bench) retention() {
	b.t.Helper()
	b.query("truncate tinydevcrm.matview_refresh_events cascade; update tinydevcrm.settings set event_retention = '4 seconds'")
	var first, last float64
	for step := 1; step <= 100; step++ {
		b.query(`
			insert into tinydevcrm.matview_refresh_events
			    (owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
			select owner, id, relation::text, 'refreshed', true, 'plain', 1, clock_timestamp(), '1 ms'
			  from generate_series(1, 5) as i
			 cross join tinydevcrm.matviews;
			select pg_sleep(0.2)`)
		b.query("call tinydevcrm.remove_expired(1000)")
		b.query("vacuum tinydevcrm.matview_refresh_events")
		last = b.queryNumber("select pg_total_relation_size('tinydevcrm.matview_refresh_events')")
		if step == 10 {
			first = last
		}
	}
	fmt.Printf("%-44s %8.0f kB %6.2f times that after the first\n", "the log after ten periods of retention",
		last/1024, last/first)
}
