package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// These tests start a Citus coordinator and two workers. They are skipped where the server does not offer
// Citus.

// newCitus is a migrated cluster that distributes even the smallest tables.
func newCitus(t *testing.T) (*dbtest.Cluster, *sql.DB) {
	t.Helper()
	cluster := dbtest.NewCluster(t, 2)
	mustCommand(t, cluster.URL, "migrate", "up")
	pool := cluster.Open()
	t.Cleanup(func() { pool.Close() })
	dbtest.Exec(t, pool, "update tinydevcrm.settings set reference_row_limit = 0")
	return cluster, pool
}

// writeFile writes text to a file and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// distribution is what the log says about the last import.
func distribution(t *testing.T, pool *sql.DB) string {
	t.Helper()
	return dbtest.Value[string](t, pool,
		"select coalesce(distribution, 'none') from tinydevcrm.imports order by id desc limit 1")
}

// onWorkers queries a value from each worker.
func onWorkers(t *testing.T, pool *sql.DB, query string) []string {
	t.Helper()
	return dbtest.Column[string](t, pool, "select coalesce(result, '') from run_command_on_workers($1)", query)
}

// The unchanged product on a coordinator: file, distributed table, view, pg_cron, event, log, webhook.
func TestCitusMainJob(t *testing.T) {
	cluster, pool := newCitus(t)
	stdout := mustCommand(t, cluster.URL, "upload", dbtest.Sample(t), "--distribute-by", "AColumnOfNumbers")
	if !strings.Contains(stdout, `on the workers of Citus: distributed by "AColumnOfNumbers"`) {
		t.Errorf("the upload does not say how the table is distributed: %s", stdout)
	}
	if got := distribution(t, pool); got != `distributed by "AColumnOfNumbers"` {
		t.Errorf("the log says %s", got)
	}
	for i, result := range onWorkers(t, pool, `
		select sum((xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %s', oid::regclass), false, true, '')))[1]::text::int)
		  from pg_class where relname like 'sample\_1%' and relkind = 'r'`) {
		if result == "0" || result == "" {
			t.Errorf("worker %d has %q rows", i, result)
		}
	}

	mustCommand(t, cluster.URL, "matview", "create", "v",
		`select * from sample where "AColumnOfNumbers" = floor(extract(second from now()))::integer % 10`)
	receiver, _ := newWebhook(t, pool, "w", always(http.StatusOK))
	log, stderr := background(t, cluster.URL, upWithWebhooks...)
	mustCommand(t, cluster.URL, "matview", "schedule", "v", "2 seconds")
	// Where pg_cron has no seconds, the loop begins at the full minute.
	dbtest.Eventually(t, 90*time.Second, "three scheduled events, logged and posted", func() bool {
		count := 0
		for _, event := range log.events(t) {
			if event.ScheduleID != 0 && receiver.accepted()[event.EventID] > 0 {
				count++
			}
		}
		return count >= 3
	})
	for _, event := range log.events(t) {
		want := fmt.Sprintf(`[{"AColumnOfNumbers":%d}]`, event.StartedAt.Second()%10)
		if event.Outcome != "refreshed" || string(event.Rows) != want {
			t.Errorf("event %d: %s with %s, want %s", event.EventID, event.Outcome, event.Rows, want)
		}
	}
	if strings.Contains(stderr.String(), `"WARN"`) {
		t.Errorf("it complains: %s", stderr)
	}
}

