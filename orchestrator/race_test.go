package main

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// Of several imports that create the same table at once, one succeeds and the others get an error.
func TestImportsOfOneNameAtOnce(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	for range 5 {
		results := make(chan error, 4)
		var group sync.WaitGroup
		for range cap(results) {
			group.Go(func() {
				_, err := upload.Load(t.Context(), pool, strings.NewReader("a\n1\n"), upload.Request{Source: "t.csv"})
				results <- err
			})
		}
		group.Wait()
		close(results)
		made := 0
		for err := range results {
			if err == nil {
				made++
			} else if code := db.Explain(err).Code; code != "TD004" {
				t.Errorf("refused by %s: %v", code, err)
			}
		}
		if made != 1 {
			t.Errorf("%d imports made the table, want 1", made)
		}
		dbtest.Exec(t, pool, "drop table t")
	}
}

// An import is refused because its name is in use, also when the table was created after its transaction began.
func TestImportOfANameTakenMeanwhile(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	importing, err := pool.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer importing.Rollback()
	if _, err := importing.Exec("select 1"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "create table t (a text)")
	if _, err := importing.Exec("select tinydevcrm.begin_import('t.csv', '{a}', '{1}')"); db.Explain(err).Code != "TD004" {
		t.Errorf("refused by: %v", err)
	}
}

// Dropping a view waits for a running refresh, and neither breaks the other.
func TestDropWhileRefreshing(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.CreateGates(t, pool)
	for range 5 {
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
		dropped := inBackground(t, pool, "select tinydevcrm.drop_matview('v')")
		open()
		if result := <-outcome; result != "refreshed" {
			t.Errorf("the refresh ended as %s", result)
		}
		if err := <-dropped; err != nil {
			t.Errorf("the drop: %v", err)
		}
	}
}

// awaitAtGate waits until a statement with this text is at a closed gate.
func awaitAtGate(t *testing.T, pool *sql.DB, text string) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, text+" is at the gate", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from pg_stat_activity where query like '%' || $1 || '%' and wait_event = 'PgSleep')", text)
	})
}

// inBackground runs a statement, and returns when it waits for a lock or has ended.
func inBackground(t *testing.T, pool *sql.DB, statement string) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(t.Context(), statement)
		ended <- err
	}()
	dbtest.Eventually(t, dbtest.Deadline, statement+" waits or has ended", func() bool {
		return len(ended) > 0 || dbtest.Value[bool](t, pool, "select exists (select from pg_stat_activity where query = $1 and wait_event_type in ('Lock', 'Timeout'))", statement)
	})
	return ended
}

// A view leaves its schedule while that schedule refreshes it. They do not deadlock.
func TestUnscheduleDuringARound(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.CreateGates(t, pool)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select pass_gate(1)')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '0 0 1 1 *')")
	schedule := dbtest.Value[int64](t, pool, "select schedule_id from tinydevcrm.matviews where relation = 'v'::regclass")
	dbtest.Exec(t, pool, "update tinydevcrm.matviews set last_scheduled_at = null where relation = 'v'::regclass")
	open := dbtest.CloseGate(t, pool, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(t.Context(), "call tinydevcrm.refresh_scheduled($1)", schedule)
		ended <- err
	}()
	awaitAtGate(t, pool, "refresh_scheduled")
	unscheduled := inBackground(t, pool, "select tinydevcrm.unschedule_matview('v')")
	open()
	for what, ended := range map[string]<-chan error{"the round": ended, "the end of the schedule": unscheduled} {
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	dbtest.Exec(t, pool, "call tinydevcrm.settle_jobs()")
	if left := dbtest.Value[int](t, pool, "select count(*) from tinydevcrm._locks where what = 'schedule' and id = $1", schedule); left != 0 {
		t.Error("the lock of a dropped schedule stays")
	}
}

// When a subscription is dropped just as an event is recorded, the refresh does not fail.
func TestDropASubscriptionWhileRefreshing(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select 1 as one', 'always')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('stays', 'v')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_subscription('goes', 'v')")
	dropping, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dropping.Rollback()
	if _, err := dropping.ExecContext(t.Context(), "select tinydevcrm.drop_subscription('goes')"); err != nil {
		t.Fatal(err)
	}

	refreshed := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(t.Context(), "select tinydevcrm.refresh_matview('v')")
		refreshed <- err
	}()
	dbtest.Eventually(t, dbtest.Deadline, "the refresh waits for the drop", func() bool {
		return dbtest.Value[bool](t, pool, `
			select exists (
			           select
			             from pg_stat_activity
			            where wait_event_type = 'Lock'
			              and query like '%refresh_matview%')`)
	})
	if err := dropping.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-refreshed; err != nil {
		t.Fatalf("the refresh fails: %v", err)
	}
	if notified := dbtest.Column[string](t, pool, `
		select name
		  from tinydevcrm.deliveries
		  join tinydevcrm.subscriptions on subscriptions.id = subscription_id
		 where event_id = (select max(id) from tinydevcrm.matview_refresh_events)`); len(notified) != 1 || notified[0] != "stays" {
		t.Errorf("notified: %v, want the one that stays", notified)
	}
}

