package main

import (
	"bytes"
	"database/sql"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// TestDumpGoesOnElsewhere tests what OPERATIONS.md says about backups: a dump restored into a new server keeps
// the registry and settings, and there the schedules run and the pending deliveries are made. The old server
// may be of an older Postgres: that is one way to upgrade.
func TestDumpGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	oldBindir, isOther := os.LookupEnv("TINYDEVCRM_TEST_OLD_PG_BINDIR")
	if !isOther {
		oldBindir = os.Getenv("PG_BINDIR")
	}
	old := dbtest.NewServerOf(t, oldBindir)
	mustCommand(t, old.URL, "migrate", "up")
	dbtest.Exec(t, openPool(t, old.URL), "select tinydevcrm.create_user('ann', 'secret word')")
	mustCommand(t, old.URL, "upload", dbtest.Sample(t))
	pool := openPool(t, old.URL)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set event_limit = 12345")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select * from sample', 'always')")
	ann := open(t, old.URL, "ann")
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('hers', 'select 1 as one', 'always')")
	dbtest.Exec(t, ann, "select tinydevcrm.schedule_matview('hers', '5 seconds')")
	ann.Close()
	r, _ := newWebhook(t, pool, "w", always(http.StatusOK))
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription($1)", logSubscription)
	var pending []int64
	for range 3 {
		pending = append(pending, refresh(t, pool))
	}
	// Nothing may change between the dump and what is compared with it.
	stopJobs(t, pool)
	roles, dump := dumpServer(t, old.URL)
	// Of what the views have seen, the new server knows nothing.
	dbtest.Exec(t, pool, "update tinydevcrm.matviews set seen_snapshot = null, tried_snapshot = null")
	before := everyRow(t, pool)
	old.Stop()

	fresh := dbtest.NewServer(t)
	restoreServer(t, fresh.URL, roles, dump)
	pool = openPool(t, fresh.URL)
	for i, after := range everyRow(t, pool) {
		if after != before[i] {
			t.Errorf("dumped:\n%s\nrestored:\n%s", before[i], after)
		}
	}
	dbtest.Exec(t, pool, "update cron.job set active = true")
	finding := dbtest.Value[string](t, pool, "select detail from tinydevcrm.check_installation() where not is_ok")
	if !strings.Contains(finding, "tinydevcrm upkeep: connects to") {
		t.Errorf("the jobs connect to the old server, and check_installation() finds %q", finding)
	}

	restored := time.Now()
	stdout, stderr := background(t, fresh.URL, upWithWebhooks...)
	dbtest.Eventually(t, dbtest.Deadline, "the pending deliveries are made", func() bool {
		accepted := r.accepted()
		return !slices.ContainsFunc(pending, func(id int64) bool { return accepted[id] == 0 })
	})
	t.Logf("pending deliveries were made %s after the start", time.Since(restored).Round(time.Millisecond))
	// Where pg_cron has no seconds, the loop begins at the full minute.
	dbtest.Eventually(t, 90*time.Second, "the schedule goes on", func() bool {
		return slices.ContainsFunc(stdout.events(t), func(e eventLine) bool {
			return e.Matview == "ann.hers" && e.EventID > slices.Max(pending)
		})
	})
	t.Logf("the first scheduled refresh notified %s after the start", time.Since(restored).Round(time.Millisecond))
	if strings.Contains(stderr.String(), `"WARN"`) {
		t.Errorf("it complains: %s", stderr)
	}
	for id, count := range r.accepted() {
		if count != 1 {
			t.Errorf("event %d was accepted %d times", id, count)
		}
	}
}

