package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// output is what the program writes, including the events.
type output struct{ dbtest.Output }

// An eventLine is the log line of an event.
type eventLine struct {
	EventID    int64           `json:"event_id"`
	Matview    string          `json:"matview"`
	Outcome    string          `json:"outcome"`
	ScheduleID int64           `json:"schedule_id"`
	RowCount   int64           `json:"row_count"`
	Rows       json.RawMessage `json:"rows"`
	StartedAt  time.Time       `json:"started_at"`
}

func (o *output) events(t *testing.T) []eventLine {
	t.Helper()
	return eventLines(t, o.String())
}

// eventLines reads a log. The program may not have finished its last line.
func eventLines(t *testing.T, log string) []eventLine {
	t.Helper()
	var events []eventLine
	for line := range strings.Lines(log) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var event eventLine
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("not a line of JSON: %s", line)
		}
		events = append(events, event)
	}
	return events
}

func environment(databaseURL string) func(string) string {
	return func(name string) string {
		if name == "DATABASE_URL" {
			return databaseURL
		}
		return ""
	}
}

// command runs the program to its end.
func command(t *testing.T, databaseURL, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, diagnostics bytes.Buffer
	err = run(t.Context(), args, environment(databaseURL), strings.NewReader(stdin), &out, &diagnostics)
	return out.String(), diagnostics.String(), err
}

func mustCommand(t *testing.T, databaseURL string, args ...string) string {
	t.Helper()
	stdout, stderr, err := command(t, databaseURL, "", args...)
	if err != nil {
		t.Fatalf("orchestrator %s: %s", strings.Join(args, " "), stderr)
	}
	return stdout
}

// begin runs the program until end is called, which checks that it ends without an error.
func begin(t *testing.T, databaseURL string, args ...string) (stdout, stderr *output, end func()) {
	t.Helper()
	return beginWith(t, environment(databaseURL), args...)
}

// beginWith is begin with variables of the environment.
func beginWith(t *testing.T, getenv func(string) string, args ...string) (stdout, stderr *output, end func()) {
	t.Helper()
	stdout, stderr = &output{}, &output{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, getenv, strings.NewReader(""), stdout, stderr) }()
	end = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("orchestrator %s: %v\n%s", strings.Join(args, " "), err, stderr)
			}
		case <-time.After(dbtest.Deadline):
			t.Errorf("orchestrator %s does not end", strings.Join(args, " "))
		}
	})
	t.Cleanup(end)
	dbtest.Eventually(t, dbtest.Deadline, "listening", func() bool {
		return strings.Contains(stderr.String(), `"msg":"listening"`)
	})
	return stdout, stderr, end
}

// background runs the program until the test ends, and checks that it ends without an error.
func background(t *testing.T, databaseURL string, args ...string) (stdout, stderr *output) {
	t.Helper()
	stdout, stderr, _ = begin(t, databaseURL, args...)
	return stdout, stderr
}

// TestMainJob tests the product: file, table, materialized view, pg_cron, event, log.
func TestMainJob(t *testing.T) {
	t.Parallel()
	databaseURL := dbtest.NewServer(t).URL

	mustCommand(t, databaseURL, "migrate", "up")
	mustCommand(t, databaseURL, "upload", dbtest.Sample(t))
	mustCommand(t, databaseURL, "matview", "create", "v", "--notify-when", "not_empty",
		`select * from sample where "AColumnOfNumbers" = floor(extract(second from now()))::integer % 10`)
	stdout, _ := background(t, databaseURL, "subscription", "receive", t.Name())
	mustCommand(t, databaseURL, "matview", "schedule", "v", "3 seconds")

	// Where pg_cron has no seconds, the first run waits for the full minute.
	var scheduled []eventLine
	dbtest.Eventually(t, 90*time.Second, "five scheduled events", func() bool {
		scheduled = scheduled[:0]
		for _, event := range stdout.events(t) {
			if event.ScheduleID != 0 {
				scheduled = append(scheduled, event)
			}
		}
		return len(scheduled) >= 5
	})
	if all := stdout.events(t); all[0].ScheduleID != 0 {
		t.Error("scheduling did not refresh at once")
	}
	rounds := make(map[int64]bool)
	for i, event := range scheduled {
		if event.RowCount != 1 || event.Outcome != "refreshed" || !strings.Contains(string(event.Rows), "AColumnOfNumbers") {
			t.Errorf("event %+v", event)
		}
		round := event.StartedAt.Unix() / 3
		if rounds[round] {
			t.Errorf("round %d came twice", round)
		}
		rounds[round] = true
		if i > 0 && event.StartedAt.Sub(scheduled[i-1].StartedAt) > 5*time.Second {
			t.Errorf("%s between two rounds of 3 seconds", event.StartedAt.Sub(scheduled[i-1].StartedAt))
		}
	}

	if status := mustCommand(t, databaseURL, "status"); !strings.Contains(status, "3 seconds") {
		t.Errorf("status: %s", status)
	}
	mustCommand(t, databaseURL, "matview", "unschedule", "v")
	mustCommand(t, databaseURL, "matview", "drop", "v")
}

