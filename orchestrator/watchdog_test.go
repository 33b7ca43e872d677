package main

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

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
	databaseURL := dbtest.Value[string](t, super, "select format('postgres:///tinydevcrm?host=%s&port=5432&user=postgres&sslmode=disable', replace(current_setting('cron.host'), '/', '%2F'))")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	_, stderr := background(t, strings.Replace(databaseURL, "user=postgres", "user=runner", 1), "up", "--listen-addr", "localhost:0")
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
