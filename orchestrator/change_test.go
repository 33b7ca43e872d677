package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

var upQuietly = []string{"up", "--listen-addr", "localhost:0"}

// newOnChange is a migrated server with table t, view v of it and view w of v, both on change, each an interval after
// its last refresh.
func newOnChange(t *testing.T) (*sql.DB, *dbtest.Server) {
	t.Helper()
	server := dbtest.NewMigrated(t)
	pool := openPool(t, server.URL)
	dbtest.Exec(t, pool, "create table t (n integer)")
	mustCommand(t, server.URL, "matview", "create", "v", "select count(*) as n from t")
	mustCommand(t, server.URL, "matview", "create", "w", "select n + 1 as n from v")
	for _, view := range []string{"v", "w"} {
		if got := mustCommand(t, server.URL, "matview", "schedule", view, "when it changes"); !strings.Contains(got, `schedule "on change"`) {
			t.Errorf("scheduled: %s", got)
		}
	}
	rest(t, pool)
	return pool, server
}

// rest makes the views look as if their last refreshes were a while ago.
func rest(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Exec(t, pool, "update tinydevcrm.matviews set last_refreshed_at = last_refreshed_at - interval '1 hour', last_scheduled_at = last_scheduled_at - interval '1 hour'")
}

// stopJobs leaves the work of pg_cron to the test: no job begins, and those that have begun are over.
func stopJobs(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Exec(t, pool, "update cron.job set active = false")
	dbtest.Eventually(t, dbtest.Deadline, "no job runs", func() bool {
		return dbtest.Value[int](t, pool, "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'call tinydevcrm.%' and state <> 'idle'") == 0
	})
}

// changed calls the procedure, and returns in how many seconds it wants to be called again; -1 for not at all.
func changed(t *testing.T, pool *sql.DB) float64 {
	t.Helper()
	var after sql.Null[float64]
	if err := pool.QueryRowContext(t.Context(), "call tinydevcrm.refresh_changed()").Scan(&after); err != nil {
		t.Fatal(err)
	}
	if !after.Valid {
		return -1
	}
	return after.V
}

func rowOf(t *testing.T, pool *sql.DB, view string) int {
	t.Helper()
	return dbtest.Value[int](t, pool, "select n from "+view)
}

func refreshesOf(t *testing.T, pool *sql.DB, view string) int {
	t.Helper()
	return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.matview_refresh_events where matview = $1 and schedule_id is not null", "public."+view)
}

// notifications counts the notifications "changed" of what has committed when the function is called.
func notifications(t *testing.T, pool *sql.DB, url string) func() int {
	t.Helper()
	listener := pq.NewListener(url, time.Second, time.Second, nil)
	t.Cleanup(func() { listener.Close() })
	if err := listener.Listen("matview_refresh_channel"); err != nil {
		t.Fatal(err)
	}
	return func() int {
		t.Helper()
		// Notifications come in the order of their commits.
		dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', 'end')")
		count := 0
		for {
			select {
			case got := <-listener.Notify:
				switch {
				case got == nil:
				case got.Extra == "changed":
					count++
				case got.Extra == "end":
					return count
				}
			case <-time.After(dbtest.Deadline):
				t.Fatal("a notification does not arrive")
			}
		}
	}
}

