package main

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// newClocked makes a server on which pg_cron is not loaded, with all migrations.
func newClocked(t *testing.T) (pool *sql.DB, url string) {
	t.Helper()
	pool, server := newClockedServer(t)
	return pool, server.URL
}

func newClockedServer(t *testing.T) (*sql.DB, *dbtest.Server) {
	t.Helper()
	server := dbtest.NewServer(t)
	server.Set("shared_preload_libraries", "plpgsql")
	server.Stop()
	server.StartWithoutCron()
	if _, stderr, err := command(t, server.URL, "", "migrate", "up"); err == nil || !strings.Contains(stderr, "up --clock") {
		t.Fatalf("without pg_cron and --clock: %v, %s", err, stderr)
	}
	mustCommand(t, server.URL, "migrate", "up", "--clock")
	pool, err := db.Open(t.Context(), server.URL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool, server
}

// Of two orchestrators one is the clock. When it is killed, the other takes over, and no round is lost or doubled.
func TestClockKeepsTheRhythmWhenItIsKilled(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	pool, url := newClocked(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select clock_timestamp() as t')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '5 seconds')")

	stall := watchStalls(t, pool)
	processes := startClocks(t, url, "one", "two")
	leader := func() string {
		return dbtest.Value[string](t, pool, `
			select coalesce(max(application_name), '') from pg_stat_activity where pid = tinydevcrm._find_clock()`)
	}
	rounds := func() int {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null")
	}
	dbtest.Eventually(t, 2*dbtest.Deadline, "three rounds", func() bool { return rounds() >= 3 })

	first := leader()
	killed := time.Now()
	processes[first].Process.Kill()
	dbtest.Eventually(t, 10*time.Second, "the other orchestrator is the clock", func() bool {
		now := leader()
		return now != "" && now != first
	})
	taken := time.Now()
	t.Logf("%s is the clock %s after %s was killed", leader(), taken.Sub(killed).Round(time.Millisecond), first)
	before := rounds()
	dbtest.Eventually(t, 2*dbtest.Deadline, "three more rounds", func() bool { return rounds() >= before+3 })
	// A cron expression: that of upkeep.
	dbtest.Eventually(t, 3*dbtest.Deadline, "a full minute", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from cron.job_run_details where command ~ 'settle' and status = 'succeeded')")
	})

	checkRounds(t, pool, killed, taken)
	checkStarts(t, pool, killed, taken, stall())
	if findings := dbtest.Column[string](t, pool, "select finding from tinydevcrm.check_installation() where not is_ok"); len(findings) > 0 {
		t.Errorf("check_installation() finds %q", findings)
	}
	if tables := dbtest.Value[int](t, pool, "select (select count(*) from tinydevcrm._list_tables('', row_limit => 100)) + (select count(*) from tinydevcrm._list_names(100, 1) where relation::text ~ 'job')"); tables != 0 {
		t.Errorf("%d of our tables are shown among those of the user", tables)
	}
}

// startClocks starts orchestrators as processes, each of which may be killed.
func startClocks(t *testing.T, url string, names ...string) map[string]*exec.Cmd {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "orchestrator")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	processes := make(map[string]*exec.Cmd)
	for _, name := range names {
		process := exec.Command(binary, "up", "--clock", "--listen-addr", "localhost:0")
		process.Env = append(os.Environ(), "DATABASE_URL="+url+"&application_name="+name)
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { process.Process.Kill(); process.Wait() })
		processes[name] = process
	}
	return processes
}

// watchStalls returns a function that ends the watch, and returns by how much a timer and a short statement were late at
// worst: what the machine does to every program.
func watchStalls(t *testing.T, pool *sql.DB) func() time.Duration {
	t.Helper()
	const every = 100 * time.Millisecond
	done, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		var late time.Duration
		for {
			began := time.Now()
			select {
			case <-done:
				worst <- late
				return
			case <-time.After(every):
			}
			if _, err := pool.ExecContext(t.Context(), "select 1"); err != nil {
				t.Errorf("watch for stalls: %v", err)
			}
			late = max(late, time.Since(began)-every)
		}
	}()
	return sync.OnceValue(func() time.Duration { close(done); return <-worst })
}

