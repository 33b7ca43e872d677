package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// One round refreshes ten views on each other from the bottom up, and stops where nothing changes.
func TestARoundRefreshesInOrder(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t)
	const depth = 10
	b.exec("create table numbers (n integer, note text)")
	var all []string
	for n := range depth + 1 {
		name, source := fmt.Sprintf("v%d", n), "select n from numbers"
		if n > 0 {
			source = fmt.Sprintf("select n from v%d", n-1)
		}
		b.exec("select tinydevcrm.create_matview($1, $2)", name, source)
		all = append(all, name+" refreshed")
	}
	// Neither age nor name gives the order.
	b.exec("select tinydevcrm.schedule_matview(relation, '0 0 1 1 *') from tinydevcrm.matviews order by id desc")
	b.exec("update tinydevcrm.matviews set last_refreshed_at = now() - id * interval '1 minute'")
	b.mustRound()
	b.outcomes()

	b.exec("insert into numbers values (1, 'a')")
	b.exec("update tinydevcrm.matviews set last_refreshed_at = now() - id * interval '1 minute'")
	b.mustRound()
	b.want("a round after a change", b.outcomes(), strings.Join(all, ", "))
	if n := dbtest.Value[int](t, b.pool, "select coalesce(sum(n), 0) from v10"); n != 1 {
		t.Errorf("v10 has %d, want 1", n)
	}

	b.mustRound()
	b.want("a round after none", b.outcomes(), "")
	b.exec("update numbers set note = 'b'")
	b.mustRound()
	b.want("a change that the first view does not show", b.outcomes(), "v0 refreshed")
}

// A view waits for one that becomes stale only within the round.
func TestAViewWaitsForWhatBecomesStale(t *testing.T) {
	t.Parallel()
	b := newRoundBench(t)
	b.exec("create table left_side (n integer); create table right_side (n integer)")
	for _, view := range []string{
		"bottom: select n from left_side", "middle: select n from bottom",
		"top: select n from middle union all select n from right_side",
	} {
		name, query, _ := strings.Cut(view, ": ")
		b.exec("select tinydevcrm.create_matview($1, $2)", name, query)
		b.exec("select tinydevcrm.schedule_matview($1::text::regclass, '0 0 1 1 *')", name)
	}
	b.mustRound()
	b.outcomes()

	b.exec("insert into left_side values (1); insert into right_side values (2)")
	b.mustRound()
	b.want("one round", b.outcomes(), "bottom refreshed, middle refreshed, top refreshed")
	if n := dbtest.Value[int](t, b.pool, "select coalesce(sum(n), 0) from top"); n != 3 {
		t.Errorf("top has %d, want 3", n)
	}

	b.exec("update left_side set n = n; insert into right_side values (4)")
	b.mustRound()
	b.want("what it waits for does not become stale", b.outcomes(), "bottom refreshed, top refreshed")
}
