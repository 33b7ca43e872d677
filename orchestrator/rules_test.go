package main

import (
	"database/sql"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// The rule rows_added, compared with a multiset kept here, over random sequences of inserts, updates, deletes
// and copies of few values, so that equal rows are frequent.
func TestRowsAddedAgainstAReference(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	sequences := 1000
	if testing.Short() {
		sequences = 200
		t.Logf("not run: %s with more than %d sequences", t.Name(), sequences)
	}
	dbtest.Exec(t, pool, "create table things (name text, count numeric, tags json)")
	dbtest.Exec(t, pool, `
		select tinydevcrm.create_matview('v', 'select name, count, tags from things', 'rows_added')`)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set event_row_limit = 1000")
	defer dbtest.Exec(t, pool, "update tinydevcrm.settings set event_row_limit = default")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('v')")

	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	before := map[string]int{}
	for sequence := range sequences {
		for range 1 + random.IntN(6) {
			statement, args := randomChange(random)
			dbtest.Exec(t, pool, statement, args...)
		}
		after := contents(t, pool)
		wantAdded, wantRemoved := difference(after, before), difference(before, after)
		added, removed, removedCount, isNotified := refreshRowsAdded(t, pool)
		if !slices.Equal(added, wantAdded) || removedCount != len(wantRemoved) || isNotified != (len(wantAdded) > 0) ||
			isNotified && !slices.Equal(removed, wantRemoved) {
			t.Fatalf("seed %d, sequence %d: added %v, removed %d: %v, notified %t; want added %v, removed %v",
				seed, sequence, added, removedCount, removed, isNotified, wantAdded, wantRemoved)
		}
		before = after
	}
}

// randomChange returns a statement that changes the rows in one of several ways.
func randomChange(random *rand.Rand) (statement string, args []any) {
	name := []any{nil, "", "a", "A", "a,b", `"`, "ä"}[random.IntN(7)]
	count := []any{nil, "0", "1", "1.0", "-1"}[random.IntN(5)]
	tags := []any{nil, "{}", "{ }", `[1,null]`}[random.IntN(4)]
	switch random.IntN(6) {
	case 0, 1:
		return "insert into things values ($1, $2, $3)", []any{name, count, tags}
	case 2:
		return "insert into things select * from things where name is not distinct from $1 limit 3", []any{name}
	case 3:
		return "update things set name = $1, count = $2 where ctid = any (array(select ctid from things order by random() limit 2))",
			[]any{name, count}
	case 4:
		return "delete from things where name is not distinct from $1", []any{name}
	default:
		// An update of all rows that changes none of them.
		return "update things set tags = tags", nil
	}
}

// contents counts each row: its JSON, and after a bar its json column as text.
func contents(t *testing.T, pool *sql.DB) map[string]int {
	t.Helper()
	var rows []string
	if err := pool.QueryRow("select array(select to_jsonb(things)::text || '|' || coalesce(tags::text, 'null') from things)").
		Scan(pq.Array(&rows)); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, row := range rows {
		counts[row]++
	}
	return counts
}

// difference lists the JSON of the rows of which there are more in one than in the other, as often as the
// difference, in order.
func difference(one, other map[string]int) []string {
	rows := []string{}
	for row, count := range one {
		for range count - other[row] {
			rows = append(rows, row[:strings.LastIndex(row, "|")])
		}
	}
	slices.Sort(rows)
	return rows
}

// refreshRowsAdded refreshes the view and returns what its event says.
func refreshRowsAdded(t *testing.T, pool *sql.DB) (added, removed []string, removedCount int, isNotified bool) {
	t.Helper()
	var addedCount int
	if err := pool.QueryRow(`
		select array(select value::text from jsonb_array_elements(rows)), added_count,
		       array(select value::text from jsonb_array_elements(removed_rows::jsonb)), removed_count, is_notified
		  from tinydevcrm.refresh_matview('v')`).
		Scan(pq.Array(&added), &addedCount, pq.Array(&removed), &removedCount, &isNotified); err != nil {
		t.Fatal(err)
	}
	if addedCount != len(added) {
		t.Errorf("added_count is %d with %d rows", addedCount, len(added))
	}
	slices.Sort(added)
	slices.Sort(removed)
	return added, removed, removedCount, isNotified
}