// checkStarts checks that jobs begin when they are due, but for those that are due while there is no clock: half of them
// within 0.1 seconds, and all within half a second and the machine's own stall.
func checkStarts(t *testing.T, pool *sql.DB, from, to time.Time, stall time.Duration) {
	t.Helper()
	var count int
	var median, most float64
	if err := pool.QueryRowContext(t.Context(), `
		select count(*), percentile_cont(0.5) within group (order by late), max(late)
		  from (
		    select extract(epoch from start_time - due_at) as late
		      from cron.job_run_details
		     where due_at not between $1::timestamptz - interval '1 second' and $2
		  ) as starts`, from, to).Scan(&count, &median, &most); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d jobs begin within %.3f s, half of them within %.3f s; the machine stalls for %.3f s", count, most, median, stall.Seconds())
	if count < 5 || median > 0.1 || most > 0.5+stall.Seconds() {
		t.Errorf("%d jobs begin up to %.3f s late, half of them %.3f s; the machine stalls for %.3f s", count, most, median, stall.Seconds())
	}
}

// checkRounds checks that each round of five seconds has one refresh, but for those that are wholly between two times.
func checkRounds(t *testing.T, pool *sql.DB, from, to time.Time) {
	t.Helper()
	if wrong := dbtest.Value[string](t, pool, `
		with rounds as (
		    select floor(extract(epoch from started_at) / 5)::bigint as round
		      from tinydevcrm.matview_refresh_events
		     where schedule_id is not null
		)
		select coalesce(string_agg(format('round %s has %s refreshes', round - (select min(round) from rounds), count), ', '), '')
		  from (
		    select round, (select count(*) from rounds where rounds.round = every.round) as count
		      from generate_series((select min(round) from rounds), (select max(round) from rounds)) as every (round)
		  ) as counted
		 where count > 1
		    or count = 0 and (to_timestamp(round * 5) < $1 or to_timestamp(round * 5 + 5) > $2)`, from, to); wrong != "" {
		t.Error(wrong)
	}
}

// A run that a clock has left is run again for its own time, so that what it has done is not done twice.
func TestClockRepeatsWhatAnotherLeft(t *testing.T) {
	t.Parallel()
	pool, url := newClocked(t)
	t.Run("only what was left", func(t *testing.T) {
		dbtest.Exec(t, pool, "select tinydevcrm.create_matview(name, 'select clock_timestamp() as t') from unnest(array['done', 'undone']) as name")
		dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview(relation, '* * * * *') from tinydevcrm.matviews")
		// The clock was killed while the job ran, just before a full minute, and one of the two views was refreshed.
		dbtest.Exec(t, pool, `
			insert into cron.job_run_details (jobid, username, command, status, start_time, due_at)
			select jobid, username, command, 'running', due_at, due_at
			  from cron.job, (select clock_timestamp() - interval '55 seconds' as due_at) as due
			 where command ~ 'refresh_scheduled'`)
		dbtest.Exec(t, pool, "update tinydevcrm.matviews set last_scheduled_at = clock_timestamp() where relation = 'done'::regclass")
		dbtest.Exec(t, pool, "update cron.job set next_at = 'infinity'")

		_, _, end := begin(t, url, "up", "--clock", "--listen-addr", "localhost:0")
		dbtest.Eventually(t, dbtest.Deadline, "the job is run again", func() bool {
			return dbtest.Value[bool](t, pool, "select count(*) = 2 and bool_and(end_time is not null) from cron.job_run_details where command ~ 'refresh_scheduled'")
		})
		end()
		if got := dbtest.Value[string](t, pool, `
			select coalesce(string_agg(matview, ' '), '') from tinydevcrm.matview_refresh_events where schedule_id is not null`); got != "public.undone" {
			t.Errorf("refreshed again: %s", got)
		}
		if got := dbtest.Value[string](t, pool, "select string_agg(status || ' ' || return_message, ', ' order by runid) from cron.job_run_details where command ~ 'refresh_scheduled'"); got !=
			"failed the orchestrator that ran it has ended, succeeded CALL" {
			t.Errorf("the runs: %s", got)
		}
	})

	t.Run("nothing that is over a minute late", func(t *testing.T) { checkLateJobs(t, pool) })
	mustCommand(t, url, "migrate", "down", "--all")
	if left := dbtest.Value[int](t, pool, "select count(*) from pg_namespace where nspname in ('cron', 'tinydevcrm')"); left != 0 {
		t.Errorf("down --all leaves %d schemas", left)
	}
}

