package main

import (
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// codeOf is the SQLSTATE of an error.
func codeOf(err error) string {
	var refused *pq.Error
	if errors.As(err, &refused) {
		return string(refused.Code)
	}
	return ""
}

// urlOf is the URL of the server of a pool, as its superuser.
func urlOf(t *testing.T, super *sql.DB) string {
	t.Helper()
	return "postgres:///tinydevcrm?port=5432&user=postgres&sslmode=disable&host=" +
		url.QueryEscape(dbtest.Value[string](t, super, "show unix_socket_directories"))
}

// held is an open transaction of a session of its own, in which the statement has run.
func held(t *testing.T, pool *sql.DB, statement string) *sql.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return tx
}

// Postgres queues a command before it checks its rights, and queues everyone else behind it. The orchestrator
// ends the session that waits, whichever table it waits for.
func TestNobodyQueuesBehindAWaitingCommand(t *testing.T) {
	t.Parallel()
	super, _, eve := tenants(t)
	databaseURL := urlOf(t, super)
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	_, stderr := background(t, dbtest.AsRole(databaseURL, "runner"), "up", "--listen-addr", "localhost:0")
	dbtest.Eventually(t, dbtest.Deadline, "ready", func() bool { return strings.Contains(stderr.String(), `"msg":"ready"`) })
	time.Sleep(2 * time.Second)

	for _, attack := range []struct{ holds, waits string }{
		{"select from tinydevcrm.settings", "create rule r as on insert to tinydevcrm.settings do nothing"},
		{"select from tinydevcrm.matviews", "create rule r as on insert to tinydevcrm.matviews do nothing"},
		{"select from tinydevcrm.deliveries", "create trigger t before insert on tinydevcrm.deliveries for each row execute function suppress_redundant_updates_trigger()"},
		{"select from tinydevcrm.matviews", "create table f (id bigint references tinydevcrm.matviews (id))"},
		{"lock table pg_catalog.pg_class in access share mode", "create rule r as on insert to pg_catalog.pg_class do nothing"},
		{"lock table pg_catalog.pg_authid in access share mode", "create rule r as on insert to pg_catalog.pg_authid do nothing"},
		{"select from cron.job_run_details", "create rule r as on insert to cron.job_run_details do nothing"},
		{"lock table pg_catalog.pg_proc in access share mode", "create rule r as on insert to pg_catalog.pg_proc do nothing"},
	} {
		holding, err := eve.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holding.Exec(attack.holds); err != nil {
			// Nobody but a superuser can hold this one.
			if err := holding.Rollback(); err != nil {
				t.Fatal(err)
			}
			if codeOf(err) == "42501" {
				continue
			}
		}
		waited := make(chan error, 1)
		go func() {
			_, err := eve.Exec(attack.waits)
			waited <- err
		}()
		select {
		case err := <-waited:
			if err == nil {
				t.Errorf("eve may: %s", attack.waits)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("it still waits: %s", attack.waits)
		}
		if err := holding.Rollback(); err != nil {
			t.Error(err)
		}
		fresh, err := db.Open(t.Context(), databaseURL, 1)
		if err != nil {
			t.Fatalf("a superuser logs in: %v", err)
		}
		fresh.Close()
	}
	if log := stderr.String(); !strings.Contains(log, "waited for a lock on tinydevcrm.settings") || !strings.Contains(log, `"role":"eve"`) {
		t.Errorf("the log does not say whose session was ended: %s", log)
	}
}

// The watchdog leaves administrators, superusers and what users do with their own tables alone.
func TestOthersMayWait(t *testing.T) {
	t.Parallel()
	super, _, eve := tenants(t)
	dbtest.Exec(t, super, "select tinydevcrm.create_user('adele', 'secret word')")
	dbtest.Exec(t, super, "grant tinydevcrm_admin to adele")
	adele := open(t, urlOf(t, super), "adele")
	dbtest.Exec(t, eve, "create table own (n integer)")
	held(t, eve, "select from tinydevcrm.settings, own")

	ended := make(chan error, 3)
	for pool, statement := range map[*sql.DB]string{
		super: "lock table tinydevcrm.settings in access exclusive mode",
		adele: "create rule r as on insert to tinydevcrm.matviews do nothing",
		eve:   "alter table own add column m integer",
	} {
		go func() {
			tx, err := pool.BeginTx(t.Context(), nil)
			if err == nil {
				_, err = tx.Exec("set local lock_timeout = '3s'; " + statement)
				_ = tx.Rollback()
			}
			ended <- err
		}()
	}
	watch := open(t, urlOf(t, super), "postgres")
	for range 3 {
		if pids := dbtest.Column[int](t, watch, "select pid from tinydevcrm._end_blocking_sessions()"); len(pids) > 0 {
			t.Errorf("sessions were ended: %v", pids)
		}
		time.Sleep(500 * time.Millisecond)
	}
	for range 3 {
		if err := <-ended; codeOf(err) != "55P03" && codeOf(err) != "42501" {
			t.Errorf("the wait ended with %v", err)
		}
	}
}

// While the queue of notifications fills up, a user's idle transaction is ended, because it may be one that listens.
func TestTheQueueOfNotificationsIsEmptied(t *testing.T) {
	t.Parallel()
	super, ann, eve := tenants(t)
	held(t, eve, "listen matview_refresh_channel")
	fresh := held(t, ann, "select")
	for _, usage := range []string{"", "0.05", "0.2"} {
		if pids := dbtest.Column[int](t, super, "select pid from tinydevcrm._end_blocking_sessions("+usage+")"); len(pids) > 0 {
			t.Errorf("usage %q: %v were ended", usage, pids)
		}
	}
	dbtest.Eventually(t, dbtest.Deadline, "eve's session is ended", func() bool {
		if _, err := fresh.Exec("commit; begin"); err != nil {
			t.Fatalf("ann's new transaction: %v", err)
		}
		ended := dbtest.Column[string](t, super, "select role_name || ' ' || reason from tinydevcrm._end_blocking_sessions(0.2)")
		if len(ended) == 1 && ended[0] != "eve kept the queue of notifications, 20 % full, from being emptied" {
			t.Fatal(ended)
		}
		return len(ended) == 1
	})
	if pids := dbtest.Column[int](t, super, "select pid from tinydevcrm._end_blocking_sessions(0.05)"); len(pids) > 0 {
		t.Errorf("%v were ended while the queue was nearly empty", pids)
	}
}

// Everyone can take golang-migrate's lock. A user who does ends no migration.
func TestAUserHoldsTheLockOfMigrations(t *testing.T) {
	t.Parallel()
	super, _, eve := tenants(t)
	lock, err := database.GenerateAdvisoryLockId("tinydevcrm", "public", "schema_migrations")
	if err != nil {
		t.Fatal(err)
	}
	held(t, eve, "select pg_advisory_lock("+lock+")")
	ended := make(chan string, 1)
	go func() {
		_, stderr, _ := command(t, urlOf(t, super), "", "migrate", "up")
		ended <- stderr
	}()
	select {
	case stderr := <-ended:
		if stderr != "" {
			t.Error(stderr)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("migrate up still waits")
	}
}
