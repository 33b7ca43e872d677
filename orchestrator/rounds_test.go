package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A bench is a server of its own with views on one schedule that pg_cron runs once a year.
type roundBench struct {
	*testing.T
	server *dbtest.Server
	pool   *sql.DB
}

// newRoundBench creates the views in the order in which a round refreshes them. Its session ends no statement by
// itself.
func newRoundBench(t *testing.T, views ...string) roundBench {
	t.Helper()
	server := dbtest.NewMigrated(t)
	b := roundBench{t, server, openPool(t, server.URL)}
	// Upkeep would have what a round has left refreshed.
	b.exec("select cron.unschedule(jobid) from cron.job")
	b.exec("create table knobs as select false as kills, 0.0::double precision as seconds")
	for _, view := range views {
		name, query, _ := strings.Cut(view, ": ")
		b.exec("select tinydevcrm.create_matview($1, $2, 'always')", name, query)
		b.exec("select tinydevcrm.schedule_matview($1::text::regclass, '0 0 1 1 *')", name)
	}
	return b
}

func (b roundBench) exec(statement string, args ...any) {
	b.Helper()
	dbtest.Exec(b.T, b.pool, statement, args...)
}

// round makes all views due and runs the schedule in a session of its own, in which the settings are made first.
func (b roundBench) round(isSlow bool, settings ...string) (time.Duration, error) {
	b.Helper()
	b.exec("update tinydevcrm.matviews set last_scheduled_at = null")
	return b.rest(isSlow, settings...)
}

// rest runs the schedule with the views that are due.
func (b roundBench) rest(isSlow bool, settings ...string) (time.Duration, error) {
	b.Helper()
	var id int64
	if err := b.pool.QueryRow("select id from tinydevcrm.schedules where is_slow = $1", isSlow).Scan(&id); err != nil {
		return 0, err
	}
	start := time.Now()
	err := b.run(fmt.Sprintf("call tinydevcrm.refresh_scheduled(%d)", id), settings...)
	return time.Since(start), err
}

