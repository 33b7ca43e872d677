package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/migrations"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// These tests need a server of their own: they migrate it, kill it and change its settings.

func TestMigrateManyAtOnceAndDown(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			if _, stderr, err := command(t, server.URL, "", "migrate", "up"); err != nil {
				t.Errorf("migrate up: %s", stderr)
			}
		})
	}
	group.Wait()

	pool, err := db.Open(t.Context(), server.URL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	mustCommand(t, server.URL, "upload", dbtest.Sample(t))
	mustCommand(t, server.URL, "matview", "create", "v", "select * from sample")
	mustCommand(t, server.URL, "matview", "schedule", "v", "5 seconds")
	dbtest.Exec(t, pool, "select cron.schedule('0 0 1 1 *', 'select 1')")

	mustCommand(t, server.URL, "migrate", "down", "--all")
	if jobs := dbtest.Value[string](t, pool, "select string_agg(command, ', ') from cron.job"); jobs != "select 1" {
		t.Errorf("jobs left: %s; want the user's own", jobs)
	}
	if left := dbtest.Value[int](t, pool, `
		select (select count(*) from pg_namespace where nspname = 'tinydevcrm')
		     + (select count(*) from pg_roles where rolname = 'tinydevcrm_user')`); left != 0 {
		t.Errorf("%d things of ours are left", left)
	}
	if rows := dbtest.Value[int](t, pool, "select count(*) from v join sample using (\"AColumnOfNumbers\")"); rows != 10 {
		t.Errorf("the user's view and table have %d rows, want 10", rows)
	}
	mustCommand(t, server.URL, "migrate", "up")
}

// No migration needs a later one: imports work when theirs are the last.
func TestImportsNeedNoLaterMigration(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	names, err := fs.Glob(migrations.Files, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	last := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, "_create_import_staging.up.sql") })
	mustCommand(t, server.URL, "migrate", "up", strconv.Itoa(last+1))

	file := filepath.Join(t.TempDir(), "numbers.csv")
	if err := os.WriteFile(file, []byte("id,name\n1,one\n2,two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"create", "append", "replace"} {
		mustCommand(t, server.URL, "upload", file, "--table", "plain", "--mode", mode)
	}
	for range 2 {
		mustCommand(t, server.URL, "upload", file, "--table", "keyed", "--mode", "upsert", "--key", "id")
	}
	pool := server.Open()
	defer pool.Close()
	dbtest.Exec(t, pool, "create table staging (n text); insert into staging values ('1')")
	dbtest.Exec(t, pool, "select tinydevcrm.import_staging('staging', 'staged')")
	if rows := dbtest.Value[string](t, pool, `
		select concat_ws(' ', (select count(*) from plain), (select count(*) from keyed), (select sum(n) from staged))`); rows != "2 2 1" {
		t.Errorf("the tables have %s rows, want 2 2 1", rows)
	}
}

func TestMigrateRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	pool, err := db.Open(t.Context(), server.URL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	dbtest.Exec(t, pool, "create database other")
	other := strings.Replace(server.URL, "/tinydevcrm?", "/other?", 1)
	for range 2 {
		_, stderr, err := command(t, other, "", "migrate", "up")
		if err == nil || !strings.Contains(stderr, "cron.database_name") {
			t.Fatalf("in another database: %v, %s", err, stderr)
		}
	}

	dbtest.Exec(t, pool, "alter system set shared_preload_libraries = 'plpgsql'")
	server.Stop()
	server.StartWithoutCron()
	for range 2 {
		_, stderr, err := command(t, server.URL, "", "migrate", "up")
		if err == nil || !strings.Contains(stderr, "shared_preload_libraries") {
			t.Fatalf("without pg_cron in the preload list: %v, %s", err, stderr)
		}
	}
	dbtest.Exec(t, pool, "alter system reset shared_preload_libraries")
	server.Stop()
	server.Start()
	mustCommand(t, server.URL, "migrate", "up")
}

func TestUpOutlivesAKilledPostmaster(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	stdout, _ := background(t, server.URL, "up", "--listen-addr", "localhost:0")
	pool, err := db.Open(t.Context(), server.URL, db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	logged := func(count int) func() bool {
		return func() bool { return len(stdout.events(t)) >= count }
	}
	dbtest.Eventually(t, dbtest.Deadline, "an event is logged", logged(1))

	for round := range 3 {
		pid, err := strconv.Atoi(strings.TrimSpace(dbtest.Value[string](t, pool,
			"select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)")))
		if err != nil {
			t.Fatal(err)
		}
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		server.Start()
		dbtest.Eventually(t, dbtest.Deadline, "the server answers", func() bool {
			return pool.PingContext(t.Context()) == nil
		})
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
		dbtest.Eventually(t, dbtest.Deadline, "all events are logged", logged(3+2*round))
	}

	counts := make(map[int64]int)
	for _, event := range stdout.events(t) {
		counts[event.EventID]++
	}
	if notified := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.matview_refresh_events where is_notified"); len(counts) != notified {
		t.Errorf("%d of %d events are logged", len(counts), notified)
	}
	for id, count := range counts {
		if count != 1 {
			t.Errorf("event %d is logged %d times", id, count)
		}
	}
}

// The orchestrator needs no superuser once the database is migrated: its role receives the events of all users.
func TestUpAsTheOrchestratorsRole(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	pool, err := db.Open(t.Context(), server.URL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	dbtest.Exec(t, pool, "create role runner login in role tinydevcrm_orchestrator")
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")

	stdout, stderr := background(t, dbtest.AsRole(server.URL, "runner"), "up", "--listen-addr", "localhost:0")
	dbtest.Eventually(t, dbtest.Deadline, "it is ready", func() bool { return strings.Contains(stderr.String(), `"ready"`) })
	if strings.Contains(stderr.String(), `"WARN"`) {
		t.Errorf("it complains: %s", stderr)
	}
	dbtest.Exec(t, pool, "set session authorization ann")
	dbtest.Exec(t, pool, "set search_path = ann")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	dbtest.Eventually(t, dbtest.Deadline, "a user's event is logged", func() bool {
		events := stdout.events(t)
		return len(events) == 1 && events[0].Matview == "ann.v"
	})
}
