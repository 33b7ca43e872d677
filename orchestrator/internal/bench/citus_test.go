//go:build bench

package bench

import (
	"fmt"
	"runtime"
	"testing"
)

// citusWorkers is the number of workers in the cluster. A table is on none of them, or on one, two or four.
const citusWorkers = 4

// A placement is how a table is distributed: the name of our table, the number of workers, and the same in
// words.
type placement struct {
	name    string
	workers int
	words   string
}

func placements() []placement {
	return []placement{{"plain", 0, "plain table"}, {"1", 1, "1 worker"}, {"2", 2, "2 workers"}, {"4", citusWorkers, "4 workers"}}
}

// A citus is a bench on a coordinator with its workers. All nodes run on this one machine and share its cores
// and disk. So it shows that the answers are right and what the coordinator costs, but not the gain of more
// machines: for that see extensions/citus/README.md.
type citus struct {
	*bench
	rows int
}

// TestCitus is scripts/bench citus [ROWS [RUNS]]: imports into tables on 1, 2 and 4 Citus workers on this
// machine, and refreshes of views of them, compared with a plain table. It needs a Postgres that offers Citus.
func TestCitus(t *testing.T) {
	rows, runs := sizeOf(t, 1_000_000), runsOf(t)
	c := newCitus(t, rows)
	say("%d cores for all nodes, %s", runtime.NumCPU(), c.query(`
		select 'Postgres ' || current_setting('server_version') || ', Citus ' || extversion
		  from pg_extension
		 where extname = 'citus'`))
	c.makeTables()
	say("Writing %d rows", rows)
	c.generate(rows, "plain.csv")

	// The last run leaves its rows for the refreshes.
	imports := []struct {
		name string
		run  func(placement)
	}{
		{"upload", c.upload},
		{"copy", c.copy},
		{"append", c.append},
	}
	for run := range runs {
		for _, way := range imports {
			for _, on := range placements() {
				c.empty(on)
				c.timed(way.name+"_"+on.name, func() { way.run(on) })
				if way.name == "upload" {
					c.liesOn("new", on)
				}
			}
		}
		for _, on := range placements() {
			c.query("vacuum analyze on_" + on.name)
		}
		for _, view := range []string{"few", "many"} {
			for _, on := range placements() {
				c.timed(view+"_"+on.name, func() { c.refresh(view, on) })
			}
		}
		c.measureWork()
		say("Run %d of %d", run+1, runs)
	}
	c.checkSameAnswers()
	c.printAll()
}

// newCitus starts a coordinator and four workers, or says what is not measured and why.
func newCitus(t *testing.T, rows int) *citus {
	t.Helper()
	b := prepare(t)
	t.Cleanup(func() { b.script("citus", "destroy") })
	b.script("citus", "destroy")
	if _, err := b.tryScript("citus", "start", fmt.Sprint(citusWorkers)); exitCode(err) == 3 {
		say("not measured: scripts/bench citus, because the local Postgres does not offer Citus")
		t.SkipNow()
	} else if err != nil {
		t.Fatalf("scripts/citus start: %v", err)
	}
	b.migrate("citus")
	// A smaller table would be copied to each worker.
	if limit := int(b.queryNumber("select reference_row_limit from tinydevcrm.settings")); rows <= limit {
		t.Fatalf("%d rows are too few to distribute; give more than %d", rows, limit)
	}
	return &citus{b, rows}
}

// place makes the tables that are distributed from now on use this many workers.
func (c *citus) place(workers int) {
	c.t.Helper()
	c.query(fmt.Sprintf(`
		select citus_set_node_property(nodename, nodeport, 'shouldhaveshards', groupid <= %d)
		  from pg_dist_node
		 where groupid > 0`, workers))
}