// Our objects stay on the coordinator, need nothing on the workers, and are removed by the down migrations.
func TestCitusMigrations(t *testing.T) {
	cluster, pool := newCitus(t)
	if ours := dbtest.Value[int](t, pool, `
		select count(*) from pg_dist_partition join pg_class on oid = logicalrelid
		 where relnamespace in ('tinydevcrm'::regnamespace, 'cron'::regnamespace)`); ours != 0 {
		t.Errorf("%d of our tables are known to Citus", ours)
	}
	for i, result := range onWorkers(t, pool, `
		select (select count(*) from pg_extension where extname = 'pg_cron')
		     + (select count(*) from pg_namespace where nspname in ('tinydevcrm', 'cron'))`) {
		if result != "0" {
			t.Errorf("worker %d has %s things that only the coordinator needs", i, result)
		}
	}

	mustCommand(t, cluster.URL, "upload", dbtest.Sample(t), "--distribute-by", "AColumnOfNumbers")
	mustCommand(t, cluster.URL, "matview", "create", "v", "select * from sample")
	mustCommand(t, cluster.URL, "matview", "schedule", "v", "5 seconds")
	mustCommand(t, cluster.URL, "migrate", "down", "--all")
	for i, result := range onWorkers(t, pool, `
		select count(*) from pg_roles where rolname like 'tinydevcrm%'`) {
		if result != "0" {
			t.Errorf("worker %d has %s roles of ours left", i, result)
		}
	}
	if rows := dbtest.Value[int](t, pool, `select count(*) from v join sample using ("AColumnOfNumbers")`); rows != 10 {
		t.Errorf("the user's view and table have %d rows, want 10", rows)
	}
	mustCommand(t, cluster.URL, "migrate", "up")
}

// A server that was used without Citus becomes a coordinator, and its tables are distributed one by one, with
// views that read them.
func TestCitusAddedToAServerInUse(t *testing.T) {
	cluster := dbtest.NewCluster(t, 2)
	pool := cluster.Open()
	t.Cleanup(func() { pool.Close() })
	dbtest.Exec(t, pool, "drop extension citus cascade")
	for _, worker := range cluster.Workers {
		workerPool := worker.Open()
		dbtest.Exec(t, workerPool, "drop extension citus cascade")
		workerPool.Close()
	}
	mustCommand(t, cluster.URL, "migrate", "up")
	_, stderr, err := command(t, cluster.URL, "", "upload", dbtest.Sample(t), "--distribute-by", "AColumnOfNumbers")
	if err == nil || !strings.Contains(stderr, "not a Citus coordinator") || !strings.Contains(stderr, "create extension citus") {
		t.Errorf("without Citus: %v, %s", err, stderr)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")
	as := asUser(t, cluster, "ann")
	dbtest.Exec(t, as, "create table numbers as select n, n % 7 as rest from generate_series(1, 20000) as n")
	dbtest.Exec(t, as, "select tinydevcrm.create_matview('v', 'select rest, count(*) from numbers group by rest', 'changed', key => '{rest}')")
	dbtest.Exec(t, as, "select tinydevcrm.refresh_matview('v')")

	cluster.Join(pool)
	// The workers would apply a user's connection limit too, although one query opens many connections to each
	// worker.
	remedy := dbtest.Value[string](t, pool, "select string_agg(hint, ' ') from tinydevcrm.check_installation() where not is_ok")
	if remedy != "alter role ann connection limit -1;" {
		t.Fatalf("check_installation() says %q", remedy)
	}
	dbtest.Exec(t, pool, remedy)
	if findings := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.check_installation() where not is_ok"); findings != 0 {
		t.Errorf("what check_installation() says to type leaves %d findings", findings)
	}

	if got := dbtest.Value[string](t, as, "select tinydevcrm.distribute_table('numbers', 'n')"); got != "distributed by n" {
		t.Errorf("distribute_table() says %s", got)
	}
	if got := refreshed(t, as, "v"); got != "refreshed concurrently 7, notified false" {
		t.Errorf("after it moved: %s", got)
	}
	dbtest.Exec(t, as, "insert into numbers values (0, 0)")
	if got := refreshed(t, as, "v"); got != "refreshed concurrently 7, notified true" {
		t.Errorf("after a change: %s", got)
	}
}

// refreshed refreshes a view and returns the outcome.
func refreshed(t *testing.T, pool *sql.DB, view string) string {
	t.Helper()
	return dbtest.Value[string](t, pool, `
		select concat_ws(' ', outcome, method, row_count) || ', notified ' || is_notified::text
		  from tinydevcrm.refresh_matview($1::text::regclass)`, view)
}

// asUser opens a connection of a user that create_user() has created.
func asUser(t *testing.T, cluster *dbtest.Cluster, name string) *sql.DB {
	t.Helper()
	return openPool(t, strings.Replace(cluster.URL, "user=postgres", "user="+name, 1))
}