// A dropped user may have a session with temporary tables, which must be dropped too: here only after another
// session releases one of them.
func TestDropUserWithASession(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('going', 'secret word'), tinydevcrm.create_user('heir', 'secret word')")
	theirs := openPool(t, dbtest.AsRole(databaseURL, "going"))
	dbtest.Exec(t, theirs, "create temporary table theirs (a text)")
	other, err := openPool(t, databaseURL).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec("lock table " + dbtest.Value[string](t, theirs,
		"select relnamespace::regnamespace || '.theirs' from pg_class where relname = 'theirs' and relpersistence = 't'") + " in access share mode"); err != nil {
		t.Fatal(err)
	}

	// It ends, and waits for the lock.
	dbtest.Exec(t, pool, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'going'")
	waits := func(who string) {
		t.Helper()
		dbtest.Eventually(t, dbtest.Deadline, who+" waits", func() bool {
			return dbtest.Value[bool](t, pool, `
				select exists (select from pg_stat_activity where wait_event_type in ('Lock', 'Timeout') and `+who+")")
		})
	}
	waits("usename = 'going'")
	dropped := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(t.Context(), "select tinydevcrm.drop_user('going', 'heir')")
		dropped <- err
	}()
	waits("query like 'select tinydevcrm.drop_user%'")
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-dropped; err != nil {
		t.Error(err)
	}
	dbtest.Exec(t, pool, "drop schema going")
	dbtest.Exec(t, pool, "select tinydevcrm.drop_user('heir')")
}

// A dropped user's new owner exists until the hand-over is done. One that has just been dropped is refused.
func TestDropUserKeepsTheHeir(t *testing.T) {
	pool, databaseURL := dbtest.Schema(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('going', 'secret word'), tinydevcrm.create_user('heir', 'secret word')")
	// Only the log has to be handed over, and it keeps nobody.
	dbtest.Exec(t, pool, "drop schema going; drop schema heir")
	dbtest.Exec(t, pool, `
		insert into tinydevcrm.imports (owner, source, mode, schema_name, table_name, finished_at)
		values ('going', 'a.csv', 'create', 'going', 'a', now())`)
	other := openPool(t, databaseURL)
	dbtest.Exec(t, other, "set lock_timeout = '500ms'")

	handingOver, err := pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer handingOver.Rollback()
	if _, err := handingOver.Exec("select tinydevcrm.drop_user('going', 'heir')"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec("select tinydevcrm.drop_user('heir')"); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("the heir is dropped meanwhile: %v", err)
	}
	if err := handingOver.Rollback(); err != nil {
		t.Fatal(err)
	}

	dropping, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer dropping.Rollback()
	if _, err := dropping.Exec("select tinydevcrm.drop_user('heir')"); err != nil {
		t.Fatal(err)
	}
	handedOver := make(chan error, 1)
	go func() {
		_, err := pool.ExecContext(t.Context(), "select tinydevcrm.drop_user('going', 'heir')")
		handedOver <- err
	}()
	dbtest.Eventually(t, dbtest.Deadline, "the hand-over waits", func() bool {
		return dbtest.Value[bool](t, pool, `
			select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like 'select tinydevcrm.drop_user%')`)
	})
	if err := dropping.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-handedOver; db.Explain(err).Code != "TD001" {
		t.Errorf("handed over to a dropped user: %v", err)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.drop_user('going')")
}