func checkLateJobs(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Exec(t, pool, "update cron.job set next_at = clock_timestamp() - interval '2 minutes'")
	conn, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The session of the program that has ended may still be there for a moment.
	dbtest.Eventually(t, dbtest.Deadline, "this session is the clock", func() (isClock bool) {
		if err := conn.QueryRowContext(t.Context(), "select tinydevcrm._keep_clock()").Scan(&isClock); err != nil {
			t.Fatal(err)
		}
		return isClock
	})
	var taken int
	if err := conn.QueryRowContext(t.Context(), "select count(*) from tinydevcrm._take_due_jobs('{}', 100) where command ~ 'refresh'").Scan(&taken); err != nil || taken != 0 {
		t.Errorf("%d jobs are taken: %v", taken, err)
	}
	if upkeep := dbtest.Value[int](t, pool, "select count(*) from cron.job_run_details where command !~ 'refresh' and end_time is null"); upkeep != 2 {
		t.Errorf("the new clock does %d jobs of upkeep, want 2", upkeep)
	}
	if ahead := dbtest.Value[bool](t, pool, "select bool_and(next_at between clock_timestamp() and clock_timestamp() + interval '10 minutes') from cron.job"); !ahead {
		t.Error("a job is not due again")
	}

	// A session that is paused for eight seconds is the clock no more.
	dbtest.Exec(t, pool, "update tinydevcrm._locks set marked_at = clock_timestamp() - interval '9 seconds' where what = 'clock'")
	dbtest.Exec(t, pool, "update cron.job set next_at = clock_timestamp()")
	if !dbtest.Value[bool](t, pool, "select tinydevcrm._keep_clock()") {
		t.Error("another session does not become the clock")
	}
	if err := conn.QueryRowContext(t.Context(), "select count(*) from tinydevcrm._take_due_jobs('{}', 100)").Scan(&taken); err != nil || taken != 0 {
		t.Errorf("the session that was the clock takes %d jobs: %v", taken, err)
	}
}

// A user cannot stop the clock, nor be it. Jobs run in sessions of their owners.
func TestClockAndUsers(t *testing.T) {
	t.Parallel()
	pool, url := newClocked(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")
	ann, err := db.Open(t.Context(), strings.Replace(url, "user=postgres", "user=ann", 1), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Close()
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('v', 'select session_user::text as who, clock_timestamp() as t')")
	dbtest.Exec(t, ann, "select tinydevcrm.schedule_matview('v', '1 second')")
	for _, statement := range []string{
		"select tinydevcrm._keep_clock()", "select * from tinydevcrm._take_due_jobs('{}', 1)", "select tinydevcrm._end_run(1, null)",
		"select * from cron.job", "select cron.schedule('* * * * *', 'select 1')", "select cron.unschedule(1)",
	} {
		if _, err := ann.ExecContext(t.Context(), statement); err == nil || db.Explain(err).Code != "42501" {
			t.Errorf("%s: %v", statement, err)
		}
	}

	background(t, url, "up", "--clock", "--listen-addr", "localhost:0")
	dbtest.Eventually(t, dbtest.Deadline, "ann's view is refreshed by its schedule", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from tinydevcrm.matview_refresh_events where schedule_id is not null and outcome = 'refreshed')")
	})
	if who := dbtest.Value[string](t, ann, "select who from v"); who != "ann" {
		t.Errorf("the view of ann was refreshed as %s", who)
	}
	for _, statement := range []string{
		"with locked as (select from tinydevcrm._locks where what = 'clock' for update) select count(*) from locked",
		"with locked as (update tinydevcrm._locks set matview_ids = null where what = 'clock' returning 1) select count(*) from locked",
	} {
		if rows := dbtest.Value[int](t, ann, statement); rows != 0 {
			t.Errorf("%s: %d rows", statement, rows)
		}
	}

	dbtest.Exec(t, pool, "alter role ann nologin")
	dbtest.Eventually(t, dbtest.Deadline, "a job that cannot log in has failed", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from cron.job_run_details where username = 'ann' and status = 'failed' and return_message ~ 'log in')")
	})
}

