package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// freshSteps are the steps of a sequence. Each is chosen as often as its weight says, and returns whether it succeeded.
var freshSteps = []struct {
	name   string
	weight int
	calm   int // the weight in a calm sequence: without commands on tables, so that its transactions last
	take   func(b *freshBench, s *freshSession) bool
}{
	{"write", 30, 30, func(b *freshBench, s *freshSession) bool { return b.run(s, b.write()) }},
	{"copy", 2, 1, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf("do $$ begin execute format('copy %s from %%L csv', current_setting('data_directory') || '/fresh.csv'); end $$",
			b.oneOf("parts", "parts_0", "imported")))
	}},
	{"import", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf(`
			drop table if exists pg_temp.staging;
			create temporary table staging (id text, v text);
			insert into staging values (%d, %d);
			select from tinydevcrm.import_staging('staging', 'imported', '%s')`, b.id(), b.id(), b.oneOf("append", "replace")))
	}},
	{"rename", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf(`
			alter table plain rename to renamed;
			insert into renamed values (%d, %d) on conflict (id) do update set v = excluded.v;
			alter table renamed rename to plain`, b.id(), b.id()))
	}},
	{"begin", 12, 12, func(b *freshBench, s *freshSession) bool {
		if s.isOpen {
			return b.run(s, b.write())
		}
		s.isOpen = b.run(s, "begin isolation level "+b.oneOf(
			"read committed", "read committed", "read committed", "read committed", "repeatable read", "serializable"))
		return s.isOpen
	}},
	{"commit", 8, 8, func(b *freshBench, s *freshSession) bool { return b.end(s, "commit") }},
	{"rollback", 2, 2, func(b *freshBench, s *freshSession) bool { return b.end(s, "rollback") }},
	{"savepoint rolled back", 3, 1, func(b *freshBench, s *freshSession) bool {
		return b.within(s, "savepoint one; "+b.write()+"; rollback to savepoint one")
	}},
	{"savepoint released", 2, 1, func(b *freshBench, s *freshSession) bool {
		return b.within(s, "savepoint one; "+b.write()+"; savepoint two; "+b.write()+"; rollback to savepoint two; release savepoint one")
	}},
	{"write after a savepoint", 2, 1, func(b *freshBench, s *freshSession) bool {
		write := b.write()
		return b.within(s, "savepoint one; "+write+"; rollback to savepoint one; "+write)
	}},
	{"prepare", 3, 2, func(b *freshBench, s *freshSession) bool {
		b.gids++
		gid := fmt.Sprintf("fresh %d", b.gids)
		ok := b.within(s, b.write()) && b.end(s, "prepare transaction '"+gid+"'")
		if ok {
			b.prepared = append(b.prepared, gid)
		}
		return ok
	}},
	{"commit prepared", 3, 2, (*freshBench).finishPrepared},
	{"round", 5, 2, func(b *freshBench, s *freshSession) bool { return b.alone(s, freshDue) && b.run(s, freshRound) }},
	{"round beside writes", 2, 1, func(b *freshBench, s *freshSession) bool {
		if s.isOpen || !b.run(s, freshDue) {
			return false
		}
		return b.inBackground(s, freshRound, func() {
			for range 5 {
				if other := b.session(); other != s {
					b.run(other, b.write())
				}
			}
		})
	}},
	{"refresh", 8, 12, func(b *freshBench, s *freshSession) bool {
		return b.run(s, "select tinydevcrm.refresh_matview('"+b.view()+"')")
	}},
	{"refresh by hand", 2, 1, func(b *freshBench, s *freshSession) bool {
		return b.run(s, "refresh materialized view "+b.view())
	}},
	{"clean", 8, 14, func(b *freshBench, s *freshSession) bool {
		return b.alone(s, "select tinydevcrm._remove_seen_changes()")
	}},
	{"settle", 2, 0, func(b *freshBench, s *freshSession) bool {
		return b.alone(s, "select tinydevcrm._settle_tracking()")
	}},
	{"kill", 2, 1, func(b *freshBench, s *freshSession) bool {
		statement := b.write()
		if !s.isOpen && b.random.IntN(2) == 0 && b.run(s, freshDue) {
			statement = freshRound
		}
		wait := time.Duration(b.random.IntN(4000)) * time.Microsecond
		b.inBackground(s, statement, func() {
			time.Sleep(wait)
			b.control(fmt.Sprintf("select pg_terminate_backend(%d)", s.pid))
		})
		return true
	}},
	{"trigger off", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf("alter table %s disable trigger %s", b.table(), b.oneOf("tinydevcrm_record_change", "all", "user")))
	}},
	{"trigger on", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf("alter table %s enable always trigger tinydevcrm_record_change", b.table()))
	}},
	{"trigger off and on", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf(`
			alter table parts_0 disable trigger all; insert into parts_0 values (%d, %d);
			alter table parts_0 enable always trigger tinydevcrm_record_change`, b.random.IntN(10), b.id()))
	}},
	{"trigger dropped", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, "drop trigger tinydevcrm_record_change on "+b.oneOf("plain", "other", "parts", "parts_0"))
	}},
	{"table tracked", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, "select tinydevcrm.track_table('"+b.table()+"')")
	}},
	{"partition created", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf(`
			create table parts_2 partition of parts for values from (20) to (30);
			insert into %s values (%d, %d)`, b.oneOf("parts", "parts_2"), 20+b.random.IntN(10), b.id()))
	}},
	{"partition attached", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf(`
			create table parts_2 (id integer, v integer); insert into parts_2 values (%d, %d);
			alter table parts attach partition parts_2 for values from (20) to (30)`, 20+b.random.IntN(10), b.id()))
	}},
	{"partition detached", 1, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, "alter table parts detach partition parts_2; drop table parts_2")
	}},
	{"partition dropped", 1, 0, func(b *freshBench, s *freshSession) bool { return b.run(s, "drop table parts_2") }},
	{"partition written", 2, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf("insert into parts_2 values (%d, %d)", 20+b.random.IntN(10), b.id()))
	}},
	{"view edited", 2, 0, func(b *freshBench, s *freshSession) bool {
		return b.run(s, fmt.Sprintf("create or replace view shown as select id, v from %s where v > %d",
			b.oneOf("plain", "other", "imported", "parts", "of_plain"), b.random.IntN(8)))
	}},
}