// A change notifies once until it has been looked at. A transaction that did not notify because another change was
// pending, and commits after the look, is found by the next one, which the look has asked for.
func TestLateCommitsAreNotMissed(t *testing.T) {
	t.Parallel()
	pool, server := newOnChange(t)
	stopJobs(t, pool)
	rest(t, pool)
	count := notifications(t, pool, server.URL)
	if after := changed(t, pool); after != -1 {
		t.Errorf("nothing has changed: look again after %v", after)
	}
	dbtest.Exec(t, pool, "insert into t values (1)")
	dbtest.Exec(t, pool, "insert into t values (2)")
	late, err := openPool(t, server.URL).Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if _, err := late.Exec("insert into t values (3)"); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != 1 {
		t.Errorf("two changes notify %d times, want once", got)
	}

	if after := changed(t, pool); after <= 0 || after > 1 {
		t.Errorf("while a transaction runs: look again after %v, want up to a second", after)
	}
	if got := rowOf(t, pool, "w"); got != 3 {
		t.Errorf("w has %d, want 3", got)
	}
	// Views that others read on change notify too.
	if got := count(); got != 1 {
		t.Errorf("the refresh of v notifies %d times, want once", got)
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != 0 {
		t.Fatalf("the late commit notifies: this tests nothing")
	}
	if after := changed(t, pool); after <= 0 || after > 1 {
		t.Errorf("within the interval: look again after %v, want up to a second", after)
	}
	rest(t, pool)
	if after := changed(t, pool); after != -1 || rowOf(t, pool, "w") != 4 {
		t.Errorf("the late commit: %d rows, look again after %v", rowOf(t, pool, "w"), after)
	}
	count()
	dbtest.Exec(t, pool, "insert into t values (4)")
	if got := count(); got != 1 {
		t.Errorf("the next change notifies %d times, want once", got)
	}
}

// Where transactions can be prepared, none of them notifies.
func TestOnChangeWithPreparedTransactions(t *testing.T) {
	t.Parallel()
	pool, server := newOnChange(t)
	server.Set("max_prepared_transactions", "2")
	server.Restart()
	background(t, server.URL, upQuietly...)
	dbtest.Exec(t, pool, "begin; insert into t values (1); prepare transaction 'later'")
	dbtest.Exec(t, pool, "commit prepared 'later'")
	dbtest.Eventually(t, 10*time.Second, "it is seen", func() bool { return rowOf(t, pool, "w") == 2 })
}

// From the insert to the webhook, with one program and with two at once: each change is refreshed and posted once. A
// burst makes few refreshes.
func TestOnChangeIsPrompt(t *testing.T) {
	t.Parallel()
	pool, server := newOnChange(t)
	dbtest.Exec(t, pool, "select tinydevcrm.watch_matview('v', 'changed')")
	mustCommand(t, server.URL, "matview", "refresh", "v")
	rest(t, pool)
	_, one := background(t, server.URL, upWithWebhooks...)
	_, two := background(t, server.URL, upWithWebhooks...)
	hook := newReceiver(t, always(200))
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook', $1, 'v')", hook.url)

	var took []time.Duration
	for i := range 12 {
		if i > 0 {
			time.Sleep(1100 * time.Millisecond)
		}
		before, begun := len(hook.all()), time.Now()
		dbtest.Exec(t, pool, "insert into t values (1)")
		dbtest.Eventually(t, dbtest.Deadline, "the webhook is posted", func() bool { return len(hook.all()) > before })
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("from insert to webhook: median %s, slowest %s", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > 700*time.Millisecond {
		t.Errorf("median %s: it waits for a poll", took[len(took)/2])
	}
	if posts, refreshes := len(hook.all()), refreshesOf(t, pool, "v"); posts != 12 || refreshes != 12 {
		t.Errorf("%d posts and %d refreshes of 12 changes", posts, refreshes)
	}

	begun := time.Now()
	for range 300 {
		dbtest.Exec(t, pool, "insert into t values (2)")
	}
	lasted := time.Since(begun)
	dbtest.Eventually(t, dbtest.Deadline, "the burst is seen", func() bool { return rowOf(t, pool, "w") == 313 })
	if refreshes, most := refreshesOf(t, pool, "v")-12, 3+int(lasted/time.Second); refreshes > most {
		t.Errorf("%d refreshes of a burst of %s, want %d at most", refreshes, lasted, most)
	}
	for _, stderr := range []*output{one, two} {
		if strings.Contains(stderr.String(), "on change") {
			t.Errorf("it warns: %s", stderr)
		}
	}
}

// A view that is paused is not refreshed, and is once the pause ends. One that fails is not tried over and over, and is
// when something changes.
func TestOnChangePausesAndFailures(t *testing.T) {
	t.Parallel()
	pool, server := newOnChange(t)
	background(t, server.URL, upQuietly...)
	mustCommand(t, server.URL, "matview", "pause", "v")
	dbtest.Exec(t, pool, "insert into t values (1)")
	time.Sleep(1500 * time.Millisecond)
	if got := rowOf(t, pool, "v"); got != 0 {
		t.Errorf("v is paused and has %d", got)
	}
	mustCommand(t, server.URL, "matview", "resume", "v")
	dbtest.Eventually(t, 15*time.Second, "it goes on", func() bool { return rowOf(t, pool, "w") == 2 })

	mustCommand(t, server.URL, "matview", "create", "f", "select 1 / (n - 5) as n from t")
	mustCommand(t, server.URL, "matview", "schedule", "f", "on change")
	dbtest.Exec(t, pool, "insert into t values (5)")
	outcome := func() string {
		return dbtest.Value[string](t, pool, "select last_outcome || ' ' || failure_count from tinydevcrm.matviews where relation = 'f'::regclass")
	}
	dbtest.Eventually(t, 15*time.Second, "it fails", func() bool { return outcome() == "failed 1" })
	time.Sleep(3 * time.Second)
	if got := outcome(); got != "failed 1" {
		t.Errorf("without a change: %s", got)
	}
	dbtest.Exec(t, pool, "delete from t where n = 5")
	dbtest.Eventually(t, 15*time.Second, "it recovers", func() bool { return outcome() == "recovered 0" })
}

// The program ends in the middle of a refresh: that refresh is finished, or made again, and nothing is missed.
func TestOnChangeSurvivesTheProgram(t *testing.T) {
	t.Parallel()
	pool, server := newOnChange(t)
	dbtest.Exec(t, pool, "create table knobs as select 0.0::float8 as seconds")
	mustCommand(t, server.URL, "matview", "create", "slow", "select count(*) as n, (select pg_sleep(seconds)::text from knobs) as slept from t")
	// As if it could be tracked.
	dbtest.Exec(t, pool, "select tinydevcrm.track_table('knobs')")
	dbtest.Exec(t, pool, "update tinydevcrm.matviews set untracked_reason = null where relation = 'slow'::regclass")
	mustCommand(t, server.URL, "matview", "schedule", "slow", "on change")
	rest(t, pool)
	dbtest.Exec(t, pool, "update knobs set seconds = 1.5")
	_, _, end := begin(t, server.URL, upQuietly...)
	dbtest.Exec(t, pool, "insert into t values (1)")
	dbtest.Eventually(t, dbtest.Deadline, "it refreshes", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from pg_stat_activity where wait_event = 'PgSleep')")
	})
	end()
	if got := rowOf(t, pool, "slow"); got != 1 {
		t.Errorf("the refresh that was under way was not finished: %d", got)
	}

	// Killed: the server notices nothing, and finishes. A session that ends is the worst case.
	background(t, server.URL, upQuietly...)
	dbtest.Exec(t, pool, "insert into t values (2)")
	dbtest.Eventually(t, dbtest.Deadline, "it refreshes again", func() bool {
		return dbtest.Value[bool](t, pool, "select coalesce(bool_or(pg_terminate_backend(pid)), false) from pg_stat_activity where wait_event = 'PgSleep'")
	})
	dbtest.Exec(t, pool, "update knobs set seconds = 0")
	dbtest.Eventually(t, dbtest.Deadline, "the others go on", func() bool { return rowOf(t, pool, "w") == 3 })
	dbtest.Eventually(t, dbtest.Deadline, "its end is an event", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from tinydevcrm.matview_refresh_events where error_code = '57P01' and matview = 'public.slow')")
	})
	dbtest.Exec(t, pool, "update tinydevcrm.matviews set last_refreshed_at = last_refreshed_at - interval '1 minute', last_scheduled_at = last_scheduled_at - interval '1 minute'")
	dbtest.Eventually(t, dbtest.Deadline, "it is made again", func() bool { return rowOf(t, pool, "slow") == 2 })
}

