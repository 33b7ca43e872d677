package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// While a worker is away, an import fails as a whole and a refresh is a failure event. When the worker is back,
// both work again without any help.
func TestCitusWorkerAway(t *testing.T) {
	cluster, pool := newCitus(t)
	away := cluster.Workers[1]
	upload := func(options ...string) error {
		_, stderr, err := command(t, cluster.URL, "", append([]string{"upload", dbtest.Sample(t)}, options...)...)
		if err != nil && !strings.Contains(stderr, "connection to the remote node") {
			t.Errorf("upload %v: %s", options, stderr)
		}
		return err
	}
	if err := upload("--distribute-by", "AColumnOfNumbers"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('s')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select count(*) from sample', 'never')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '0 0 1 1 *')")
	schedule := dbtest.Value[int](t, pool, "select id from tinydevcrm.schedules")
	// This is what the job does when it is due.
	round := func() {
		t.Helper()
		dbtest.Exec(t, pool, "update tinydevcrm.matviews set last_scheduled_at = null")
		dbtest.Exec(t, pool, fmt.Sprintf("call tinydevcrm.refresh_scheduled(%d)", schedule))
	}
	outcomes := func() string {
		t.Helper()
		return dbtest.Value[string](t, pool, `
			select string_agg(concat_ws(' ', outcome, error_code, case when is_notified then 'notified' end), ', ' order by id)
			  from tinydevcrm.matview_refresh_events`)
	}
	state := func() string {
		t.Helper()
		return dbtest.Value[string](t, pool, "select count(*) || ' imports, ' || string_agg(relname, ' ' order by relname)"+
			" from tinydevcrm.imports, pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
	}
	round()
	before := state()

	away.Stop()
	for _, options := range [][]string{
		{"--mode", "append"}, {"--mode", "replace"}, {"--table", "fresh", "--distribute-by", "AColumnOfNumbers"},
	} {
		if upload(options...) == nil {
			t.Errorf("upload %v succeeds without a worker", options)
		}
	}
	if after := state(); after != before {
		t.Errorf("imports that failed leave %s, before it was %s", after, before)
	}
	if err := upload("--table", "alone"); err != nil {
		t.Errorf("a table of the coordinator needs the worker: %v", err)
	}
	round()
	if got := refreshed(t, pool, "v"); got != "failed plain, notified false" {
		t.Errorf("refreshed by hand: %s", got)
	}
	if findings := dbtest.Column[string](t, pool, "select hint from tinydevcrm.check_installation() where not is_ok"); len(findings) != 1 ||
		findings[0] != "Check that it runs and accepts connections from this server." {
		t.Errorf("check_installation() finds %q", findings)
	}

	away.StartAny()
	round()
	if err := upload("--mode", "append"); err != nil {
		t.Errorf("the worker is back, but: %v", err)
	}
	if got := refreshed(t, pool, "v"); got != "refreshed plain 1, notified false" {
		t.Errorf("refreshed by hand: %s", got)
	}
	want := "refreshed, refreshed, failed 08006 notified, failed 08006, recovered notified, refreshed"
	if got := outcomes(); got != want {
		t.Errorf("the events are %s, want %s", got, want)
	}
	if got := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.receive_events('s')"); got != 2 {
		t.Errorf("%d events reach the subscription, want the failure and the recovery", got)
	}
	if got := dbtest.Value[int](t, pool, "select count from v"); got != 20 {
		t.Errorf("the view counts %d rows, want 20", got)
	}
}

// A worker dies between an import and its commit: nothing of the import is left on any worker.
func TestCitusWorkerDiesBeforeTheCommit(t *testing.T) {
	cluster, pool := newCitus(t)
	mustCommand(t, cluster.URL, "upload", dbtest.Sample(t), "--distribute-by", "AColumnOfNumbers")
	importing, err := openPool(t, cluster.URL).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run := func(statement string) {
		t.Helper()
		if _, err := importing.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	run(`create temporary table staging as select n::text as "AColumnOfNumbers" from generate_series(100, 5000) as n`)
	for _, statement := range []string{
		"select tinydevcrm.import_staging('staging', 'sample', 'append')",
		"select tinydevcrm.import_staging('staging', 'sample', 'replace')",
		"select tinydevcrm.import_staging('staging', 'fresh', distribute_by => 'AColumnOfNumbers')",
	} {
		run("begin")
		run(statement)
		cluster.Workers[0].Crash()
		if _, err := importing.ExecContext(t.Context(), "commit"); err == nil {
			t.Errorf("%s commits without a worker", statement)
		}
		cluster.Workers[0].StartAny()
		if rows := dbtest.Value[int](t, pool, "select count(*) from sample"); rows != 10 {
			t.Errorf("%s: %d rows are there, want the 10 from before", statement, rows)
		}
	}
	if left := dbtest.Value[string](t, pool, "select concat_ws(' ', to_regclass('fresh'), (select count(*) from tinydevcrm.imports))"); left != "1" {
		t.Errorf("it leaves %s, want the one import from before", left)
	}
	// The transaction that was prepared on the other worker is rolled back too.
	dbtest.Eventually(t, dbtest.Deadline, "nothing is left prepared", func() bool {
		dbtest.Exec(t, pool, "select recover_prepared_transactions()")
		for _, count := range onWorkers(t, pool, "select count(*) from pg_prepared_xacts") {
			if count != "0" {
				return false
			}
		}
		return true
	})
	mustCommand(t, cluster.URL, "upload", dbtest.Sample(t), "--mode", "append")
}

// A worker that hangs counts as away once the timeout of a statement or a connection has passed.
func TestCitusWorkerFrozen(t *testing.T) {
	cluster, pool := newCitus(t)
	mustCommand(t, cluster.URL, "upload", dbtest.Sample(t), "--distribute-by", "AColumnOfNumbers")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select count(*) from sample', 'never')")
	dbtest.Exec(t, pool, "alter system set citus.node_connection_timeout = '2s'")
	dbtest.Exec(t, pool, "select pg_reload_conf()")
	dbtest.Eventually(t, dbtest.Deadline, "the setting is read", func() bool {
		return dbtest.Value[string](t, pool, "show citus.node_connection_timeout") == "2s"
	})
	thaw := cluster.Workers[0].Freeze()
	// A new session has no connection to it yet.
	fresh := openPool(t, cluster.URL)
	if got := dbtest.Value[string](t, fresh, "select concat_ws(' ', outcome, error_code) from tinydevcrm.refresh_matview('v')"); got != "failed 08006" {
		t.Errorf("a refresh that cannot connect: %s", got)
	}
	thaw()
	if got := refreshed(t, fresh, "v"); got != "recovered plain 1, notified true" {
		t.Errorf("after the worker resumes: %s", got)
	}
	if _, stderr, err := command(t, cluster.URL, "", "upload", dbtest.Sample(t), "--mode", "append"); err != nil {
		t.Errorf("after the worker resumes: %s", stderr)
	}
}

// A worker that was started without the library of Citus answers with no rows and no error. The checks find
// that.
func TestCitusWorkerWithoutTheLibrary(t *testing.T) {
	cluster, pool := newCitus(t)
	worker := cluster.Workers[0]
	worker.Set("shared_preload_libraries", "")
	worker.Stop()
	worker.StartAny()
	if found := dbtest.Value[string](t, pool, "select string_agg(detail, '; ') from tinydevcrm.check_installation() where not is_ok"); found != "Citus preloaded: off" {
		t.Errorf("check_installation() finds %q", found)
	}
}