// run runs a statement in a session of its own, in which the settings are made first, and not again when it ends. A
// session that the statement has ended is gone afterwards, with its locks: the server tells the client before.
func (b roundBench) run(statement string, settings ...string) error {
	b.Helper()
	// A round that never ends fails the test.
	ctx, cancel := context.WithTimeout(b.Context(), 25*time.Second)
	defer cancel()
	pool, err := db.Open(ctx, b.server.URL, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	// database/sql would run a statement again that has ended its session.
	session, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	for _, statement := range append([]string{"set statement_timeout = 0"}, settings...) {
		if _, err := session.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	var pid int
	if err := session.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		return err
	}
	_, err = session.ExecContext(ctx, statement)
	if refused, ok := errors.AsType[*pq.Error](err); ok && refused.Code == "57P01" {
		dbtest.Eventually(b.T, dbtest.Deadline, "the session is gone", func() bool {
			var count int
			return b.pool.QueryRow("select count(*) from pg_stat_activity where pid = $1", pid).Scan(&count) == nil && count == 0
		})
	}
	return err
}

// mustRound is a round that ends without an error.
func (b roundBench) mustRound(settings ...string) time.Duration {
	b.Helper()
	took, err := b.round(false, settings...)
	if err != nil {
		b.Fatalf("the round: %v", err)
	}
	return took
}

// outcomes are the events of schedules and requests since the last call, in their order: "a refreshed".
func (b roundBench) outcomes() string {
	b.Helper()
	return dbtest.Value[string](b.T, b.pool, `
		with taken as (delete from tinydevcrm.matview_refresh_events returning *)
		select coalesce(string_agg(concat_ws(' ', split_part(matview, '.', 2), outcome, error_code), ', ' order by id), '') from taken`)
}

// lastMessage is that of the last failure.
func (b roundBench) lastMessage() string {
	b.Helper()
	return dbtest.Value[string](b.T, b.pool, "select error_message from tinydevcrm.matview_refresh_events where outcome = 'failed' order by id desc limit 1")
}

func (b roundBench) want(what, got, want string) {
	b.Helper()
	if got != want {
		b.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A reader in an open transaction stops the view that it has read, for a short time, and no other view. The event
// names the reader. While the reader stays, nobody queues behind the refresh.
func TestABlockedRefreshStopsNobody(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t, "a: select 1 as n", "b: select 2 as n", "c: select 3 as n", "d: select n from b")
	b.exec("update tinydevcrm.settings set refresh_lock_timeout = '2 seconds'")
	b.outcomes()
	reader := openPool(t, b.server.URL)
	dbtest.Exec(t, reader, "set application_name = 'late reader'")
	tx := held(t, reader, "select from a, c")
	var pid int
	if err := tx.QueryRow("select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}

	took := b.mustRound()
	if message := b.lastMessage(); !regexp.MustCompile(fmt.Sprintf(
		`^did not wait for a lock on public\.c that session %d \(role postgres, application late reader\) holds since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d`, pid)).MatchString(message) {
		t.Errorf("c says %q", message)
	}
	if message := dbtest.Value[string](t, b.pool, "select error_message from tinydevcrm.matview_status where relation = 'a'::regclass and status = 'failing'"); !strings.HasPrefix(
		message, fmt.Sprintf("waited 2 s for a lock on public.a that session %d (role postgres,", pid)) {
		t.Errorf("a says %q", message)
	}
	b.want("a round beside the reader", b.outcomes(), "a failed 55P03, b refreshed, c failed 55P03, d refreshed")
	if took < 2*time.Second || took >= 4*time.Second {
		t.Errorf("it took %s, want one wait of two seconds", took)
	}

	// The next one does not queue at all, and takes what is blocked last.
	took = b.mustRound("set lock_timeout = '3s'")
	b.want("the next round", b.outcomes(), "b refreshed, d refreshed, a failed 55P03, c failed 55P03")
	if took >= 2*time.Second {
		t.Errorf("it took %s, want no wait", took)
	}

	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	b.mustRound()
	b.want("without the reader", b.outcomes(), "b refreshed, d refreshed, a recovered, c recovered")
	b.mustRound()
	b.want("the order after that", b.outcomes(), "b refreshed, a refreshed, c refreshed, d refreshed")
}

// The wait is bounded whatever is locked: a table that the query reads, by a waiting session too; for a refresh by hand
// by the session's own lock_timeout.
func TestEveryWaitOfARefreshIsNamed(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t, "a: select count(*) as n from knobs")
	b.exec("update tinydevcrm.settings set refresh_lock_timeout = '300 ms'")
	other := openPool(t, b.server.URL)
	for _, test := range []struct{ holds, waits, own, want string }{
		{"lock table knobs in access exclusive mode", "", "0", "waited 0.3 s for a lock on public.knobs that session %d (role postgres) "},
		{"select from a", "", "200ms", "waited 0.2 s for a lock on public.a that session %d (role postgres) "},
		{"select from knobs", "alter table knobs add column x integer", "0", "waited 0.3 s for a lock on public.knobs that session %[2]d (role postgres) "},
	} {
		tx := held(t, openPool(t, b.server.URL), test.holds)
		var holder, waiter int
		if err := tx.QueryRow("select pg_backend_pid()").Scan(&holder); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		if test.waits != "" {
			waiter = dbtest.Value[int](t, other, "select pg_backend_pid()")
			go func() {
				_, err := other.Exec(test.waits)
				waited <- err
			}()
			dbtest.Eventually(t, dbtest.Deadline, "it waits", func() bool {
				return dbtest.Value[bool](t, b.pool, "select exists (select from pg_locks where not granted and pid = $1)", waiter)
			})
		}
		b.exec("select set_config('lock_timeout', $1, false)", test.own)
		message := dbtest.Value[string](t, b.pool, "select outcome || ': ' || error_message from tinydevcrm.refresh_matview('a')")
		if want := "failed: " + fmt.Sprintf(strings.ReplaceAll(test.want, "%d", "%[1]d")+"%[3]s", holder, waiter, ""); !strings.HasPrefix(message, want) {
			t.Errorf("%s: %q, want %q", test.holds, message, want)
		}
		if own := dbtest.Value[string](t, b.pool, "show lock_timeout"); own != test.own {
			t.Errorf("the session's lock_timeout is %s afterwards", own)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if test.waits != "" {
			if err := <-waited; err != nil {
				t.Error(err)
			}
		}
	}
}

// A view whose query ends its session is named, comes last, and after a pause; the others are refreshed.
func TestAQueryThatEndsItsSession(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t,
		"p: select pg_terminate_backend(pg_backend_pid())::text from knobs where kills",
		"b: select 1 as n",
		"c: select 2 as n")
	b.exec("update knobs set kills = true")
	b.outcomes()
	if _, err := b.round(false); err == nil {
		t.Fatal("the first round does not end its session")
	}
	b.want("the round that ends its session", b.outcomes(), "")

	b.mustRound()
	b.want("the next round", b.outcomes(), "p failed 57P01, b refreshed, c refreshed")
	b.want("the status", dbtest.Value[string](t, b.pool, "select status || ': ' || last_outcome || ' ' || ended_count from tinydevcrm.matview_status join tinydevcrm.matviews using (relation) where relation = 'p'::regclass"), "failing: failed 1")
	b.mustRound()
	b.want("the round after that", b.outcomes(), "b refreshed, c refreshed")

	// It has a job of its own now, and a pause.
	if _, err := b.round(true); err != nil {
		t.Fatalf("a round within the pause: %v", err)
	}
	b.exec("update tinydevcrm.matviews set last_refreshed_at = now() - interval '31 seconds' where relation = 'p'::regclass")
	if _, err := b.round(true); err == nil {
		t.Fatal("it is not refreshed after its pause")
	}
	if _, err := b.round(true); err != nil {
		t.Fatal(err)
	}
	b.want("the second end", b.outcomes(), "p failed 57P01")
	b.exec("update knobs set kills = false")
	b.exec("update tinydevcrm.matviews set last_refreshed_at = now() - interval '59 seconds' where relation = 'p'::regclass")
	if _, err := b.round(true); err != nil {
		t.Fatal(err)
	}
	b.want("a longer pause", b.outcomes(), "")
	b.exec("update tinydevcrm.matviews set last_refreshed_at = now() - interval '61 seconds' where relation = 'p'::regclass")
	if _, err := b.round(true); err != nil {
		t.Fatal(err)
	}
	b.want("healed", b.outcomes(), "p recovered")
	b.want("its count and job", dbtest.Value[string](t, b.pool, "select ended_count || ' ' || is_slow from tinydevcrm.matviews where relation = 'p'::regclass"), "0 false")
}

// What a round has left because its session ended is refreshed within a minute, however far the next round is.
func TestTheRestOfARoundThatEndedIsRefreshed(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t,
		"a: select 0 as n",
		"p: select pg_terminate_backend(pg_backend_pid())::text from knobs where kills",
		"b: select 1 as n",
		"c: select 2 as n")
	b.exec("update knobs set kills = true")
	b.outcomes()
	if _, err := b.round(false); err == nil {
		t.Fatal("the round does not end its session")
	}
	b.exec("call tinydevcrm.settle_jobs()")
	b.exec("select cron.unschedule(jobid) from cron.job")
	if err := b.run("call tinydevcrm.refresh_requested()"); err != nil {
		t.Error(err)
	}
	b.want("the rest of the round", b.outcomes(), "a refreshed, p failed 57P01, b refreshed, c refreshed")
	b.exec("call tinydevcrm.settle_jobs()")
	b.want("what is still requested", dbtest.Value[string](t, b.pool, "select count(*)::text from tinydevcrm.refresh_requests"), "0")
}

// The same when the whole server goes down, by the end of one process or of all.
func TestAServerThatCrashesInARefresh(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t, "b: select 1 as n", "p: select pg_sleep(seconds)::text from knobs", "c: select 2 as n")
	for what, crash := range map[string]func(pid int){
		"a process is killed": func(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) },
		"the postmaster is":   func(int) { b.server.Crash(); b.server.Start() },
	} {
		b.exec("update knobs set seconds = 20")
		b.exec("update tinydevcrm.matviews set ended_count = 0, last_outcome = null, is_slow = false, last_refreshed_at = null")
		b.outcomes()
		ended := make(chan error, 1)
		go func() {
			_, err := b.round(false)
			ended <- err
		}()
		var pid int
		dbtest.Eventually(t, dbtest.Deadline, "the refresh runs", func() bool {
			return b.pool.QueryRow("select pid from pg_stat_activity where wait_event = 'PgSleep' and query ~ 'refresh_scheduled'").Scan(&pid) == nil
		})
		crash(pid)
		if err := <-ended; err == nil {
			t.Fatal("the round has ended well")
		}
		// The postmaster may notice the killed process only after a session has answered once more.
		dbtest.Eventually(t, dbtest.Deadline, "the server is back, and refreshes the rest", func() bool {
			if _, err := b.pool.Exec("update knobs set seconds = 0"); err != nil {
				return false
			}
			_, err := b.rest(false)
			return err == nil
		})
		// When the next minute has begun meanwhile, b is due again.
		b.want(what, strings.TrimSuffix(b.outcomes(), ", b refreshed"), "b refreshed, p failed 57P01, c refreshed")
	}
}

