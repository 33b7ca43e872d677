package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Whatever happens to the tables, no view misses a change: after each random sequence of writes, commits in any order,
// refreshes, upkeep and kills, the schedule leaves every view equal to its query. FRESH_SEED and FRESH_SECONDS choose
// another run.
func TestNoChangeIsMissed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		freshRun(t, 5*time.Second, 10000)
		return
	}
	freshRun(t, 15*time.Second, 10000)
}

// freshViews are what the sequences refresh, each after those that it reads.
var freshViews = []struct{ name, query, rule, key string }{
	{"of_plain", "select id, v from plain", "changed", "{id}"},
	{"of_join", "select plain.id, plain.v + other.v as v from plain join other on other.id = plain.id", "never", ""},
	{"of_parts", "select id, v from parts", "never", ""},
	{"of_part", "select count(*) as n, sum(v) as v from parts_0", "never", ""},
	{"of_imported", "select id, v from imported", "never", ""},
	{"of_shown", "select id, v from shown", "never", ""},
	{"deep_1", "select id, v from of_plain where v > 3", "never", ""},
	{"deep_2", "select count(*) as n, sum(v) as v from deep_1", "never", ""},
	{"deep_3", "select deep_2.n, deep_2.v, of_join.id from deep_2 left join of_join on of_join.v > 5", "never", ""},
}

// A freshBench is a server of its own, on which one goroutine takes the steps of several sessions in turn.
type freshBench struct {
	*testing.T
	pool     *sql.DB // one connection, for what is done outside of the sessions
	others   *sql.DB // the sessions
	random   *rand.Rand
	sessions []*freshSession
	last     *freshSession // that took the last step
	prepared []string
	gids     int
	isCalm   bool
	steps    []string       // of the sequence
	done     map[string]int // how often each step succeeded
}

// A freshSession may be within a transaction.
type freshSession struct {
	name   string
	conn   *sql.Conn
	pid    int
	isOpen bool
}

// freshRun runs sequences until the time is over, at most that many. On a busy machine it goes on until each frequent step
// has succeeded.
func freshRun(t *testing.T, within time.Duration, most int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FRESH_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	if text := os.Getenv("FRESH_SECONDS"); text != "" {
		seconds, _ := strconv.Atoi(text)
		within = time.Duration(seconds) * time.Second
	}
	t.Logf("FRESH_SEED=%d", seed)
	b := newFreshBench(t, seed)

	sequences := 0
	start := time.Now()
	for ; sequences < most && (time.Since(start) < within || len(b.unseen(sequences)) > 0 && time.Since(start) < 20*within); sequences++ {
		b.sequence()
		if sequences%20 == 0 {
			b.control("truncate tinydevcrm.matview_refresh_events cascade")
			b.control("vacuum")
		}
	}

	counts := []string{fmt.Sprintf("%d sequences", sequences)}
	for _, name := range slices.Sorted(maps.Keys(b.done)) {
		counts = append(counts, fmt.Sprintf("%s: %d", name, b.done[name]))
	}
	t.Logf("%s", strings.Join(counts, ", "))
	for _, name := range b.unseen(sequences) {
		t.Errorf("no step %q has succeeded in %d sequences", name, sequences)
	}
}

// unseen are the steps that should have succeeded in so many sequences, and have not.
func (b *freshBench) unseen(sequences int) (names []string) {
	for _, step := range freshSteps {
		// A few sequences have not all that is rare.
		if b.done[step.name] == 0 && (sequences >= 300 || step.weight >= 5) {
			names = append(names, step.name)
		}
	}
	// Otherwise all views are refreshed whether they are stale or not.
	if b.done["left alone"] == 0 {
		names = append(names, "left alone")
	}
	return names
}

