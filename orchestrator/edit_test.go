package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Altering a query waits for a running refresh, and a refresh that comes during it is skipped.
func TestAlterAQueryWhileRefreshing(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.CreateGates(t, pool)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select pass_gate(1)')")
	open := dbtest.CloseGate(t, pool, 1)
	outcome := make(chan string, 1)
	go func() {
		var result string
		err := pool.QueryRowContext(t.Context(), "select outcome from tinydevcrm.refresh_matview('v')").Scan(&result)
		if err != nil {
			result = err.Error()
		}
		outcome <- result
	}()
	awaitAtGate(t, pool, "refresh_matview")
	openNew := dbtest.CloseGate(t, pool, 2)
	altered := inBackground(t, pool, "select tinydevcrm.alter_matview_query('v', 'select pass_gate(2)')")
	open()
	if result := <-outcome; result != "refreshed" {
		t.Errorf("the refresh ended as %s", result)
	}
	awaitAtGate(t, pool, "alter_matview_query")
	if result := dbtest.Value[string](t, pool, "select outcome from tinydevcrm.refresh_matview('v')"); result != "skipped" {
		t.Errorf("a refresh during the edit is %s", result)
	}
	openNew()
	if err := <-altered; err != nil {
		t.Fatal(err)
	}
	if rows := dbtest.Value[int](t, pool, "select row_count from tinydevcrm.refresh_matview('v')"); rows != 1 {
		t.Errorf("the next refresh finds %d rows", rows)
	}
}

// A refresh that found the view before its query was altered, and got the lock after that, fails nothing.
func TestARefreshThatKnowsTheFormerView(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as n')")
	pool.SetMaxOpenConns(1)
	dbtest.Exec(t, pool, "create temporary table former as select matviews as matview from tinydevcrm.matviews where relation = 'v'::regclass")
	dbtest.Exec(t, pool, "select tinydevcrm.alter_matview_query('v', 'select 2 as n')")
	outcome := dbtest.Value[string](t, pool, "select (tinydevcrm._refresh_matview(matview)).outcome from former")
	if outcome != "skipped" {
		t.Errorf("the refresh is %s, want skipped", outcome)
	}
}

// Readers of a view, or of what is built on it, get the rows of the former query or of the new one. Nobody gets
// an error, and nobody deadlocks.
func TestReadersWhileAQueryIsAltered(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	for _, statement := range []string{
		"select tinydevcrm.create_matview('base', 'select n from generate_series(1, 2) as n')",
		"create view middle as select n from base",
		"select tinydevcrm.create_matview('top', 'select n from middle')",
		"create index on base (n)",
	} {
		dbtest.Exec(t, pool, statement)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var readers sync.WaitGroup
	var reads [3]int
	for i, query := range []string{
		"select count(*) from base", "select count(*) from middle", "select count(*) from top",
	} {
		readers.Go(func() {
			for ctx.Err() == nil {
				var count int
				err := pool.QueryRowContext(ctx, query).Scan(&count)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					t.Errorf("%s: %v", query, err)
				case count != 2 && count != 3:
					t.Errorf("%s: %d rows", query, count)
				default:
					reads[i]++
				}
			}
		})
	}
	for i := range 20 {
		dbtest.Exec(t, pool, "select tinydevcrm.alter_matview_query('base', $1)",
			[]string{"select n from generate_series(1, 3) as n", "select n from generate_series(1, 2) as n"}[i%2])
	}
	stop()
	readers.Wait()
	dbtest.Exec(t, pool, "drop materialized view top")
	dbtest.Exec(t, pool, "drop view middle")
	if slices.Min(reads[:]) < 20 {
		t.Errorf("the readers read %d times", reads)
	}
}

// A reader who stays in a transaction keeps a query from being altered, but does not keep others from reading.
func TestAlterAQueryThatSomebodyReadsForLong(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as n')")
	reading, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Rollback()
	if _, err := reading.ExecContext(t.Context(), "select from v"); err != nil {
		t.Fatal(err)
	}
	altered := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(t.Context(), "select tinydevcrm.alter_matview_query('v', 'select 2 as n')")
		altered <- err
	}()
	dbtest.Eventually(t, dbtest.Deadline, "the edit waits for the reader", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from pg_locks where relation = 'v'::regclass and not granted)")
	})
	for range 3 {
		read, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		var n int
		err := pool.QueryRowContext(read, "select n from v").Scan(&n)
		cancel()
		if err != nil || n != 1 {
			t.Errorf("another reader gets %d, %v", n, err)
		}
	}
	if err := reading.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-altered; err != nil {
		t.Error(err)
	}
	if n := dbtest.Value[int](t, pool, "select n from v"); n != 2 {
		t.Errorf("n is %d", n)
	}
}