func TestStatusCommand(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	mustCommand(t, databaseURL, "matview", "create", "v", "select 1 / n as n from numbers", "--key", "n")
	mustCommand(t, databaseURL, "matview", "schedule", "v", "0 0 1 1 *")
	mustCommand(t, databaseURL, "matview", "pause", "v")
	if status := mustCommand(t, databaseURL, "status"); !strings.Contains(status, "paused") {
		t.Errorf("a paused view: %s", status)
	}
	mustCommand(t, databaseURL, "matview", "resume", "v")
	if status := mustCommand(t, databaseURL, "status", "--json"); !strings.Contains(status, `"method": "concurrently"`) ||
		!strings.Contains(status, `-01-01 00:00:00+00"`) {
		t.Errorf("a view with a key: %s", status)
	}

	dbtest.Exec(t, pool, "update numbers set n = 0")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	stdout, _, err := command(t, databaseURL, "", "status")
	if err == nil || !strings.Contains(stdout, "failing") || !strings.Contains(stdout, "22012 division by zero (since 20") {
		t.Errorf("a failing view: %v: %s", err, stdout)
	}
}

// A pause by hand is no failure, whatever the reason.
func TestStatusOfAPausedSubscription(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('s', 'https://example.com/')")
	defer dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('s')")
	dbtest.Exec(t, pool, "select tinydevcrm.pause_subscription('s', 'deploying')")
	if _, stderr, err := command(t, databaseURL, "", "status"); err != nil {
		t.Errorf("paused by hand: %v: %s", err, stderr)
	}
	if list := mustCommand(t, databaseURL, "subscription", "list"); !strings.Contains(list, "deploying") {
		t.Errorf("the list lacks the reason: %s", list)
	}
	dbtest.Exec(t, pool, "select tinydevcrm._disable_webhook(id, '410 Gone') from tinydevcrm.subscriptions where name = 's'")
	if _, stderr, err := command(t, databaseURL, "", "status"); err == nil || !strings.Contains(stderr, "s is switched off") {
		t.Errorf("switched off by the orchestrator: %v: %s", err, stderr)
	}
}

func TestStatusOfWhatIsMuted(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	mustCommand(t, databaseURL, "matview", "create", "seldom", "select 1 as n", "--notify-when", "not_empty", "--notify-after", "3")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('s')")
	defer dbtest.Exec(t, pool, "select tinydevcrm.drop_subscription('s')")
	mustCommand(t, databaseURL, "matview", "refresh", "seldom")
	mustCommand(t, databaseURL, "matview", "watch", "seldom", "--notify-when", "always")
	status := mustCommand(t, databaseURL, "status", "--json")
	if !strings.Contains(status, `"suppressed_by": "streak"`) || strings.Contains(status, `"muted_until": "`) {
		t.Errorf("before the mute: %s", status)
	}
	mustCommand(t, databaseURL, "matview", "mute", "seldom", "--for", "2h")
	mustCommand(t, databaseURL, "subscription", "mute", "s")
	for _, args := range [][]string{{"status"}, {"subscription", "list"}} {
		if shown := mustCommand(t, databaseURL, args...); !strings.Contains(shown, "muted until 20") {
			t.Errorf("%v does not say until when: %s", args, shown)
		}
	}
	mustCommand(t, databaseURL, "matview", "unmute", "seldom")
	mustCommand(t, databaseURL, "subscription", "unmute", "s")
	if count := dbtest.Value[int](t, pool, `
		select (select count(*) from tinydevcrm.matviews where muted_until is not null or notify_after <> 3)
		       + (select count(*) from tinydevcrm.subscriptions where muted_until is not null)`); count != 0 {
		t.Errorf("%d are muted, or have lost notify_after", count)
	}
}