func openPool(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	// One connection, so that what is set in the session stays.
	pool, err := db.Open(t.Context(), databaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

// everyRow is every row of ours, by table, and of pg_cron's jobs, and the owner and rights of everything.
func everyRow(t *testing.T, pool *sql.DB) []string {
	t.Helper()
	tables := dbtest.Column[string](t, pool, `
		select format('select %L || coalesce(string_agg(t::text, e''\n'' order by t::text), '''') from %s as t', oid::regclass, oid::regclass)
		  from pg_class
		 where relkind = 'r'
		   and (relnamespace = 'tinydevcrm'::regnamespace or oid in ('cron.job'::regclass, 'public.sample'::regclass))
		 order by oid::regclass::text`)
	tables = append(tables, `
		select string_agg(concat_ws(' ', oid::regclass, relkind, relowner::regrole, (
		           select string_agg(concat_ws(' ', grantee::regrole, privilege_type), ', ' order by grantee::regrole::text, privilege_type)
		             from aclexplode(relacl)
		            where grantee <> relowner)), e'\n' order by oid::regclass::text)
		  from pg_class
		 where relnamespace in ('tinydevcrm'::regnamespace, 'ann'::regnamespace, 'public'::regnamespace)`)
	rows := make([]string, len(tables))
	for i, table := range tables {
		rows[i] = dbtest.Value[string](t, pool, table)
	}
	return rows
}

// dumpServer dumps as OPERATIONS.md describes.
func dumpServer(t *testing.T, databaseURL string) (roles []byte, dump string) {
	t.Helper()
	dump = filepath.Join(t.TempDir(), "tinydevcrm.dump")
	runTool(t, nil, "pg_dump", "--format=custom", "--file="+dump, databaseURL)
	return runTool(t, nil, "pg_dumpall", "--roles-only", "--dbname="+databaseURL), dump
}

func restoreServer(t *testing.T, databaseURL string, roles []byte, dump string) {
	t.Helper()
	// The role of the superuser exists already, so that error is expected.
	runTool(t, roles, "psql", "-X", "-q", databaseURL)
	// A dump of pg_cron before 1.5 would put it into a schema that later versions refuse.
	runTool(t, nil, "psql", "-X", "-q", "-c", "create extension pg_cron", databaseURL)
	// Each as the user that owns it.
	restoring := exec.Command("../scripts/restore", dump, strings.Replace(databaseURL, "&user=postgres", "", 1))
	if output, err := restoring.CombinedOutput(); err != nil {
		t.Fatalf("scripts/restore: %v\n%s", err, output)
	}
}

// runTool runs one of Postgres' own programs.
func runTool(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	command := exec.Command(filepath.Join(os.Getenv("PG_BINDIR"), name), args...)
	command.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	return stdout
}

// What a user has planted runs as no other role when a superuser dumps and restores as OPERATIONS.md describes.
func TestRestoreSpringsNoTraps(t *testing.T) {
	t.Parallel()
	old := dbtest.NewServer(t)
	old.Set("autovacuum", "off")
	old.Restart()
	mustCommand(t, old.URL, "migrate", "up")
	super := open(t, old.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['eve', 'bob']) as name")
	field := layTraps(t, old, super)
	roles, dump := dumpServer(t, old.URL)
	field.caught("the dump")
	const counts = `
		select concat_ws(' ', (select count(*) from pg_class where relnamespace = 'eve'::regnamespace),
		           (select count(*) from pg_constraint where connamespace = 'eve'::regnamespace),
		           (select count(*) from pg_trigger where tgname = 't'), (select count(*) from pg_policy where polname = 'p'),
		           (select count(*) from tinydevcrm.matviews), (select count(*) from tinydevcrm.imports),
		           (select count(*) from pg_class where relnamespace = 'eve'::regnamespace and relkind = 'm' and relispopulated))`
	before := dbtest.Value[string](t, super, counts)

	fresh := dbtest.NewServer(t)
	fresh.Set("autovacuum", "off")
	fresh.Restart()
	restoreServer(t, fresh.URL, roles, dump)
	restored := &minefield{t: t, server: fresh, super: open(t, fresh.URL, "postgres"), set: field.set}
	restored.caught("the restore")
	if after := dbtest.Value[string](t, restored.super, counts); after != before {
		t.Errorf("restored is %s of %s", after, before)
	}
	restored.isArmed()
}