// Without the program, pg_cron refreshes within a minute. With it, views of users are refreshed by their own jobs, in
// sessions that have logged in as them, and one user's flood does not delay another's.
func TestOnChangeOfUsers(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := openPool(t, server.URL)
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	users := map[string]*sql.DB{"ann": open(t, server.URL, "ann"), "eve": open(t, server.URL, "eve")}
	for name, user := range users {
		dbtest.Exec(t, user, "create table t (n integer)")
		dbtest.Exec(t, user, "select tinydevcrm.create_matview('v', 'select count(*)::integer as n from t')")
		// Code of the owner, which runs as the role that refreshes.
		dbtest.Exec(t, user, fmt.Sprintf(`
			create function mine(n integer) returns integer language plpgsql immutable as $$
			begin
			    if session_user <> '%[1]s' or current_user <> '%[1]s' then raise 'ran as %% of %%', current_user, session_user; end if;
			    return n;
			end $$`, name))
		dbtest.Exec(t, user, "create index on v (mine(n))")
		dbtest.Exec(t, user, "select tinydevcrm.schedule_matview('v', 'on change')")
	}
	ann, eve := users["ann"], users["eve"]
	dbtest.Exec(t, ann, "insert into t values (1)")
	dbtest.Eventually(t, 100*time.Second, "pg_cron alone refreshes", func() bool { return rowOf(t, ann, "v") == 1 })

	background(t, server.URL, upQuietly...)
	ctx, stop := context.WithCancel(t.Context())
	flood := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			_, _ = eve.ExecContext(ctx, "insert into t select 1 from generate_series(1, 100)")
		}
		flood <- nil
	}()
	var took []time.Duration
	for range 5 {
		time.Sleep(1100 * time.Millisecond)
		want := rowOf(t, ann, "v") + 1
		begun := time.Now()
		dbtest.Exec(t, ann, "insert into t values (1)")
		dbtest.Eventually(t, 100*time.Second, "ann's job refreshes", func() bool { return rowOf(t, ann, "v") == want })
		took = append(took, time.Since(begun))
	}
	stop()
	<-flood
	t.Logf("beside a flood of eve's: %s", took)
	if slices.Sort(took); took[2] > 5*time.Second {
		t.Errorf("median %s", took[2])
	}
	if failed := dbtest.Value[int](t, super, "select count(*) from tinydevcrm.matview_refresh_events where outcome = 'failed'"); failed > 0 {
		t.Errorf("%d refreshes fail: %s", failed, dbtest.Value[string](t, super, "select max(error_message) from tinydevcrm.matview_refresh_events where outcome = 'failed'"))
	}
	dbtest.Eventually(t, 100*time.Second, "eve's job refreshes", func() bool {
		return dbtest.Value[bool](t, eve, "select n = (select count(*) from t) from v")
	})
	if !dbtest.Value[bool](t, super, "select tinydevcrm._cron_has_seconds()") {
		return
	}
	dbtest.Eventually(t, 100*time.Second, "the jobs rest", func() bool {
		return dbtest.Value[int](t, super, "select count(*) from cron.job where schedule = '1 second'") == 0
	})
}
