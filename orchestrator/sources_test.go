package main

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// An export is a server whose file a test changes.
type export struct {
	*httptest.Server
	file atomic.Pointer[string]
}

func newExport(t *testing.T, text string) *export {
	t.Helper()
	e := &export{}
	e.set(text)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, *e.file.Load())
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *export) set(text string) { e.file.Store(&text) }

// awaitRun waits until the last run of a source has ended, and returns its status and error.
func awaitRun(t *testing.T, pool *sql.DB, source string, runs int) (status, message string) {
	t.Helper()
	// Where pg_cron has no seconds, jobs run each minute.
	dbtest.Eventually(t, 100*time.Second, fmt.Sprintf("run %d of %s has ended", runs, source), func() bool {
		var ended int
		if err := pool.QueryRowContext(t.Context(), `
			select count(finished_at), coalesce(max(status) filter (where is_last), ''), coalesce(max(error_message) filter (where is_last), '')
			  from (select source_runs.*, row_number() over (order by source_runs.id desc) = 1 as is_last
			          from tinydevcrm.source_runs join tinydevcrm.sources on sources.id = source_id where name = $1) as runs`, source).Scan(&ended, &status, &message); err != nil {
			t.Fatal(err)
		}
		return ended == runs
	})
	return status, message
}

// The orchestrator fetches for everyone, but what a table runs, it runs as its owner.
func TestASourceOfAUserIsImportedByTheirOwnJob(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	ann, eve := open(t, server.URL, "ann"), open(t, server.URL, "eve")
	background(t, dbtest.AsRole(server.URL, "runner"), upWithWebhooks...)
	dbtest.Eventually(t, dbtest.Deadline, "it has started", func() bool {
		return dbtest.Value[bool](t, super, "select '127.0.0.0/8' = any (webhook_networks) from tinydevcrm.settings")
	})
	dbtest.Exec(t, ann, `create table orders (id integer primary key, code text, ran_as text default session_user || ' as ' || current_user)`)
	rows := "id,code\n1,007\n2,\n3,\"a,b\"\n4,short,surplus\n"
	e := newExport(t, rows)
	dbtest.Exec(t, ann, `select tinydevcrm.create_source('orders', $1, mode => 'upsert', key => '{id}',
		options => '{"ragged": "reject", "missing_columns": "null"}')`, e.URL+"/orders.csv")
	if status, message := awaitRun(t, ann, "orders", 1); status != "imported" {
		t.Fatalf("it is %s: %s", status, message)
	}
	if got := dbtest.Value[string](t, ann, "select string_agg(concat_ws('|', id, code, ran_as), ';' order by id) from orders"); got != "1|007|ann as ann;2|ann as ann;3|a,b|ann as ann" {
		t.Errorf("the table has %s", got)
	}
	if got := dbtest.Value[string](t, ann, `
		select concat_ws('|', imports.source, (dialect).format, mode, row_count, problem_count, reject_count, line, line_text)
		  from tinydevcrm.imports join tinydevcrm.import_problems on import_id = imports.id`); got != "orders|csv|upsert|3|1|1|5|4,short,surplus" {
		t.Errorf("the log has %s", got)
	}
	for _, table := range []string{"source_rows", "imports where owner = 'runner'::regrole"} {
		if n := dbtest.Value[int](t, super, "select count(*) from tinydevcrm."+table); n != 0 {
			t.Errorf("%s has %d rows left", table, n)
		}
	}

	e.set("id,code,new\n5,x,y\n")
	dbtest.Exec(t, ann, "select tinydevcrm.run_source('orders')")
	importStaged(t, super, ann)
	if status, message := awaitRun(t, ann, "orders", 2); status != "failed" || !strings.Contains(message, "new") {
		t.Errorf("a column that came is %s: %s", status, message)
	}
	if n := dbtest.Value[int](t, ann, "select count(*) from orders"); n != 3 {
		t.Errorf("the table has %d rows", n)
	}

	// Between the two steps nobody else sees the rows, or takes them.
	dbtest.Exec(t, super, "alter role ann nologin")
	e.set("id,code\n6,secret\n")
	dbtest.Exec(t, super, "insert into tinydevcrm.source_runs (source_id) select id from tinydevcrm.sources")
	awaitStaged(t, super)
	for _, table := range []string{"source_runs", "source_rows", "sources"} {
		if n := dbtest.Value[int](t, eve, "select count(*) from tinydevcrm."+table); n != 0 {
			t.Errorf("eve sees %d rows of %s", n, table)
		}
	}
	for _, other := range []*sql.DB{eve, super} {
		dbtest.Exec(t, other, "call tinydevcrm.import_fetched()")
	}
	awaitStaged(t, super)
	dbtest.Exec(t, super, "alter role ann login")
	importStaged(t, super, ann)
	if status, message := awaitRun(t, super, "orders", 3); status != "imported" {
		t.Errorf("it is %s: %s", status, message)
	}
	dbtest.Exec(t, super, "call tinydevcrm.settle_jobs()")
	if n := dbtest.Value[int](t, super, "select count(*) from cron.job where command = 'call tinydevcrm.import_fetched()'"); n != 0 {
		t.Errorf("%d jobs are left", n)
	}
}