// freshDue makes every view due whose row no other session has locked.
const freshDue = `
	update tinydevcrm.matviews set last_scheduled_at = null
	 where id in (select id from tinydevcrm.matviews for no key update skip locked)`

const freshRound = `
	do $$ declare v_id bigint; begin
	    for v_id in select id from tinydevcrm.schedules order by is_slow loop
	        call tinydevcrm.refresh_scheduled(v_id);
	    end loop;
	end $$`

func (b *freshBench) step() {
	b.Helper()
	weights, total := make([]int, len(freshSteps)), 0
	for n, step := range freshSteps {
		weights[n] = step.weight
		if b.isCalm {
			weights[n] = step.calm
		}
		total += weights[n]
	}
	chosen := b.random.IntN(total)
	for n, step := range freshSteps {
		if chosen -= weights[n]; chosen < 0 {
			if step.take(b, b.session()) {
				b.done[step.name]++
			}
			return
		}
	}
}

// weave mixes in a random order what writers, an open refresh and upkeep do, each for itself in its own order.
func (b *freshBench) weave() {
	b.Helper()
	upsert := func(s *freshSession) {
		b.run(s, fmt.Sprintf("insert into plain values (%d, %d) on conflict (id) do update set v = excluded.v", b.id(), b.random.IntN(1000)))
	}
	open := func(s *freshSession) { s.isOpen = b.run(s, "begin") }
	end := func(s *freshSession) { b.end(s, b.oneOf("commit", "commit", "commit", "rollback")) }
	clean := func(s *freshSession) {
		b.run(s, "select tinydevcrm._remove_seen_changes()")
		b.run(s, "select tinydevcrm._remove_seen_changes()")
	}
	threads := [][]func(*freshSession){
		{func(s *freshSession) { open(s); upsert(s) }, end},
		{upsert},
		{func(s *freshSession) {
			open(s)
			b.run(s, "select tinydevcrm.refresh_matview('"+b.oneOf("of_plain", "of_shown", "of_join")+"')")
		}, end},
		{clean, clean},
	}
	if b.random.IntN(2) == 0 {
		// The refresh is in a transaction that writes too.
		threads[2] = slices.Insert(threads[2], b.random.IntN(2), upsert)
	}
	for len(threads[0])+len(threads[1])+len(threads[2])+len(threads[3]) > 0 {
		n := b.random.IntN(4)
		if len(threads[n]) == 0 {
			continue
		}
		threads[n][0](b.sessions[n])
		threads[n] = threads[n][1:]
	}
}

