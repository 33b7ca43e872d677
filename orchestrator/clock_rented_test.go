package main

import (
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// plainDatabase makes a database without pg_cron on a rented server, as its provider hands it over, and returns its URL.
func plainDatabase(t *testing.T, server *dbtest.Server, super *sql.DB) string {
	t.Helper()
	dbtest.Exec(t, super, "create database plain owner rented")
	plain := strings.Replace(server.URL, "/tinydevcrm?", "/plain?", 1)
	// From 13 on the owner of a database can create pgcrypto, and nothing of ours needs it.
	if dbtest.Value[int](t, super, "select current_setting('server_version_num')::integer") < 130000 {
		dbtest.Exec(t, openPool(t, dbtest.AsRole(plain, "postgres")), "create extension pgcrypto")
	}
	return plain
}

// Neither a superuser nor pg_cron, as on a server that may not be restarted.
func TestClockWithoutASuperuser(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	plain := plainDatabase(t, server, super)
	if _, stderr, err := command(t, plain, "", "doctor"); err == nil || !strings.Contains(stderr, "up --clock") {
		t.Errorf("doctor without --clock: %v %s", err, stderr)
	}
	if out := mustCommand(t, plain, "doctor", "--clock"); !strings.Contains(out, "TinyDevCRM will work here") || strings.Contains(out, "!!") {
		t.Errorf("doctor --clock: %s", out)
	}

	background(t, plain, "up", "--clock", "--listen-addr", "localhost:0")
	pool := openPool(t, plain)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")
	for _, owner := range []*sql.DB{pool, openPool(t, dbtest.AsRole(plain, "ann"))} {
		dbtest.Exec(t, owner, "select tinydevcrm.create_matview('v', 'select session_user::text as who, clock_timestamp() as t')")
		dbtest.Exec(t, owner, "select tinydevcrm.schedule_matview('v', '1 second')")
	}
	dbtest.Eventually(t, dbtest.Deadline, "the views of both are refreshed by their schedule", func() bool {
		return dbtest.Value[int](t, pool, `
			select count(distinct owner) from tinydevcrm.matview_refresh_events
			 where schedule_id is not null and outcome = 'refreshed'`) == 2
	})
}

// Where the role that migrates may not read the history of jobs, everything else works.
func TestJobsWithoutTheirHistory(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	dbtest.Exec(t, super, "revoke all on cron.job_run_details from public")
	mustCommand(t, server.URL, "migrate", "up")
	pool := openPool(t, server.URL)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")
	for _, owner := range []*sql.DB{pool, openPool(t, dbtest.AsRole(server.URL, "ann"))} {
		dbtest.Exec(t, owner, "select tinydevcrm.create_matview('v', 'select clock_timestamp() as t')")
		dbtest.Exec(t, owner, "select tinydevcrm.schedule_matview('v', '* * * * *')")
	}
	dbtest.Exec(t, pool, "call tinydevcrm.settle_jobs()")
	dbtest.Exec(t, pool, "call tinydevcrm.remove_expired()")
	if jobs := dbtest.Value[int](t, super, "select count(*) from cron.job where command ~ 'refresh_scheduled'"); jobs != 2 {
		t.Errorf("%d views have a job, want 2", jobs)
	}
	const unread = `
		select count(*) from tinydevcrm.check_installation() where not is_ok and finding = 'the history of jobs can be read'`
	if count := dbtest.Value[int](t, pool, unread); count != 1 {
		t.Error("check_installation() does not say that the history cannot be read")
	}
	if counts := dbtest.Value[string](t, pool, "select (select count(*) from tinydevcrm.matview_status) || ' ' || (select count(*) from tinydevcrm.job_runs)"); counts != "2 0" {
		t.Errorf("views and runs: %s, want 2 0", counts)
	}

	dbtest.Exec(t, super, "grant select on cron.job_run_details to public")
	dbtest.Exec(t, pool, "select tinydevcrm._read_job_runs()")
	if count := dbtest.Value[int](t, pool, unread); count != 0 {
		t.Error("check_installation() still says that the history cannot be read")
	}
	dbtest.Eventually(t, 100*time.Second, "a run is in the history", func() bool {
		return dbtest.Value[int](t, pool, "select count(*) from tinydevcrm.job_runs") > 0
	})
}

// Where each role needs a password, the clock finds those of users in the password file.
func TestClockWithPasswords(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	address := server.ListenOn("scram-sha-256")
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	bySocket := plainDatabase(t, server, super)
	dbtest.Exec(t, super, "alter role rented password 'hers alone'")
	file := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(file, []byte("*:*:plain:ann:secret word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := "postgres://rented:hers%20alone@" + address + "/plain?sslmode=disable&passfile=" + url.QueryEscape(file)
	mustCommand(t, plain, "migrate", "up", "--clock")
	pool := openPool(t, plain)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'bob']) as name")
	for _, user := range []string{"ann", "bob"} {
		owner := openPool(t, dbtest.AsRole(bySocket, user))
		dbtest.Exec(t, owner, "select tinydevcrm.create_matview('v', 'select session_user::text as who')")
		dbtest.Exec(t, owner, "select tinydevcrm.schedule_matview('v', '1 second')")
	}
	background(t, plain, "up", "--clock", "--listen-addr", "localhost:0")
	dbtest.Eventually(t, dbtest.Deadline, "the view of ann is refreshed by its schedule", func() bool {
		return dbtest.Value[bool](t, pool, `
			select exists (
			    select from tinydevcrm.matview_refresh_events
			     where matview = 'ann.v' and schedule_id is not null and outcome = 'refreshed')`)
	})
	var hint string
	dbtest.Eventually(t, dbtest.Deadline, "that of bob is not, and a hint says why", func() bool {
		return pool.QueryRow("select hint from tinydevcrm.check_installation() where not is_ok and finding = 'jobs of bob run'").Scan(&hint) == nil
	})
	if !strings.Contains(hint, "*:*:plain:bob:PASSWORD") {
		t.Errorf("the hint is %s", hint)
	}
}

// A clock that could run nothing says so at its start: behind a pooler in transaction mode, and with a --cron-url that leads
// to no pg_cron or to one that refuses.
func TestClocksThatCannotRun(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	plain := plainDatabase(t, server, super)
	mustCommand(t, plain, "migrate", "up", "--clock")
	pooled := strings.Replace(server.Pooler(), "/tinydevcrm", "/plain", 1)
	makesJobsElsewhere := dbtest.Value[bool](t, super, "select exists (select from pg_proc where proname = 'schedule_in_database')")
	refusal := "grant execute on function cron.schedule_in_database("
	if !makesJobsElsewhere {
		refusal = "It does from version 1.4 on."
	}
	for _, test := range []struct{ database, cron, want string }{
		{pooled, "", "a session of its own"},
		{plain, plain, "pg_cron is not in database plain"},
		{plain, server.URL, refusal},
	} {
		args := []string{"up", "--clock", "--listen-addr", "localhost:0"}
		if test.cron != "" {
			args = append(args, "--cron-url", test.cron)
		}
		if _, stderr, err := command(t, test.database, "", args...); err == nil || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: %v, %s, want %s", args, err, stderr, test.want)
		}
	}
	if !makesJobsElsewhere {
		return
	}
	grants := dbtest.Value[string](t, super, `
		select string_agg(format('grant execute on function %s to rented', oid::regprocedure), '; ')
		  from pg_proc where proname = 'schedule_in_database'`)
	dbtest.Exec(t, super, grants)
	_, stderr := background(t, plain, "up", "--clock", "--cron-url", server.URL, "--listen-addr", "localhost:0")
	dbtest.Eventually(t, dbtest.Deadline, "with that right the jobs of its role are made", func() bool {
		return dbtest.Value[int](t, super, "select count(*) from cron.job where database = 'plain' and username = 'rented'") == 2
	})
	if strings.Contains(stderr.String(), "cannot make") {
		t.Errorf("the log is %s", stderr)
	}
}