// The command prints what the table has.
func TestUploadReportsTheTable(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	path := filepath.Join(t.TempDir(), "pairs.csv")
	if err := os.WriteFile(path, []byte("a,b\n1,2024-01-31\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "create table pairs (a text, b text)")
	for _, options := range [][]string{{"--dry-run"}, {}} {
		words := mustCommand(t, databaseURL, append([]string{"upload", path, "--mode", "append"}, options...)...)
		if !strings.Contains(words, "  a  text") || !strings.Contains(words, "  b  text") {
			t.Errorf("upload %v says %s", options, words)
		}
	}

	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select * from pairs')")
	dbtest.Exec(t, pool, "alter table pairs rename to pairs_2025")
	words := mustCommand(t, databaseURL, "upload", path)
	if !strings.Contains(words, "  a  integer\n  b  date\n") || !strings.Contains(words, ".pairs_2025, which was called ") {
		t.Errorf("upload of a new table says %s", words)
	}
	// The view reads a table of another name than its query once had: it needs attention.
	status, _, err := command(t, databaseURL, "", "status", "--json")
	if err == nil || !strings.Contains(status, `"pairs_2025"`) || !strings.Contains(status, `"reads renamed table"`) {
		t.Errorf("the status does not say what the view reads: %s (%v)", status, err)
	}
}

func TestUploadCommand(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	path := filepath.Join(t.TempDir(), "people.csv")
	if err := os.WriteFile(path, []byte("1;007\n2;NA\n3;x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := []string{path, "--no-header", "--null", "NA", "--type", "column_1=bigint", "--json"}

	plan := mustCommand(t, databaseURL, append([]string{"upload", "--dry-run"}, options...)...)
	for _, want := range []string{`"delimiter":";"`, `"has_header":false`, `"type":"bigint"`, `create table`, `"is_whole":true`} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan lacks %s: %s", want, plan)
		}
	}
	if left := dbtest.Value[bool](t, pool, "select to_regclass('people') is null"); !left {
		t.Error("the dry run made the table")
	}

	done := mustCommand(t, databaseURL, append([]string{"upload"}, options...)...)
	if !strings.Contains(done, `"row_count":3`) || !strings.Contains(done, `"table_name":"people"`) {
		t.Errorf("it says %s", done)
	}
	if got := dbtest.Value[string](t, pool, "select string_agg(coalesce(column_2, 'NULL'), ' ' order by column_1) from people"); got != "007 NULL x" {
		t.Errorf("the second column has %s", got)
	}
	both := mustCommand(t, databaseURL, "upload", path, path, "--no-header", "--table", "twice", "--file-column", "file")
	if count := dbtest.Value[int](t, pool, "select count(*) from twice where file = $1", path); count != 6 || !strings.Contains(both, "6 rows") {
		t.Errorf("two files have %d rows: %s", count, both)
	}
	if words := mustCommand(t, databaseURL, "upload", dbtest.Sample(t)); !strings.Contains(words, ".sample: 10 rows in ") ||
		!strings.Contains(words, "AColumnOfNumbers  integer") || !strings.Contains(words, `UTF8, delimiter`) {
		t.Errorf("it says %s", words)
	}
}

func TestBadInput(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	mustCommand(t, databaseURL, "matview", "create", "v", "select * from numbers")

	tests := []struct {
		name string
		url  string
		args []string
		want string
	}{
		{"no file", databaseURL, []string{"upload", filepath.Join(folder, "nope.csv")}, "no such file"},
		{"empty file", databaseURL, []string{"upload", write("empty.csv", "")}, "the file is empty"},
		{"directory", databaseURL, []string{"upload", folder}, "is a directory"},
		{"binary file", databaseURL, []string{"upload", write("binary.csv", "\x7fELF\x00\x01")}, "not text"},
		{"missing table", databaseURL, []string{"matview", "create", "x", "select * from nope"}, `relation "nope" does not exist`},
		{"missing view", databaseURL, []string{"matview", "schedule", "nope", "5 seconds"}, `relation "nope" does not exist`},
		{"not watched", databaseURL, []string{"matview", "schedule", "numbers", "5 seconds"}, "is not watched"},
		{"two statements", databaseURL, []string{"matview", "create", "x", "select 1; drop table numbers"}, "exactly one query"},
		{"query error", databaseURL, []string{"matview", "create", "x", "select nope from numbers"}, "LINE 1: select nope from numbers"},
		{"61 seconds", databaseURL, []string{"matview", "schedule", "v", "61 seconds"}, "1 minute and 2 minutes"},
		{"three fields", databaseURL, []string{"matview", "schedule", "v", "* * *"}, "is not a schedule"},
		{"port in use", databaseURL, []string{"up", "--listen-addr", taken.Addr().String()}, "cannot serve the page: listen tcp"},
		{"no such port", databaseURL, []string{"up", "--listen-addr", "localhost:99999"}, "cannot serve the page"},
		{"no database named", "", []string{"status"}, "DATABASE_URL is not set"},
		{"no database there", "postgres:///x?host=" + folder + "&sslmode=disable", []string{"status"}, "does not answer"},
		{"bad url", "postgres://u:secret@:bad/x", []string{"status"}, "malformed"},
		{"unknown type", databaseURL, []string{"upload", dbtest.Sample(t), "--type", "AColumnOfNumbers=nope"}, "there is no type"},
		{"unknown way with ragged lines", databaseURL, []string{"upload", dbtest.Sample(t), "--ragged", "mend"}, "strict or pad"},
		{"ragged lines", databaseURL, []string{"upload", write("ragged.csv", "a,b\n1,2\n3\n")}, "line 3: 1 field instead of 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := command(t, test.url, "", test.args...)
			if err == nil {
				t.Fatalf("it succeeded: %s", stdout)
			}
			if !strings.Contains(stderr, test.want) {
				t.Errorf("stderr is %q, want %q in it", stderr, test.want)
			}
			if strings.Contains(stderr, "secret") {
				t.Error("the password is in the error")
			}
		})
	}

	if left := dbtest.Value[string](t, pool, `
		select string_agg(relname, ' ' order by relname)
		  from pg_class
		 where relnamespace = current_schema()::regnamespace`); left != "numbers v" {
		t.Errorf("left behind: %s", left)
	}
	if jobs := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.schedules"); jobs != 0 {
		t.Errorf("%d schedules are left behind", jobs)
	}
}

func TestFailureShowsInStatus(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	mustCommand(t, databaseURL, "matview", "create", "v", "select 1 / n as inverse from numbers")
	mustCommand(t, databaseURL, "status")

	dbtest.Exec(t, pool, "update numbers set n = 0")
	if _, stderr, err := command(t, databaseURL, "", "matview", "refresh", "v"); err == nil || !strings.Contains(stderr, "division by zero") {
		t.Errorf("refresh: %v, %s", err, stderr)
	}
	if stdout, _, err := command(t, databaseURL, "", "status"); err == nil || !strings.Contains(stdout, "22012 division by zero") {
		t.Errorf("status: %v, %s", err, stdout)
	}
	dbtest.Exec(t, pool, "update numbers set n = 1")
	if out := mustCommand(t, databaseURL, "matview", "refresh", "v"); !strings.Contains(out, "recovered") {
		t.Errorf("refresh: %s", out)
	}
}