// makeTables creates a table for each placement, with the columns and types of the file, and two views of each.
func (c *citus) makeTables() {
	c.t.Helper()
	c.generate(1000, "first.csv")
	c.orchestrator("upload", c.path("first.csv"), "--table", "typed")
	for _, on := range placements() {
		table := "on_" + on.name
		c.query("create table " + table + " (like typed)")
		if on.workers > 0 {
			c.place(on.workers)
			c.query("select create_distributed_table('" + table + "', 'id', colocate_with => 'none')")
		}
		c.liesOn(table, on)
		c.query(fmt.Sprintf(`
			select tinydevcrm.create_matview('few_%[1]s',
			    'select extract(year from day) as year, active, count(*), sum(amount), max(seen_at) from on_%[1]s group by 1, 2');
			select tinydevcrm.create_matview('many_%[1]s',
			    'select day, active, count(*), sum(amount), max(seen_at) from on_%[1]s group by 1, 2')`, on.name))
	}
}

// liesOn checks how a table is distributed.
func (c *citus) liesOn(table string, on placement) {
	c.t.Helper()
	if workers := int(c.queryNumber(
		"select count(distinct nodename) from citus_shards where table_name = '" + table + "'::regclass")); workers != on.workers {
		c.t.Fatalf("%s is on %d workers, not %d", table, workers, on.workers)
	}
}

// empty empties the tables for the next run, and makes all nodes finish writing.
func (c *citus) empty(on placement) {
	c.t.Helper()
	c.query("truncate on_" + on.name + "; drop table if exists new")
	if on.workers > 0 {
		c.place(on.workers)
	}
	c.query("select run_command_on_all_nodes('checkpoint')")
}

// The ways: into an existing empty table, or a new one. The new one is distributed by a column of another type,
// because Citus places a table beside an earlier one whose column has the same type.

func (c *citus) copy(on placement) { c.copyInto("on_"+on.name, "plain.csv") }

func (c *citus) append(on placement) {
	c.orchestrator("upload", c.path("plain.csv"), "--table", "on_"+on.name, "--mode", "append")
}

func (c *citus) upload(on placement) {
	options := []string{"upload", c.path("plain.csv"), "--table", "new"}
	if on.workers > 0 {
		options = append(options, "--distribute-by", "email")
	}
	c.orchestrator(options...)
}

func (c *citus) refresh(view string, on placement) {
	c.query(fmt.Sprintf("select tinydevcrm.refresh_matview('%s_%s')", view, on.name))
}

// checkSameAnswers requires each table and view to have the same contents, however it is distributed.
func (c *citus) checkSameAnswers() {
	c.t.Helper()
	for _, on := range placements() {
		if rows := int(c.queryNumber("select count(*) from on_" + on.name)); rows != c.rows {
			c.t.Fatalf("on_%s has %d rows, not %d", on.name, rows, c.rows)
		}
		for _, view := range []string{"few", "many"} {
			if different := c.query(fmt.Sprintf(`
				select count(*)
				  from ((table %[1]s_plain except table %[1]s_%[2]s)
				        union all
				        (table %[1]s_%[2]s except table %[1]s_plain)) as different`, view, on.name)); different != "0" {
				c.t.Fatalf("%s_%s differs from %[1]s_plain in %[3]s rows", view, on.name, different)
			}
		}
	}
	say("Each view says the same, wherever its table is")
}

func (c *citus) printAll() {
	for _, way := range []struct{ name, words string }{
		{"copy", `\copy`},
		{"append", "upload --mode append"},
		{"upload", "upload --distribute-by"},
	} {
		for _, on := range placements() {
			fmt.Println(c.rate(way.words+", "+on.words, way.name+"_"+on.name, way.name+"_plain", c.rows))
		}
	}
	for _, view := range []struct{ name, words string }{
		{"few", "refresh, 50 groups"},
		{"many", "refresh, 18,000 groups"},
	} {
		for _, on := range placements() {
			fmt.Println(c.report(view.words+", "+on.words, view.name+"_"+on.name, view.name+"_plain"))
		}
	}
	say("The same on 4 workers, in CPU of the coordinator and of the workers, against that of a plain table")
	c.printShare(`\copy`, "copy")
	c.printShare("refresh, 50 groups", "few")
	c.printShare("refresh, 18,000 groups", "many")
}
