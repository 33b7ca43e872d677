//go:build bench

package bench

import (
	"fmt"
	"testing"
)

// TestCompare is scripts/bench compare [ROWS [RUNS]]: a refresh with the rule rows_added of a view of eight
// columns, with ten new rows, without a change, and with all rows changed, compared with the bare plain refresh;
// and the size of the baseline.
func TestCompare(t *testing.T) {
	rows, runs := sizeOf(t, 1_000_000), runsOf(t)
	b := newBench(t)
	say("Making a view of %d rows", rows)
	b.query(fmt.Sprintf(`
		create table big as
		select i as id, 'customer ' || i %% 5000 as customer, date '2020-01-01' + i %% 2000 as due,
		       (i %% 100000)::numeric / 100 as amount, i %% 3 = 0 as is_paid,
		       timestamptz '2024-01-01' + i * interval '1 second' as at, md5(i::text) as note, i %% 100 as kind
		  from generate_series(1, %d) as i`, rows))
	b.query("create materialized view bare as select * from big")
	b.query("select tinydevcrm.create_matview('compared', 'select * from big', 'rows_added')")
	b.refreshCompared("begin", "null|null")

	for run := range runs {
		b.query("insert into big select -id - " + fmt.Sprint(run*10) + ", customer, due, amount, is_paid, at, note, kind from big order by id desc limit 10")
		b.query("checkpoint")
		b.timed("bare", func() { b.query("refresh materialized view bare") })
		b.query("checkpoint")
		b.refreshCompared("ten", "10|0")
		b.query("checkpoint")
		b.refreshCompared("none", "0|0")
		b.query("update big set kind = kind + 1")
		b.query("vacuum full big")
		b.query("checkpoint")
		all := b.query("select count(*) || '|' || count(*) from big")
		b.refreshCompared("all", all)
		b.query("vacuum tinydevcrm.matview_baselines")
		say("Run %d of %d", run+1, runs)
	}
	fmt.Println(b.report("the bare refresh", "bare", "bare"))
	fmt.Println(b.report("rows_added, ten new rows", "ten", "bare"))
	fmt.Println(b.report("rows_added, no change", "none", "bare"))
	fmt.Println(b.report("rows_added, all rows changed", "all", "bare"))
	kept := "select pg_size_pretty(pg_total_relation_size('tinydevcrm.matview_baselines'))"
	fmt.Println("kept: " + b.query(kept))
	b.query("vacuum full tinydevcrm.matview_baselines")
	fmt.Println("kept, without dead rows: " + b.query(kept))
}

// refreshCompared times a refresh of the view, and checks the counts that it finds.
func (b *bench) refreshCompared(way, want string) {
	b.t.Helper()
	b.timed(way, func() {
		got := b.query("select coalesce(added_count::text, 'null') || '|' || coalesce(removed_count::text, 'null') from tinydevcrm.refresh_matview('compared')")
		if got != want {
			b.t.Fatalf("%s: added and removed are %s, want %s", way, got, want)
		}
	})
}
