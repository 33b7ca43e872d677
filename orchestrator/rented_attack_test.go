package main

import (
	"database/sql"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Where everyone may delete from pg_cron's history, and so lock it, the watchdog ends who keeps pg_cron waiting. It does so
// even if that user has taken away the right to end their sessions.
func TestUsersDoNotStopPgCron(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	background(t, server.URL, "up", "--listen-addr", "localhost:0")
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	dbtest.Eventually(t, dbtest.Deadline, "it is migrated", func() bool {
		return dbtest.Value[bool](t, super, "select to_regprocedure('tinydevcrm._end_blocking_sessions(float8)') is not null")
	})
	installer := openPool(t, server.URL)
	dbtest.Exec(t, installer, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'bob']) as name")
	dbtest.Exec(t, super, `
		insert into cron.job_run_details (runid, jobid, database, username, command, status)
		values (-1, -1, 'tinydevcrm', 'ann', 'select 1', 'running'), (-2, -1, 'tinydevcrm', 'bob', 'select 2', 'succeeded')`)

	for _, attack := range []struct{ holds, waits string }{
		{"lock table cron.job_run_details in access exclusive mode", "select count(*) from cron.job_run_details"},
		{"lock table cron.job_run_details in share mode", "update cron.job_run_details set status = status where runid = -1"},
		{"delete from cron.job_run_details where runid = -1", "update cron.job_run_details set status = status where runid = -1"},
	} {
		for _, isLeft := range []bool{false, true} {
			holding := held(t, open(t, server.URL, "ann"), attack.holds)
			if isLeft {
				leave(t, super)
			}
			dbtest.Exec(t, super, "set statement_timeout = '10s'; "+attack.waits+"; reset statement_timeout")
			if _, err := holding.Exec("select 1"); err == nil {
				t.Errorf("the session goes on: %s", attack.holds)
			}
		}
	}
	cleaning := held(t, open(t, server.URL, "bob"), "delete from cron.job_run_details where runid = -2")
	if _, err := open(t, server.URL, "ann").Exec("lock table cron.job_run_details in access exclusive mode"); err == nil {
		t.Error("ann locks the table while bob uses it")
	}
	// Nobody but ann waited for him.
	if err := cleaning.Commit(); err != nil {
		t.Errorf("bob cannot remove his own history: %v", err)
	}
}

// A user who has left the role that migrates is a member again within a minute, and can be dropped.
func TestUsersDoNotEscapeTheInstaller(t *testing.T) {
	t.Parallel()
	server := dbtest.NewRented(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := openPool(t, dbtest.AsRole(server.URL, "postgres"))
	installer := openPool(t, server.URL)
	dbtest.Exec(t, installer, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'bob']) as name")
	dbtest.Exec(t, super, "create role eve login in role tinydevcrm_user")
	dbtest.Exec(t, super, "comment on role eve is 'Created by tinydevcrm.create_user().'")
	const isMember = "select pg_has_role('rented', $1, 'member')"
	leave(t, super)
	dbtest.Exec(t, installer, "call tinydevcrm.settle_jobs()")
	if !dbtest.Value[bool](t, super, isMember, "ann") {
		t.Error("upkeep does not make it a member again")
	}
	if dbtest.Value[bool](t, super, isMember, "eve") {
		t.Error("upkeep makes it a member of a user whom it has not created")
	}
	dbtest.Exec(t, open(t, server.URL, "ann"), "create table numbers as select 1 as n")
	leave(t, super)
	dbtest.Exec(t, installer, "select tinydevcrm.drop_user('ann', 'bob')")
	dbtest.Eventually(t, 10*time.Second, "ann is gone", func() bool {
		return dbtest.Value[bool](t, super, "select not exists (select from pg_roles where rolname = 'ann')")
	})
}

// leave does what ann can do before Postgres 15. From 16 on nobody takes a role from its creator by a plain revoke.
func leave(t *testing.T, super *sql.DB) {
	t.Helper()
	if dbtest.Value[int](t, super, "select current_setting('server_version_num')::integer") >= 160000 {
		return
	}
	dbtest.Exec(t, super, "revoke ann from rented")
	if dbtest.Value[bool](t, super, "select pg_has_role('rented', 'ann', 'member')") {
		t.Fatal("it is a member of ann still")
	}
}