// A requested refresh that ends the session of its job is recorded, and the request is gone.
func TestARequestThatEndsItsSession(t *testing.T) {
	t.Parallel()
	super, ann, _ := tenants(t)
	dbtest.Exec(t, ann, "create table knobs as select false as kills")
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('p', 'select pg_terminate_backend(pg_backend_pid())::text from knobs where kills')")
	dbtest.Exec(t, ann, "update knobs set kills = true")
	dbtest.Exec(t, super, "select cron.unschedule(jobid) from cron.job")
	dbtest.Exec(t, super, "select tinydevcrm.refresh_matview('ann.p'), tinydevcrm.refresh_matview('ann.v')")
	dbtest.Exec(t, super, "select cron.unschedule(jobid) from cron.job")
	dbtest.Exec(t, super, "update tinydevcrm.refresh_requests set matview_id = matview_id")
	ended := 0
	for range 3 {
		// database/sql would run a statement again that has ended its session.
		session, err := ann.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.ExecContext(t.Context(), "call tinydevcrm.refresh_requested()"); err != nil {
			ended++
		}
		session.Close()
	}
	outcomes := dbtest.Value[string](t, super, `
		select string_agg(concat_ws(' ', matview, outcome, error_code), ', ' order by matview, id)
		  from tinydevcrm.matview_refresh_events
		 where id > (select max(id) from tinydevcrm.matview_refresh_events where schedule_id is null and outcome = 'refreshed' and matview = 'eve.v')`)
	if left := dbtest.Value[int](t, super, "select count(*) from tinydevcrm.refresh_requests"); ended != 1 || left != 0 ||
		outcomes != "ann.p failed 57P01, ann.v refreshed" {
		t.Errorf("%d sessions were ended, %d requests are left, and the events are %q", ended, left, outcomes)
	}
}

