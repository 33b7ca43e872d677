package main

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A user who leaves a transaction open blocks nobody else.
func TestNobodyWaitsForAUsersLocks(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	dbtest.Exec(t, super, "grant tinydevcrm_admin to eve")
	ann, eve, runner := open(t, server.URL, "ann"), open(t, server.URL, "eve"), open(t, server.URL, "runner")
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview(name, 'select 1 as n') from unnest('{v,w}'::text[]) as name")
	dbtest.Exec(t, ann, "select tinydevcrm.create_webhook('hook', 'https://example.com/')")
	dbtest.Exec(t, eve, "select tinydevcrm.create_subscription('all')")
	dbtest.Exec(t, ann, "select tinydevcrm.refresh_matview('v')")
	dbtest.Exec(t, ann, "select tinydevcrm.create_source('due', 'https://example.com/', schedule => 'hourly')")
	dbtest.Exec(t, ann, "update tinydevcrm.source_runs set status = 'unchanged'")
	dbtest.Exec(t, ann, "select tinydevcrm.create_source('lost', 'https://example.com/')")
	dbtest.Exec(t, ann, "update tinydevcrm.source_runs set status = 'fetching', attempts = 5 where finished_at is null")

	const delivery = "(select min(id) from tinydevcrm.deliveries where owner = 'ann'::regrole)"
	attempts := []struct {
		name      string
		locks     *sql.DB
		lock      string
		acts      *sql.DB
		statement string
	}{
		{"a refresh and the subscription of who watches all", eve,
			"select id from tinydevcrm.subscriptions for update", ann, "select tinydevcrm.refresh_matview('v')"},
		{"an answer and the delivery", ann,
			"select id from tinydevcrm.deliveries for update", runner, "select tinydevcrm.acknowledge_events(array[" + delivery + "])"},
		{"a pause and the subscription", ann,
			"select id from tinydevcrm.subscriptions for update", runner, "select tinydevcrm._disable_webhook(subscription_id, '') from tinydevcrm.webhooks"},
		{"a rest and the webhook", ann,
			"select url from tinydevcrm.webhooks for update", runner, "select tinydevcrm._limit_webhook_rate(subscription_id, '1 s') from tinydevcrm.webhooks"},
		{"a receiver and the delivery", ann,
			"select id from tinydevcrm.deliveries for update", runner, "select from tinydevcrm.webhooks, tinydevcrm._receive_posts(subscription_id, 10, '1 minute')"},
		{"a drop and the subscription of who watches all", eve,
			"select id from tinydevcrm.subscriptions for update", ann, "drop materialized view w"},
		{"what is lost and the source", ann,
			"select id from tinydevcrm.sources for update", runner, "select tinydevcrm._take_run()"},
		{"what is lost and the subscription", ann,
			"select id from tinydevcrm.subscriptions for update", runner, "select tinydevcrm._take_run()"},
		{"what is due and a run that is just created", ann,
			"insert into tinydevcrm.source_runs (source_id) select id from tinydevcrm.sources where name = 'due'", super,
			"update tinydevcrm.sources set next_due_at = now() - interval '1 minute'; select tinydevcrm._take_run()"},
		{"what is due and the source", ann,
			"select id from tinydevcrm.sources for update", runner, "select tinydevcrm._take_run()"},
		{"who is silent and the source", ann,
			"select id from tinydevcrm.sources for update", runner, "select tinydevcrm._note_silent_sources()"},
		{"a drop by another and the subscription", ann,
			"select id from tinydevcrm.subscriptions for update", super, "drop materialized view ann.v"},
	}
	for _, attempt := range attempts {
		t.Run(attempt.name, func(t *testing.T) {
			held, err := attempt.locks.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Rollback()
			result, err := held.ExecContext(t.Context(), attempt.lock)
			if err != nil {
				t.Fatal(err)
			}
			if rows, _ := result.RowsAffected(); rows == 0 {
				t.Fatalf("%s locks nothing", attempt.lock)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := attempt.acts.ExecContext(ctx, attempt.statement); err != nil {
				t.Errorf("%s: %v", attempt.statement, err)
			}
		})
	}
	if _, err := runner.ExecContext(t.Context(), "select tinydevcrm.reject_event("+delivery+" , 'no')"); err != nil {
		t.Errorf("what was locked is not pending after it: %v", err)
	}
}

// A row is in the index before its foreign key is checked, which comes at the end of the statement.
func TestNobodyWaitsForAUsersStatement(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	dbtest.Exec(t, super, "create role runner login in role tinydevcrm_orchestrator")
	ann, eve, runner := open(t, server.URL, "ann"), open(t, server.URL, "eve"), open(t, server.URL, "runner")
	for _, owner := range []*sql.DB{ann, eve} {
		dbtest.Exec(t, owner, "select tinydevcrm.create_source('due', 'https://example.com/', schedule => 'hourly', notify_deadline => '1 hour')")
		dbtest.Exec(t, owner, "select tinydevcrm.create_subscription('all')")
		dbtest.Exec(t, owner, "update tinydevcrm.source_runs set status = 'unchanged'")
	}
	dbtest.Exec(t, super, "update tinydevcrm.sources set next_due_at = now() - interval '1 minute', created_at = now() - interval '2 hours'")
	sleeping, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := ann.ExecContext(sleeping, `
			insert into tinydevcrm.source_runs (source_id)
			select id from tinydevcrm.sources
			 union all
			select length(pg_sleep(300)::text)`)
		done <- err
	}()
	defer func() { cancel(); <-done }()
	dbtest.Eventually(t, dbtest.Deadline, "the statement is in its midst", func() bool {
		return dbtest.Value[bool](t, super, "select exists (select from pg_stat_activity where usename = 'ann' and wait_event = 'PgSleep')")
	})
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var owner string
	if err := runner.QueryRowContext(ctx, "select owner::text from tinydevcrm._take_run()").Scan(&owner); err != nil || owner != "eve" {
		t.Errorf("the run of %s is taken, %v", owner, err)
	}

	held, err := ann.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), "select id from tinydevcrm.subscriptions for update"); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, runner, "select tinydevcrm._note_silent_sources()")
	if silent := dbtest.Value[bool](t, super, "select silent_since is not null from tinydevcrm.sources where owner = 'eve'::regrole"); !silent {
		t.Error("a lock of ann's hides that eve's source is silent")
	}
}