// Two sessions alter one query: the second one waits, and alters what the first one has made.
func TestAlterAQueryTwiceAtOnce(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 0 as n')")
	id := dbtest.Value[int64](t, pool, "select id from tinydevcrm.matviews where relation = 'v'::regclass")
	results := make(chan error, 4)
	for range cap(results) {
		go func() {
			_, err := pool.ExecContext(t.Context(),
				"select tinydevcrm.alter_matview_query('v', 'select pg_backend_pid() as n, pg_sleep(0.1)::text as slept')")
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if registered := dbtest.Value[int64](t, pool, "select id from tinydevcrm.matviews where relation = 'v'::regclass"); registered != id {
		t.Errorf("the registration is %d, and was %d", registered, id)
	}
	if left := dbtest.Value[int](t, pool, `
		select count(*) from pg_class
		 where relkind = 'm' and relnamespace = (select relnamespace from pg_class where oid = 'v'::regclass)`); left != 1 {
		t.Errorf("%d materialized views are left", left)
	}
}

// What others have built on a view is neither built again nor dropped. Only the owner's own session alters a query.
func TestAlterAQueryThatOthersRead(t *testing.T) {
	t.Parallel()
	super, ann, eve := tenants(t)
	dbtest.Exec(t, ann, "grant usage on schema ann to eve")
	dbtest.Exec(t, ann, "grant select on v to eve")
	dbtest.Exec(t, eve, "create view spying as select * from ann.v")
	refused := func(pool *sql.DB, code, says string) {
		t.Helper()
		_, err := pool.ExecContext(t.Context(), "select tinydevcrm.alter_matview_query('ann.v', 'select 5 as n')")
		var problem *pq.Error
		if !errors.As(err, &problem) || string(problem.Code) != code || !strings.Contains(problem.Message, says) {
			t.Errorf("%v, want %s %s", err, code, says)
		}
	}
	refused(ann, "2BP01", "spying of eve")
	dbtest.Exec(t, eve, "drop view spying")
	refused(eve, "TD001", "not watched")
	refused(super, "42501", "has not logged in as that role")
	super.SetMaxOpenConns(1)
	dbtest.Exec(t, super, "set role ann")
	refused(super, "42501", "has not logged in as that role")
	dbtest.Exec(t, super, "reset role")
	dbtest.Exec(t, ann, "select tinydevcrm.alter_matview_query('v', 'select 5 as n')")
	if n := dbtest.Value[int](t, eve, "select n from ann.v"); n != 5 {
		t.Errorf("eve reads %d, although her right was kept", n)
	}
}

func TestMatviewEdit(t *testing.T) {
	pool, url := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table facts as select 1 as n, 'one' as name")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n, name from facts', key => array['n'])")
	file := filepath.Join(t.TempDir(), "query.sql")
	query := func() string { return dbtest.Value[string](t, pool, "select pg_get_viewdef('v'::regclass)") }

	if err := os.WriteFile(file, []byte("select n + 1 as n from facts\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout := mustCommand(t, url, "matview", "edit", "v", "--query-file", file)
	if !strings.Contains(stdout, "v has its new query") || !strings.Contains(query(), "n + 1") {
		t.Errorf("from a file: %q, %s", stdout, query())
	}
	stdout, _, err := command(t, url, "select name from facts", "matview", "edit", "v", "--query-file", "-")
	if err != nil || !strings.Contains(stdout, "key (n) is gone") || !strings.Contains(query(), "name") {
		t.Errorf("from standard input: %q, %v, %s", stdout, err, query())
	}

	before := query()
	_, _, err = command(t, url, "select nonsense from facts", "matview", "edit", "v", "--query-file", "-")
	if problem := db.Explain(err); problem.Code != "42703" || query() != before {
		t.Errorf("a wrong query: %v, %s", err, query())
	}
	_, _, err = command(t, url, "", "matview", "edit", "v")
	if exitCode(err) != exitUsage || query() != before {
		t.Errorf("without a terminal: %v", err)
	}
}

// An editor gets the text in a file of its own, and the file stays, with what was written.
func TestEditText(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const text = "select n\n  from facts"
	for _, edit := range []struct{ editor, written, says string }{
		{"true", text, ""},
		{"sed -i s/n$/n+1/", "select n+1\n  from facts", ""},
		{"false", "", "the editor false failed: exit status 1"},
		{"no-such-editor --wait", "", "exit status 127"},
	} {
		p := &program{editor: edit.editor, stdout: io.Discard, stderr: io.Discard}
		path, written, err := p.editText(text)
		if edit.says == "" {
			kept, _ := os.ReadFile(path)
			if err != nil || written != edit.written || strings.TrimSpace(string(kept)) != written {
				t.Errorf("%s: %q, %v, %q is kept", edit.editor, written, err, kept)
			}
			os.Remove(path)
			continue
		}
		if problem := db.Explain(err); !strings.Contains(problem.Message, edit.says) || !strings.Contains(problem.Hint, "What you wrote is in") {
			t.Errorf("%s: %v", edit.editor, err)
		}
	}
}

func TestMatviewShow(t *testing.T) {
	pool, url := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table facts as select 1 as n, now() as at")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n from facts where at < now()', 'changed', key => array['n'])")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '0 0 1 1 *')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('mine', 'v')")
	dbtest.Exec(t, pool, "select tinydevcrm.watch_matview('v', notify_after => 3)")
	stdout := mustCommand(t, url, "matview", "show", "v")
	for _, part := range []string{
		"\n   FROM facts\n  WHERE ", "no: it calls now()", "changed", "0 0 1 1 *", "mine", "key", "notify after     3", "notify deadline  -",
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("it does not show %q:\n%s", part, stdout)
		}
	}
	if stdout = mustCommand(t, url, "matview", "show", "v", "--json"); !strings.Contains(stdout, `"is_tracked": false`) {
		t.Errorf("as JSON: %s", stdout)
	}
}