// statement_timeout bounds each refresh, though Postgres counts it from the call of the job on. The event names the
// view and the limit.
func TestStatementTimeoutBoundsEachRefresh(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t, "a: select pg_sleep(seconds / 5)::text from knobs", "b: select pg_sleep(seconds)::text from knobs",
		"c: select pg_sleep(seconds)::text from knobs", "d: select pg_sleep(seconds * 20)::text from knobs", "e: select 1 as n")
	b.exec("update knobs set seconds = 0.6")
	b.outcomes()
	_, stderr := background(t, b.server.URL, "up", "--listen-addr", "localhost:0")
	dbtest.Eventually(t, dbtest.Deadline, "ready", func() bool { return strings.Contains(stderr.String(), `"msg":"ready"`) })
	took := b.mustRound("set statement_timeout = '1s'")
	if message := b.lastMessage(); !regexp.MustCompile(`^public\.d was canceled after [12]\.\d s: statement_timeout of role postgres is 1s$`).MatchString(message) {
		t.Errorf("d says %q", message)
	}
	b.want("a round", b.outcomes(), "a refreshed, b refreshed, c refreshed, d failed 57014, e refreshed")
	if took > 8*time.Second {
		t.Errorf("it took %s", took)
	}

	// A refresh that the timer of another one has ended has its whole time again.
	b.exec("update tinydevcrm.matviews set is_paused = true where relation = 'd'::regclass")
	b.exec("update knobs set seconds = 1.75")
	b.mustRound("set statement_timeout = '2s'")
	b.want("a round of long ones", b.outcomes(), "a refreshed, b refreshed, c refreshed, e refreshed")

	// The timer itself hits the right view.
	b.exec("update knobs set seconds = 25")
	b.exec("update tinydevcrm.matviews set is_paused = true where relation not in ('a'::regclass, 'e'::regclass)")
	b.mustRound("set statement_timeout = '1s'")
	if message := b.lastMessage(); !regexp.MustCompile(`^public\.a was canceled after (0\.[5-9]|1\.\d) s: statement_timeout of role postgres is 1s`).MatchString(message) {
		t.Errorf("a says %q", message)
	}
	b.want("the first one is too long", b.outcomes(), "a failed 57014, e refreshed")

	// So does the limit of the product, without a statement_timeout.
	b.exec("update tinydevcrm.settings set refresh_timeout = '1 second'")
	b.mustRound()
	if message := b.lastMessage(); !strings.Contains(message, "s: refresh_timeout of tinydevcrm.settings is 00:00:01") {
		t.Errorf("a says %q", message)
	}
	b.want("refresh_timeout", b.outcomes(), "a failed 57014, e refreshed")
	if log := stderr.String(); strings.Count(log, `"msg":"canceled a refresh"`) < 2 || !strings.Contains(log, "longer than 00:00:01") {
		t.Errorf("the log does not say what was canceled: %s", log)
	}
}
