//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFresh is scripts/bench fresh [VIEWS [RUNS]]: a round over views that have not changed, and over views that all
// have, compared with the bare refreshes; what 300 unchanged views on "5 seconds" cost in a minute; and what the
// trigger that records changes costs writers.
func TestFresh(t *testing.T) {
	views, runs := sizeOf(t, 1000), runsOf(t)
	b := newBench(t)
	b.writers(runs)

	b.makeViews(views)
	schedule := b.query("select id from tinydevcrm.schedules")
	round := func(way string) {
		b.query("update tinydevcrm.matviews set last_scheduled_at = null")
		b.query("vacuum")
		b.timed(way, func() { b.query("call tinydevcrm.refresh_scheduled(" + schedule + ")") })
	}
	for run := range runs {
		// Each time with clean catalogs, because refreshes leave dead rows there.
		b.query("vacuum")
		b.timed("bare", func() { b.run("psql", b.url, "-Xqf", b.path("refreshes.sql")) })
		b.query("insert into numbers values (1)")
		round("changed")
		round("unchanged")
		say("Run %d of %d", run+1, runs)
	}
	fmt.Println(b.report(fmt.Sprintf("%d refreshes by psql", views), "bare", "bare"))
	fmt.Println(b.report(fmt.Sprintf("a round of %d that have all changed", views), "changed", "bare"))
	fmt.Println(b.report(fmt.Sprintf("a round over %d that have not", views), "unchanged", "bare"))

	b.idle()
}

// idle measures a minute with 300 views on a schedule of five seconds, whose table does not change.
func (b *bench) idle() {
	b.t.Helper()
	minute := func() (cpu, wal float64) {
		b.query("checkpoint")
		cpu, wal = -b.cpu(), -b.queryNumber("select pg_current_wal_lsn() - '0/0'")
		time.Sleep(time.Minute)
		return cpu + b.cpu(), wal + b.queryNumber("select pg_current_wal_lsn() - '0/0'")
	}
	b.query("select tinydevcrm.unschedule_matview(relation) from tinydevcrm.matviews")
	say("A minute without schedules")
	cpu, wal := minute()
	b.query("select tinydevcrm._assign_schedule(relation, '5 seconds', null, null) from tinydevcrm.matviews order by id limit 300")
	// The first round refreshes each.
	time.Sleep(15 * time.Second)
	say("A minute with 300 views on a schedule of 5 seconds")
	refreshes := -b.queryNumber("select count(*) from tinydevcrm.matview_refresh_events")
	busyCPU, busyWAL := minute()
	refreshes += b.queryNumber("select count(*) from tinydevcrm.matview_refresh_events")
	if age := b.queryNumber("select extract(epoch from now() - max(looked_at)) from tinydevcrm._locks where what = 'schedule'"); age > 10 {
		b.t.Errorf("the schedule has last looked %.0f s ago", age)
	}
	fmt.Printf("%-44s %8.1f %% of a core, without schedules %.1f %%\n", "300 unchanged views on 5 seconds", busyCPU/0.6, cpu/0.6)
	fmt.Printf("%-44s %8.0f kB of WAL a minute, without schedules %.0f kB; %.0f refreshes\n", "", busyWAL/1024, wal/1024, refreshes)
}

// cpu is the time in seconds that the server's processes have used, those that have ended included.
func (b *bench) cpu() float64 {
	b.t.Helper()
	folder := b.query("show data_directory")
	postmaster, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
	if err != nil {
		b.t.Fatal(err)
	}
	parent, _, _ := strings.Cut(string(postmaster), "\n")
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.t.Fatal(err)
	}
	ticks := 0.0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // The process has ended.
		}
		// The name, in parentheses, may contain blanks. After it: state, parent … utime and stime are the 12th and
		// 13th, and those of the children that have ended the next two.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		isPostmaster := strings.Split(path, "/")[2] == parent
		if !isPostmaster && fields[1] != parent {
			continue
		}
		for n := 11; n < 13 || n < 15 && isPostmaster; n++ {
			value, _ := strconv.ParseFloat(fields[n], 64)
			ticks += value
		}
	}
	return ticks / 100
}

// writers measures inserts of single rows, each a transaction, with the trigger and without it: by one session, and by
// sixteen at once.
func (b *bench) writers(runs int) {
	b.t.Helper()
	say("Writers")
	b.query("create table bare (i integer); create table tracked (i integer); select tinydevcrm.track_table('tracked')")
	pgbench := b.query("select setting || '/pgbench' from pg_config where name = 'BINDIR'")
	// In short turns, because the time of a commit depends on what else uses the disk.
	const turns, inserts = 10, 1600
	for range runs * turns {
		for _, table := range []string{"bare", "tracked"} {
			script := b.path("insert.sql")
			if err := os.WriteFile(script, []byte("insert into "+table+" values (1);\n"), 0o600); err != nil {
				b.t.Fatal(err)
			}
			for _, sessions := range []int{1, 16} {
				b.query("truncate bare, tracked, tinydevcrm.table_changes")
				b.timed(fmt.Sprintf("%s %d", table, sessions), func() {
					b.run(pgbench, b.url, "-n", "-f", script, "-M", "prepared",
						"-c", strconv.Itoa(sessions), "-j", "2", "-t", strconv.Itoa(inserts/sessions))
				})
			}
		}
	}
	for _, sessions := range []int{1, 16} {
		bare, tracked := fmt.Sprintf("bare %d", sessions), fmt.Sprintf("tracked %d", sessions)
		fmt.Println(b.report(fmt.Sprintf("%d inserts by %d at once", inserts, sessions), bare, bare))
		fmt.Println(b.report("the same into a tracked table", tracked, bare))
	}
}