func awaitStaged(t *testing.T, super *sql.DB) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "a file is staged", func() bool {
		return dbtest.Value[bool](t, super, "select exists (select from tinydevcrm.source_rows)")
	})
}

// importStaged does what the owner's job does, which may run once a minute only.
func importStaged(t *testing.T, super, owner *sql.DB) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "the file is staged, if the job has not been faster", func() bool {
		return dbtest.Value[bool](t, super, "select not exists (select from tinydevcrm.source_runs where finished_at is null and status <> 'staged')")
	})
	dbtest.Exec(t, owner, "call tinydevcrm.import_fetched()")
}

func TestTheCommandsOfSources(t *testing.T) {
	t.Parallel()
	pool, server := newServer(t)
	e := newExport(t, "id,due\n007,1.2.2024\n008,31.12.2024\n")
	inbox := t.TempDir()
	background(t, server.URL, slices.Concat(upWithWebhooks, []string{"--inbox", inbox})...)
	if err := os.WriteFile(filepath.Join(inbox, "dropped.csv"), []byte("n\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, dbtest.Deadline, "it has started", func() bool {
		return dbtest.Value[bool](t, pool, "select '127.0.0.0/8' = any (webhook_networks) from tinydevcrm.settings")
	})
	mustCommand(t, server.URL, "source", "create", "orders", e.URL+"/secret-token", "--schedule", "daily at 6:00", "--refuse-if-fewer", "0.5",
		"--type", "id=integer", "--null", "NA,-", "--basic-auth", "ann:word", "--notify-deadline", "26h")
	if status, message := awaitRun(t, pool, "orders", 1); status != "imported" {
		t.Fatalf("it is %s: %s", status, message)
	}
	if got := dbtest.Value[string](t, pool, "select string_agg(id || ' ' || due, ',' order by id) from orders"); got != "7 2024-02-01,8 2024-12-31" {
		t.Errorf("the table has %s", got)
	}
	list := mustCommand(t, server.URL, "source", "list")
	if !strings.Contains(list, "daily at 6:00") || !strings.Contains(list, "imported") || strings.Contains(list, "secret-token") {
		t.Errorf("the list is %s", list)
	}
	if _, stderr, err := command(t, server.URL, "", "status"); err != nil {
		t.Errorf("status: %v, %s", err, stderr)
	}

	e.set("id,due\n")
	mustCommand(t, server.URL, "source", "run", "orders")
	if status, message := awaitRun(t, pool, "orders", 2); status != "failed" || !strings.HasPrefix(message, "the file has no rows") {
		t.Errorf("it is %s: %s", status, message)
	}
	if _, stderr, err := command(t, server.URL, "", "status"); err == nil || !strings.Contains(stderr, "source orders is failing: the file has no rows\n") {
		t.Errorf("status does not mention it: %v, %s", err, stderr)
	}
	if show := mustCommand(t, server.URL, "source", "show", "orders"); strings.Count(show, "failed") != 1 || strings.Count(show, "imported") != 1 {
		t.Errorf("the runs are %s", show)
	} else if !strings.HasSuffix(show, "\n\nthe file has no rows\n  Hint: If that is right, let the source accept files without rows: accepts_empty.\n") || strings.Contains(show, `\n`) {
		t.Errorf("the runs do not end in what to do: %s", show)
	}
	if list := mustCommand(t, server.URL, "source", "list"); !strings.Contains(list, "the file has no rows\n") {
		t.Errorf("the list has more than the message: %s", list)
	}
	mustCommand(t, server.URL, "source", "alter", "orders", "--new-columns", "add", "--null", "")
	if got := dbtest.Value[string](t, pool, "select options from tinydevcrm.sources"); got != `{"type": {"id": "integer"}, "new_columns": "add"}` {
		t.Errorf("the options are changed to %s", got)
	}
	mustCommand(t, server.URL, "source", "alter", "orders", "--schedule", "hourly", "--mode", "upsert", "--key", "id", "--accept-empty")
	mustCommand(t, server.URL, "source", "alter", "orders", "--notify-deadline", "2h")
	if got := dbtest.Value[string](t, pool, "select concat_ws(' ', mode, key, accepts_empty, schedule, notify_deadline) from tinydevcrm.sources"); got != "upsert {id} t hourly 02:00:00" {
		t.Errorf("the source is changed to %s", got)
	}
	mustCommand(t, server.URL, "source", "alter", "orders", "--no-schedule", "--notify-deadline", "0")
	if got := dbtest.Value[string](t, pool, "select concat_ws('|', schedule, notify_deadline) from tinydevcrm.sources"); got != "00:00:00" {
		t.Errorf("schedule and deadline are still %s", got)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ann:word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustCommand(t, server.URL, "source", "create", "private", e.URL, "--basic-auth", "@"+password)
	if got := dbtest.Value[string](t, pool, "select headers->>'Authorization' from tinydevcrm.sources where name = 'private'"); got != "Basic YW5uOndvcmQ=" {
		t.Errorf("the password is sent as %s", got)
	}
	mustCommand(t, server.URL, "source", "pause", "orders")
	mustCommand(t, server.URL, "source", "resume", "orders")
	mustCommand(t, server.URL, "source", "drop", "orders")
	dbtest.Eventually(t, dbtest.Deadline, "the file of the inbox is done", func() bool {
		moved, _ := filepath.Glob(filepath.Join(inbox, "done", "*-dropped.csv"))
		return len(moved) == 1 && dbtest.Value[bool](t, pool, "select to_regclass('dropped') is not null")
	})
	if n := dbtest.Value[int](t, pool, "select count(*) from orders"); n != 2 {
		t.Errorf("the table has %d rows", n)
	}
}

// The whole export takes the place of the old one, and the view notifies of what is new in it.
func TestANightlyExportNotifiesOfItsNewRows(t *testing.T) {
	t.Parallel()
	pool, server := newServer(t)
	e := newExport(t, "id,due,shipped\n1,2026-01-05,2026-01-04\n2,2026-01-05,2026-01-09\n")
	stdout, _ := background(t, server.URL, upWithWebhooks...)
	dbtest.Eventually(t, dbtest.Deadline, "it has started", func() bool {
		return dbtest.Value[bool](t, pool, "select '127.0.0.0/8' = any (webhook_networks) from tinydevcrm.settings")
	})
	dbtest.Exec(t, pool, "select tinydevcrm.create_source('orders', $1, schedule => 'daily at 6:00')", e.URL)
	awaitRun(t, pool, "orders", 1)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('late', 'select * from orders where shipped > due', 'rows_added', key => '{id}')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('late', 'on change')")
	e.set("id,due,shipped\n1,2026-01-05,2026-01-04\n2,2026-01-05,2026-01-09\n3,2026-01-06,2026-01-08\n4,2026-01-06,2026-01-06\n")
	dbtest.Exec(t, pool, "select tinydevcrm.run_source('orders')")
	if status, message := awaitRun(t, pool, "orders", 2); status != "imported" {
		t.Fatalf("it is %s: %s", status, message)
	}
	var late []eventLine
	dbtest.Eventually(t, dbtest.Deadline, "the view notifies", func() bool {
		late = late[:0]
		for _, event := range stdout.events(t) {
			if event.Matview == "public.late" {
				late = append(late, event)
			}
		}
		return len(late) > 0
	})
	if rows := string(late[0].Rows); len(late) != 1 || !strings.Contains(rows, `"id":3`) && !strings.Contains(rows, `"id": 3`) || strings.Contains(rows, "2026-01-09") {
		t.Errorf("it notifies of %s, %d times", rows, len(late))
	}
}

// A user may write the status of their runs, which gets them no second place.
func TestAUserHasOnePlace(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	ann, eve := open(t, server.URL, "ann"), open(t, server.URL, "eve")
	background(t, strings.Replace(server.URL, "user=postgres", "user=runner", 1), upWithWebhooks...)
	dbtest.Eventually(t, dbtest.Deadline, "it has started", func() bool {
		return dbtest.Value[bool](t, super, "select '127.0.0.0/8' = any (webhook_networks) from tinydevcrm.settings")
	})
	asked := make(chan struct{}, 100)
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(func() { slow.CloseClientConnections(); slow.Close() })
	dbtest.Exec(t, eve, "select tinydevcrm.create_source('s' || n, $1) from generate_series(1, 8) as n", slow.URL)
	<-asked
	taken := dbtest.Value[int](t, eve, "select id from tinydevcrm.source_runs where status = 'fetching'")
	dbtest.Exec(t, eve, "update tinydevcrm.source_runs set status = 'due', hidden_for = '0' where id = $1", taken)
	// It is seen when the program has looked again.
	e := newExport(t, "id\n1\n")
	dbtest.Exec(t, ann, "select tinydevcrm.create_source('orders', $1)", e.URL)
	awaitStagedOrEnded(t, super)
	dbtest.Exec(t, eve, "update tinydevcrm.source_runs set status = 'fetching', hidden_for = '1 minute' where id = $1", taken)
	if more := len(asked); more != 0 {
		t.Errorf("eve has %d places", more+1)
	}
}

// awaitStagedOrEnded waits until a source of ann has been fetched.
func awaitStagedOrEnded(t *testing.T, super *sql.DB) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "a source of ann's is fetched", func() bool {
		return dbtest.Value[bool](t, super, "select exists (select from tinydevcrm.source_runs where owner = 'ann'::regrole and status in ('staged', 'imported'))")
	})
}