// A user without other rights alters a query, with all that a view can have, and with views on it.
func TestAUserAltersAQuery(t *testing.T) {
	t.Parallel()
	_, ann, _ := tenants(t)
	for _, statement := range []string{
		"create table t as select n, n * 2 as twice from generate_series(1, 3) as n",
		"select tinydevcrm.create_matview('base', 'select n, twice from t where n < 3', 'changed', key => '{n}', ignored_columns => '{twice}')",
		"select tinydevcrm.allow_embedding('base', '{https://example.com}')",
		"create statistics pairs on n, twice from base",
		"comment on column base.n is 'a number'",
		"grant select on base to eve",
		"create view middle with (security_barrier) as select * from base",
		"select tinydevcrm.create_matview('top', 'select n from middle', 'rows_added', key => '{n}')",
		"select tinydevcrm.schedule_matview('top', '0 0 1 1 *')",
		"select tinydevcrm.refresh_matview('base')",
	} {
		dbtest.Exec(t, ann, statement)
	}
	altered := func(query string) string {
		t.Helper()
		return dbtest.Value[string](t, ann, `
			select concat_ws(' ', matview, rebuilt, warnings) from tinydevcrm.alter_matview_query('base', $1)`, query)
	}
	if result := altered("select n, twice from t"); result != "base {middle,top} {}" {
		t.Errorf("altered: %s", result)
	}
	for _, view := range []string{"base", "top"} {
		added := dbtest.Value[int](t, ann, "select added_count from tinydevcrm.refresh_matview($1::text::regclass)", view)
		if added != 1 {
			t.Errorf("the refresh of %s finds %d new rows, want 1", view, added)
		}
	}
	if result := altered("select n::bigint * 2 as other, n, twice from t"); result != `base {middle,top} {"the baseline is made anew: other columns are compared now"}` {
		t.Errorf("altered: %s", result)
	}
	if kept := dbtest.Value[int](t, ann, `
		select count(*) from tinydevcrm.matviews
		 where relation in ('base'::regclass, 'top'::regclass) and has_baseline and is_analyzed and is_tracked`); kept != 2 {
		t.Errorf("%d views have a baseline and are tracked, want 2", kept)
	}
}