// A database that began without pg_cron can have it later.
func TestClockLeavesToPgCron(t *testing.T) {
	t.Parallel()
	pool, server := newClockedServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select clock_timestamp() as t')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '* * * * *')")
	if _, err := pool.ExecContext(t.Context(), "select tinydevcrm.use_pg_cron()"); err == nil {
		t.Error("pg_cron is used though it is not loaded")
	}
	server.Set("shared_preload_libraries", "pg_cron")
	server.Restart()
	dbtest.Exec(t, pool, "select tinydevcrm.use_pg_cron()")
	if findings := dbtest.Column[string](t, pool, "select finding from tinydevcrm.check_installation() where not is_ok"); len(findings) > 0 {
		t.Errorf("check_installation() finds %q", findings)
	}
	if jobs := dbtest.Value[string](t, pool, "select string_agg(command, ' ' order by command) from cron.job"); jobs !=
		"call tinydevcrm.refresh_scheduled(1) call tinydevcrm.remove_expired() call tinydevcrm.settle_jobs()" {
		t.Errorf("the jobs of pg_cron: %s", jobs)
	}
	dbtest.Eventually(t, 90*time.Second, "pg_cron refreshes the view", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from tinydevcrm.job_runs where status = 'succeeded')")
	})
	mustCommand(t, server.URL, "migrate", "down", "--all")
}

// Where pg_cron is in another database of the server, it runs the jobs, and goes on without the orchestrator.
func TestClockOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	cron := openPool(t, server.URL)
	dbtest.Exec(t, cron, "create database other")
	dbtest.Exec(t, cron, "create extension pg_cron")
	dbtest.Exec(t, cron, "select cron.schedule('mine', '0 0 1 1 *', 'select 1')")
	other := strings.Replace(server.URL, "/tinydevcrm?", "/other?", 1)
	mustCommand(t, other, "migrate", "up", "--clock")
	pool := openPool(t, other)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select clock_timestamp() as t')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '* * * * *')")
	if _, stderr, err := command(t, other, "", "up", "--cron-url", server.URL); err == nil || !strings.Contains(stderr, "needs --clock") {
		t.Errorf("--cron-url alone: %v %s", err, stderr)
	}

	if !dbtest.Value[bool](t, cron, "select exists (select from pg_proc where proname = 'schedule_in_database')") {
		if _, stderr, err := command(t, other, "", "up", "--clock", "--cron-url", server.URL); err == nil || !strings.Contains(stderr, "from version 1.4 on") {
			t.Errorf("pg_cron before 1.4: %v %s", err, stderr)
		}
		return
	}
	_, stderr, end := begin(t, other, "up", "--clock", "--cron-url", server.URL, "--listen-addr", "localhost:0")
	jobs := func() string {
		return dbtest.Value[string](t, cron, "select string_agg(database || ': ' || command, ', ' order by command) from cron.job")
	}
	const want = "other: call tinydevcrm.refresh_scheduled(1), other: call tinydevcrm.remove_expired(), " +
		"other: call tinydevcrm.settle_jobs(), tinydevcrm: select 1"
	dbtest.Eventually(t, dbtest.Deadline, "the jobs are there", func() bool { return jobs() == want })
	dbtest.Eventually(t, 100*time.Second, "the runs are here", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.job_runs where status = 'succeeded'") > 0 &&
			dbtest.Value[bool](t, pool, "select tinydevcrm._find_last_upkeep() is not null")
	})
	dbtest.Exec(t, cron, "update cron.job set schedule = '0 0 1 1 *' where command ~ 'refresh'")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '*/2 * * * *')")
	dbtest.Eventually(t, dbtest.Deadline, "the changed job is there", func() bool {
		return dbtest.Value[string](t, cron, "select string_agg(schedule, ', ') from cron.job where command ~ 'refresh'") == "*/2 * * * *"
	})
	end()
	if strings.Contains(stderr.String(), "WARN") {
		t.Errorf("the log says %s", stderr)
	}

	before := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null")
	dbtest.Eventually(t, 150*time.Second, "pg_cron goes on without the orchestrator", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null") > before
	})
}

// Where pg_cron runs the schedules, the clock does not.
func TestClockBesidePgCron(t *testing.T) {
	pool, url := dbtest.Schema(t)
	_, stderr := background(t, url, "up", "--clock", "--listen-addr", "localhost:0")
	if !strings.Contains(stderr.String(), "--clock has no effect") {
		t.Errorf("the log says %s", stderr)
	}
	if _, err := pool.ExecContext(t.Context(), "select tinydevcrm._keep_clock()"); err == nil || db.Explain(err).Code != "TD010" {
		t.Errorf("a clock beside pg_cron: %v", err)
	}
}