// What is killed in the midst of a file leaves no half table and no lost run.
func TestAKilledProgramLosesNoFile(t *testing.T) {
	const inner = "TINYDEVCRM_TEST_OF_A_KILL"
	if url := os.Getenv(inner); url != "" {
		t.Error(run(t.Context(), upWithWebhooks, environment(url), strings.NewReader(""), io.Discard, io.Discard))
		return
	}
	t.Parallel()
	pool, server := newServer(t)
	halfway := make(chan struct{}, 1)
	var asked atomic.Int32
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "id\n"+strings.Repeat("1\n", 200_000))
		if asked.Add(1) == 1 {
			w.(http.Flusher).Flush()
			halfway <- struct{}{}
			<-r.Context().Done()
		}
	}))
	t.Cleanup(origin.Close)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set webhook_networks = '{127.0.0.0/8}'")
	dbtest.Exec(t, pool, "create table orders as select 7 as id")
	dbtest.Exec(t, pool, "select tinydevcrm.create_source('orders', $1, mode => 'append')", origin.URL)
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestAKilledProgramLosesNoFile$")
	process.Env = append(os.Environ(), inner+"="+server.URL)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	<-halfway
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	process.Wait()
	// As a minute after the program last said that it was alive.
	dbtest.Exec(t, pool, "update tinydevcrm.source_runs set visible_at = visible_at - interval '1 minute'")
	background(t, server.URL, upWithWebhooks...)
	if status, message := awaitRun(t, pool, "orders", 1); status != "imported" || asked.Load() != 2 {
		t.Errorf("the run is %s after %d requests: %s", status, asked.Load(), message)
	}
	if n := dbtest.Value[int](t, pool, "select count(*) from orders"); n != 200_001 {
		t.Errorf("the table has %d rows", n)
	}
}