func newFreshBench(t *testing.T, seed uint64) *freshBench {
	t.Helper()
	server := dbtest.NewServer(t)
	server.Set("max_prepared_transactions", "20")
	server.Set("fsync", "off")
	server.Set("autovacuum", "off")
	server.Restart()
	mustCommand(t, server.URL, "migrate", "up")
	b := &freshBench{T: t, random: rand.New(rand.NewPCG(seed, 0)), done: make(map[string]int)}
	b.pool = openPool(t, server.URL)
	others, err := db.Open(t.Context(), server.URL, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { others.Close() })
	b.others = others
	// Only the test calls the jobs.
	b.control("update cron.job set active = false")
	// These wait for rows that other sessions have locked. Here nobody frees them meanwhile.
	for _, function := range []string{"_settle_tracking()", "track_table(regclass)"} {
		b.control("alter function tinydevcrm." + function + " set lock_timeout = '3ms'")
	}

	b.control(`
		create table plain (id integer primary key, v integer);
		create table other (id integer primary key, v integer);
		create table imported (id integer, v integer);
		create table parts (id integer, v integer) partition by range (id);
		create table parts_0 partition of parts for values from (0) to (10);
		create table parts_1 partition of parts for values from (10) to (20);
		create view shown as select id, v from plain where v > 2`)
	b.control(fmt.Sprintf("copy (values (1, 1), (7, 2)) to '%s/fresh.csv' csv", server.Folder()))
	for _, view := range freshViews {
		dbtest.Exec(t, b.pool, "select tinydevcrm.create_matview($1, $2, $3, key => nullif($4, '')::text[])", view.name, view.query, view.rule, view.key)
		dbtest.Exec(t, b.pool, "select tinydevcrm.schedule_matview($1::text::regclass, '0 0 1 1 *')", view.name)
	}
	for n := range 4 {
		s := &freshSession{name: string(rune('A' + n))}
		b.open(s)
		b.sessions = append(b.sessions, s)
	}
	return b
}

// control runs a statement outside of the sessions, which must succeed.
func (b *freshBench) control(statement string) {
	b.Helper()
	dbtest.Exec(b.T, b.pool, statement)
}

func (b *freshBench) open(s *freshSession) {
	b.Helper()
	conn, err := b.others.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s.conn, s.isOpen = conn, false
	if _, err := conn.ExecContext(b.Context(), "set lock_timeout = '3ms'; set client_min_messages = error"); err != nil {
		b.Fatal(err)
	}
	if err := conn.QueryRowContext(b.Context(), "select pg_backend_pid()").Scan(&s.pid); err != nil {
		b.Fatal(err)
	}
}

// run runs a statement in a session, and reports whether it succeeded. What locks, kills and states of the tables
// refuse is part of the sequence; every other error fails the test.
func (b *freshBench) run(s *freshSession, statement string) bool {
	b.Helper()
	b.steps = append(b.steps, s.name+": "+statement)
	// Half of what is refused leaves its transaction open.
	guarded := s.isOpen && b.random.IntN(2) == 0 && !freshEnds.MatchString(statement)
	if guarded {
		if _, err := s.conn.ExecContext(b.Context(), "savepoint guard"); err != nil {
			return b.settle(s, err)
		}
	}
	_, err := s.conn.ExecContext(b.Context(), statement)
	if failure, ok := errors.AsType[*pq.Error](err); ok && guarded && slices.Contains(freshRefusals, string(failure.Code)) {
		b.steps = append(b.steps, "   "+err.Error()+"; rolled back to the savepoint before")
		_, err := s.conn.ExecContext(b.Context(), "rollback to savepoint guard")
		return b.settle(s, err) && false
	}
	return b.settle(s, err)
}

// freshEnds are statements that begin or end a transaction.
var freshEnds = regexp.MustCompile("^(begin|commit|rollback|prepare)")

func (b *freshBench) settle(s *freshSession, err error) bool {
	b.Helper()
	if err == nil {
		return true
	}
	b.steps = append(b.steps, "   "+err.Error())
	if failure, ok := errors.AsType[*pq.Error](err); ok && failure.Code != "57P01" {
		if !slices.Contains(freshRefusals, string(failure.Code)) {
			b.fail("%s: %v", failure.Code, err)
		}
		if s.isOpen {
			s.isOpen = false
			if _, err := s.conn.ExecContext(b.Context(), "rollback"); err != nil {
				b.settle(s, err)
			}
		}
		return false
	}
	if err := s.conn.Raw(func(any) error { return driver.ErrBadConn }); err == nil {
		b.Fatal("a dead connection lives")
	}
	s.conn.Close()
	b.open(s)
	return false
}

// freshRefusals: lock timeouts, deadlocks, serialization, aborted transactions, partitions that are there or not,
// rows for none of them, tables in use, and two-phase commits of what cannot be prepared.
var freshRefusals = []string{
	"55P03", "40P01", "40001", "25P02", "42P01", "42P07", "42P17", "23514", "55006", "55000", "0A000", "42704", "42809", "3B001",
}