// drop_user() reports what a user has in another database before it does anything.
func TestDropUserNamesOtherDatabases(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'bob']) as name")
	elsewhere := strings.Replace(server.URL, "/tinydevcrm?", "/postgres?", 1)
	dbtest.Exec(t, open(t, elsewhere, "ann"), "select lo_create(0)")
	dbtest.Exec(t, open(t, server.URL, "ann"), "select lo_create(4711)")

	drop := func(statement string) db.Problem {
		t.Helper()
		_, err := super.ExecContext(t.Context(), statement)
		if err == nil {
			return db.Problem{}
		}
		return db.Explain(err)
	}
	if problem := drop("select tinydevcrm.drop_user('ann')"); problem.Code != "2BP01" || !strings.Contains(problem.Detail, "large object 4711") {
		t.Errorf("a large object here: %+v", problem)
	}
	problem := drop("select tinydevcrm.drop_user('ann', 'bob')")
	if problem.Code != "TD012" || problem.Status != 409 || !strings.HasSuffix(problem.Message, ": postgres") || !strings.Contains(problem.Hint, "drop owned by ann") {
		t.Errorf("one elsewhere: %+v", problem)
	}
	hint := strings.TrimPrefix(problem.Hint, "In each of them, as a superuser: ")
	dbtest.Exec(t, open(t, elsewhere, "postgres"), hint)
	if problem := drop("select tinydevcrm.drop_user('ann', 'bob')"); problem.Code != "" {
		t.Errorf("after what the hint says: %+v", problem)
	}
	if owner := dbtest.Value[string](t, super, "select lomowner::regrole::text from pg_largeobject_metadata where oid = 4711"); owner != "bob" {
		t.Errorf("the large object belongs to %s", owner)
	}
}

// Postgres does not end the sessions of a role that is locked, or that begin while the role is dropped.
func TestUpkeepEndsSessionsOfLockedUsers(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'bob', 'cleo']) as name")
	dbtest.Exec(t, super, "create role outsider login")
	session := map[string]*sql.Conn{}
	for _, user := range []string{"ann", "bob", "cleo", "outsider"} {
		conn, err := open(t, server.URL, user).Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		session[user] = conn
	}
	dbtest.Exec(t, super, "alter role ann nologin")
	dbtest.Exec(t, super, "alter role outsider nologin")
	// Like a session that begins between the check of drop_user() and its commit.
	dbtest.Exec(t, super, "drop owned by bob; drop role bob")
	dbtest.Exec(t, super, "call tinydevcrm.settle_jobs()")

	// Only a member of pg_signal_backend ends sessions of a role that is gone.
	for user, isKept := range map[string]bool{"ann": false, "bob": dbtest.IsRented(), "cleo": true, "outsider": true} {
		dbtest.Eventually(t, dbtest.Deadline, user, func() bool {
			_, err := session[user].ExecContext(t.Context(), "select 1")
			return (err == nil) == isKept
		})
	}
}
