package main

import (
	"database/sql"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func isStale(t *testing.T, pool *sql.DB, view string) bool {
	t.Helper()
	return dbtest.Value[bool](t, pool, "select tinydevcrm._is_stale(matviews) from tinydevcrm.matviews where relation = $1::text::regclass", view)
}

// A command on a table neither waits for a session that has locked the registration of a view on it, nor is it lost.
func TestACommandBesideALockedRegistration(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table parts (n integer) partition by range (n)")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n from parts', 'never')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if isStale(t, pool, "v") {
		t.Fatal("v is stale after a refresh")
	}

	holder := held(t, pool, "update tinydevcrm.matviews set muted_for = '1 hour' where relation = 'v'::regclass")
	dbtest.Exec(t, pool, "set lock_timeout = '2s'; create table part partition of parts for values from (0) to (10)")
	if err := holder.Commit(); err != nil {
		t.Fatal(err)
	}
	if !isStale(t, pool, "v") {
		t.Error("v is not stale after a table became a part of what it reads")
	}
	dbtest.Exec(t, pool, "select tinydevcrm._settle_tracking()")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if isStale(t, pool, "v") {
		t.Error("v is stale after upkeep and a refresh")
	}
	dbtest.Exec(t, pool, "insert into part values (1)")
	if !isStale(t, pool, "v") {
		t.Error("v is not stale after a change of the new part")
	}
}

// The baseline of a rule is not what the views above have read, when somebody has refreshed by hand meanwhile.
func TestAViewAboveARefreshByHand(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table numbers (n integer)")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n from numbers', 'changed')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('above', 'select count(*) as n from v', 'never')")
	refresh := func(view string) { dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview($1::text::regclass)", view) }
	refresh("v")
	refresh("v")
	refresh("above")

	dbtest.Exec(t, pool, "insert into numbers values (1)")
	dbtest.Exec(t, pool, "refresh materialized view v")
	refresh("above")
	dbtest.Exec(t, pool, "delete from numbers")
	refresh("v")
	if !isStale(t, pool, "above") {
		t.Errorf("the view above has %d rows counted and is not stale", dbtest.Value[int](t, pool, "select n from above"))
	}
}

// Cleaning keeps a change that an open refresh has not seen, although another one came after it.
func TestCleaningWaitsForAnOpenRefresh(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table numbers (n integer)")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n from numbers', 'never')")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")

	writer := held(t, pool, "insert into numbers values (1)")
	dbtest.Exec(t, pool, "insert into numbers values (2)")
	refresh := held(t, pool, "select tinydevcrm.refresh_matview('v')")
	if err := writer.Commit(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		dbtest.Exec(t, pool, "select tinydevcrm._remove_seen_changes()")
	}
	if err := refresh.Commit(); err != nil {
		t.Fatal(err)
	}
	if rows := dbtest.Value[int](t, pool, "select count(*) from v"); rows != 1 || !isStale(t, pool, "v") {
		t.Errorf("v has %d rows, want 1 and stale", rows)
	}
}

// A refresh by hand in a transaction with an old snapshot takes back what ours has seen.
func TestARefreshByHandWithAnOldSnapshot(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table numbers (n integer)")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select n from numbers', 'never')")
	old := held(t, pool, "set transaction isolation level repeatable read; select count(*) from numbers")
	dbtest.Exec(t, pool, "insert into numbers values (1)")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")
	if isStale(t, pool, "v") {
		t.Fatal("v is stale after a refresh")
	}
	if _, err := old.ExecContext(t.Context(), "refresh materialized view v"); err != nil {
		t.Fatal(err)
	}
	if err := old.Commit(); err != nil {
		t.Fatal(err)
	}
	if rows := dbtest.Value[int](t, pool, "select count(*) from v"); rows != 0 || !isStale(t, pool, "v") {
		t.Errorf("v has %d rows, want 0 and stale", rows)
	}
}