func (b *freshBench) fail(format string, args ...any) {
	b.Helper()
	b.Fatalf(format+"\n%s", append(args, strings.Join(b.steps, "\n"))...)
}

// sequence takes up to 40 steps, or weaves some, ends all transactions, and compares each view with its query.
func (b *freshBench) sequence() {
	b.Helper()
	b.steps = b.steps[:0]
	if b.random.IntN(2) == 0 {
		b.weave()
	} else {
		b.isCalm = b.random.IntN(2) > 0
		for range 5 + b.random.IntN(36) {
			b.step()
		}
	}
	for _, s := range b.sessions {
		if s.isOpen {
			s.isOpen = false
			b.run(s, b.oneOf("commit", "commit", "rollback"))
		}
	}
	for len(b.prepared) > 0 {
		b.finishPrepared(b.sessions[0])
	}

	refreshed := b.rounds()
	b.done["left alone"] += len(freshViews) - refreshed
	if wrong := b.wrong(); wrong != "" {
		b.fail("%s is not what its query returns", wrong)
	}
	b.trackAgain()
}

// rounds lets the schedule do what is left, and returns how many refreshes that took.
func (b *freshBench) rounds() int {
	b.Helper()
	before := dbtest.Value[int64](b.T, b.pool, "select coalesce(max(id), 0) from tinydevcrm.matview_refresh_events")
	for range 4 {
		b.control("select tinydevcrm._settle_tracking()")
		// A view whose session was killed pauses, and is in the other lane.
		b.control("update tinydevcrm.matviews set last_scheduled_at = null, ended_count = 0, blocked_since = null")
		b.control("update tinydevcrm.matviews set is_slow = false where is_slow")
		for _, id := range dbtest.Column[int64](b.T, b.pool, "select id from tinydevcrm.schedules order by is_slow") {
			b.steps = append(b.steps, "a round at the end")
			b.control(fmt.Sprintf("call tinydevcrm.refresh_scheduled(%d)", id))
		}
		if dbtest.Value[int](b.T, b.pool, "select count(*) from tinydevcrm.matviews where last_outcome = 'failed' or is_tracked and tinydevcrm._is_stale(matviews)") == 0 {
			return dbtest.Value[int](b.T, b.pool, "select count(*) from tinydevcrm.matview_refresh_events where id > $1 and outcome <> 'failed'", before)
		}
	}
	b.fail("views are stale after four rounds")
	return 0
}

// wrong names the views that are not what their queries return.
func (b *freshBench) wrong() string {
	b.Helper()
	var parts []string
	for _, view := range freshViews {
		parts = append(parts, fmt.Sprintf(
			"select '%[1]s' as name where exists ((table %[1]s except all (%[2]s)) union all ((%[2]s) except all table %[1]s))",
			view.name, view.query))
	}
	return dbtest.Value[string](b.T, b.pool, "select coalesce(string_agg(name, ', '), '') from ("+strings.Join(parts, " union all ")+") as wrong")
}

// trackAgain tracks the tables whose triggers the sequence has taken away.
func (b *freshBench) trackAgain() {
	b.Helper()
	const untracked = "select count(*) from tinydevcrm.matviews where not is_tracked"
	if dbtest.Value[int](b.T, b.pool, untracked) == 0 {
		return
	}
	b.control("select tinydevcrm.track_table(name::regclass) from unnest(array['plain', 'other', 'imported', 'parts']) as name")
	if dbtest.Value[int](b.T, b.pool, untracked) > 0 {
		b.fail("views are not tracked: %s", dbtest.Value[string](b.T, b.pool,
			"select string_agg(relation || ' because ' || untracked_reason, ', ') from tinydevcrm.matviews where not is_tracked"))
	}
}

// inBackground runs a statement in a session while do runs, and reports whether it succeeded.
func (b *freshBench) inBackground(s *freshSession, statement string, do func()) bool {
	b.Helper()
	b.steps = append(b.steps, s.name+" meanwhile: "+statement)
	ended := make(chan error, 1)
	go func() {
		_, err := s.conn.ExecContext(context.WithoutCancel(b.Context()), statement)
		ended <- err
	}()
	do()
	return b.settle(s, <-ended)
}