// session is one of the sessions, half of the times the one of the last step.
func (b *freshBench) session() *freshSession {
	if b.last == nil || b.random.IntN(2) == 0 {
		b.last = b.sessions[b.random.IntN(len(b.sessions))]
	}
	return b.last
}

func (b *freshBench) oneOf(choices ...string) string { return choices[b.random.IntN(len(choices))] }

func (b *freshBench) table() string {
	return b.oneOf("plain", "other", "imported", "parts", "parts_0", "parts_1")
}

func (b *freshBench) view() string { return freshViews[b.random.IntN(len(freshViews))].name }

func (b *freshBench) id() int { return b.random.IntN(10) }

// write is a random statement that may change rows.
func (b *freshBench) write() string {
	table := b.oneOf("plain", "other")
	part := b.oneOf("parts", "parts_0", "parts_1", "imported")
	statements := []string{
		"insert into TABLE values (ID, V) on conflict do nothing",
		"insert into TABLE values (ID, V) on conflict (id) do update set v = excluded.v",
		"update TABLE set v = V where id = ID",
		"delete from TABLE where id = ID",
		"insert into parts values (ID, V), (1ID, V)",
		"insert into parts_0 values (ID, V)",
		"with gone as (delete from plain where id = ID returning *) insert into other select * from gone on conflict (id) do update set v = excluded.v",
		"truncate TABLE",
		"update parts set id = (id + 10) % 20 where v = V",
		"delete from PART where v = V",
		"truncate PART",
		"insert into imported values (ID, V)",
		"update imported set v = v + 1 where v = V",
	}
	if b.isCalm {
		statements = statements[:6]
	}
	return strings.NewReplacer("TABLE", table, "PART", part, "ID", fmt.Sprint(b.id()), "V", fmt.Sprint(b.id())).Replace(b.oneOf(statements...))
}

// end ends the transaction of a session, if there is one.
func (b *freshBench) end(s *freshSession, statement string) bool {
	b.Helper()
	if !s.isOpen {
		return false
	}
	ok := b.run(s, statement)
	s.isOpen = false
	return ok
}

// within runs a statement within a transaction, which it begins if there is none.
func (b *freshBench) within(s *freshSession, statement string) bool {
	b.Helper()
	if !s.isOpen {
		if s.isOpen = b.run(s, "begin"); !s.isOpen {
			return false
		}
	}
	return b.run(s, statement)
}

// alone runs a statement outside of transactions.
func (b *freshBench) alone(s *freshSession, statement string) bool {
	b.Helper()
	return !s.isOpen && b.run(s, statement)
}

// finishPrepared ends a prepared transaction, if there is one, in a session that is within none.
func (b *freshBench) finishPrepared(s *freshSession) bool {
	b.Helper()
	if s.isOpen || len(b.prepared) == 0 {
		return false
	}
	n := b.random.IntN(len(b.prepared))
	if !b.run(s, b.oneOf("commit", "commit", "rollback")+" prepared '"+b.prepared[n]+"'") {
		return false
	}
	b.prepared = append(b.prepared[:n], b.prepared[n+1:]...)
	return true
}
