package main

import (
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// TestDigestIsReceivedOnce has a program that has found a digest, and waits, while another one receives it.
func TestDigestIsReceivedOnce(t *testing.T) {
	t.Parallel()
	pool, _ := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook', 'https://example.com/', 'v', digest => 'hourly')")
	refresh(t, pool)
	dbtest.Exec(t, pool, `
		create or replace function tinydevcrm._compute_next_digest(digest text, after timestamptz)
		    returns timestamptz
		    language sql
		as $$
		    select pg_advisory_xact_lock(1) where current_setting('test.waits', true) = 'on';
		    select '-infinity'::timestamptz
		$$`)
	const receive = "select tinydevcrm._receive_posts(id, 1, '1 minute') from tinydevcrm.subscriptions"

	gate, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Rollback()
	if _, err := gate.ExecContext(t.Context(), "select pg_advisory_xact_lock(1)"); err != nil {
		t.Fatal(err)
	}
	late := make(chan int64)
	go func() {
		count := int64(-1)
		defer func() { late <- count }()
		tx, err := pool.BeginTx(t.Context(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), "set local test.waits = 'on'"); err != nil {
			t.Error(err)
			return
		}
		if err := tx.QueryRowContext(t.Context(), "select count(*) from ("+receive+") as received").Scan(&count); err != nil {
			t.Error(err)
		}
	}()
	dbtest.Eventually(t, dbtest.Deadline, "the first program waits", func() bool {
		return dbtest.Value[bool](t, pool, "select exists (select from pg_locks where locktype = 'advisory' and not granted)")
	})
	if count := len(dbtest.Column[string](t, pool, receive)); count != 1 {
		t.Errorf("the second program has received %d, want 1", count)
	}
	if err := gate.Rollback(); err != nil {
		t.Fatal(err)
	}
	if count := <-late; count != 0 {
		t.Errorf("the first program has received %d, want 0", count)
	}
}
