package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A trap is a place where the owner of a relation can put code that runs as somebody else: as one who reads the
// relation, plans a read, writes to it, samples it or refreshes it. {table} and {view} are eve's, an imported
// table and a materialized view of it. {spring} and {spring n} call the function that logs on the server who
// ran it.
type trap struct {
	name string
	set  []string
	// naive is a statement for which the trap runs code as a superuser, or as the role before a colon. It
	// shows that the trap works.
	naive string
	// since is the first major version of Postgres with such a place.
	since int
}

// traps are of every kind of relation, and of every place for code in one. A collation has none.
func traps() []trap {
	const reads, writes = "explain select from {table}", "insert into {table} (n) values (9)"
	return []trap{
		{"index expression", []string{
			"create index on {table} ({spring})", "create index on {table} ({spring n})",
			"create index on {view} ({spring})", "create index on {view} ({spring n})",
		}, reads, 0},
		{"index predicate", []string{
			"create index on {table} (n) where {spring} > 0", "create index on {view} (n) where {spring} > 0",
		}, reads, 0},
		{"view's index", []string{"create index on {view} ({spring})"}, "explain select from {view}", 0},
		{"statistics", []string{
			"create statistics {table}_stat on {spring n}, n from {table}",
			"create statistics {view}_stat on {spring n}, n from {view}",
		}, "analyze {table}", 14},
		{"generated column", []string{"alter table {table} add g integer generated always as ({spring n}) stored"}, writes, 0},
		{"default", []string{"alter table {table} alter n set default {spring}"}, "insert into {table} default values", 0},
		{"check", []string{"alter table {table} add check ({spring} > 0)"}, writes, 0},
		{"policy", []string{
			"alter table {table} enable row level security",
			"create policy p on {table} using ({spring} > 0) with check ({spring} > 0)",
		}, "bob: select from {table}", 0},
		{"trigger", []string{"create trigger t before insert or update on {table} for each row execute function spring_as_trigger('trigger')"}, writes, 0},
		{"statement's trigger", []string{
			"create trigger t after insert or truncate or delete on {table} for each statement execute function spring_as_trigger('statement''s trigger')",
		}, writes, 0},
		{"trigger's condition", []string{
			"create trigger t before insert on {table} for each row when ({spring} > 0) execute function spring_as_trigger('trigger''s condition')",
		}, writes, 0},
		{"rule", []string{"create rule r as on insert to {table} do also select {spring}"}, writes, 0},
		{"domain", []string{"create domain dom as integer check (spring('domain') > 0)", "alter table {table} add d dom default 1"}, writes, 0},
		{"composite type", []string{
			"create domain inner_dom as integer check (spring('composite type') > 0)", "create type pair as (d inner_dom)",
			"alter table {table} add d pair default row(1)",
		}, writes, 0},
		{"range type", []string{
			"create function distance(float8, float8) returns float8 language plpgsql immutable as $$ begin return eve.spring('range type'); end $$",
			"create type span as range (subtype = float8, subtype_diff = distance)",
			"alter table {table} add d span", "update {table} set d = span(n, n + 1)",
		}, "analyze {table}", 0},
		{"cast", []string{
			"create type mood as enum ('fine')",
			"create function as_json(mood) returns json language plpgsql as $$ begin return to_json(eve.spring('cast')); end $$",
			"create cast (mood as json) with function as_json(mood) as implicit",
			"alter table {table} add d mood default 'fine'",
		}, "select to_json(d) from {table}", 0},
		{"partition key", []string{
			"drop materialized view {view}", "drop table {table}",
			"create table {table} (n integer) partition by list ({spring n})",
			"create table {table}_rest partition of {table} default",
			"select tinydevcrm.create_matview('{view}', 'select * from {table}', 'rows_added')",
		}, writes, 0},
		{"view", []string{
			"create view {table}_behind as select n + spring('view') as n from {table}",
			"select tinydevcrm.create_matview('{view}_behind', 'select * from {table}_behind', 'rows_added')",
		}, "refresh materialized view {view}_behind", 0},
		{"materialized view", []string{
			"drop materialized view {view}",
			"select tinydevcrm.create_matview('{view}', 'select n + {spring} as n from {table}', 'rows_added')",
		}, "refresh materialized view {view}", 0},
		{"column of a materialized view", []string{
			"alter table {table} add d mood default 'fine'", "drop materialized view {view}",
			"create function as_text(mood) returns text language plpgsql as $$ begin return eve.spring('column of a materialized view')::text; end $$",
			"create cast (mood as text) with function as_text(mood) as assignment",
			"select tinydevcrm.create_matview('{view}', 'select * from {table}', 'rows_added')",
		}, "select d::text from {view}", 0},
	}
}

// namesInFront are functions and operators that a careless search_path finds before those of Postgres.
var namesInFront = []string{
	"create function to_json(anyelement) returns json language plpgsql as $$ begin return pg_catalog.to_json(eve.spring('name in front')); end $$",
	"create function left(text, integer) returns text language plpgsql as $$ begin return eve.spring('name in front')::text; end $$",
	"create function num_nulls(variadic \"any\") returns integer language internal as 'pg_num_nulls'",
	"create function equals(bigint, bigint) returns boolean language plpgsql as $$ begin return eve.spring('name in front') > 0; end $$",
	"create operator = (leftarg = bigint, rightarg = bigint, function = equals)",
	"create operator > (leftarg = bigint, rightarg = bigint, function = equals)",
	"create function count() returns bigint language plpgsql as $$ begin return eve.spring('name in front'); end $$",
	"create function format(text, text) returns text language plpgsql as $$ begin return eve.spring('name in front')::text; end $$",
	"create function clock_timestamp() returns timestamptz language plpgsql as $$ begin perform eve.spring('name in front'); return now(); end $$",
}

// nobodysTraps are places where only a superuser can put code.
var nobodysTraps = []string{
	"create operator class o default for type circle using btree as function 1 spring_compare(circle, circle)",
	"create event trigger e on ddl_command_end execute function spring_as_trigger()",
	"create extension file_fdw",
	"create type base (input = textin, output = textout)",
	"create text search template t (lexize = dsimple_lexize)",
	"create function run() returns void language plpython3u as $$ pass $$",
	"create function run() returns void language c as 'nowhere'",
	"create access method m type index handler bthandler",
	"create foreign table f (n integer) server nowhere",
}

// A minefield is a server with eve's traps. Each has a table and a view of its own, whose names are in places.
type minefield struct {
	t      *testing.T
	server *dbtest.Server
	super  *sql.DB
	// set are the numbers of the traps that this Postgres has a place for.
	set []int
	// read is how much of the server's log has been checked.
	read int64
}

// placeOf returns the table and the view of the trap with this number.
func placeOf(number int) *strings.Replacer {
	return strings.NewReplacer("{table}", fmt.Sprintf("t%d", number), "{view}", fmt.Sprintf("v%d", number))
}

// layTraps creates eve's tables and views, which everyone may read and write, and puts her traps into them.
func layTraps(t *testing.T, server *dbtest.Server, super *sql.DB) *minefield {
	t.Helper()
	field := &minefield{t: t, server: server, super: super}
	major := dbtest.Value[int](t, super, "select current_setting('server_version_num')::integer / 10000")
	eve := open(t, server.URL, "eve")
	for _, statement := range []string{
		// It also works in a read-only transaction, and its log line remains after a rollback.
		`create function spring(trap text, n integer default 1) returns integer language plpgsql immutable as $$
		 begin
		     raise log 'TRAP % ran as % in a session of %', trap, current_user, session_user;
		     return 1;
		 end $$`,
		`create function spring_as_trigger() returns trigger language plpgsql as $$
		 begin
		     perform eve.spring(tg_argv[0]);
		     return new;
		 end $$`,
		"create table staging as select n::text from generate_series(1, 3) as n",
		// Everyone has the rights, so that rights protect nobody.
		"grant usage, create on schema eve to public",
		"alter default privileges grant all on tables to public",
	} {
		dbtest.Exec(t, eve, statement)
	}
	for number, trap := range traps() {
		place := placeOf(number)
		springs := strings.NewReplacer(
			"{spring}", fmt.Sprintf("(eve.spring(%s))", pq.QuoteLiteral(trap.name)),
			"{spring n}", fmt.Sprintf("(eve.spring(%s, n))", pq.QuoteLiteral(trap.name)))
		statements := append([]string{
			"select tinydevcrm.import_staging('staging', '{table}')",
			"select tinydevcrm.create_matview('{view}', 'select * from {table}', 'rows_added')",
		}, trap.set...)
		if major < trap.since {
			continue
		}
		for _, statement := range statements {
			statement = place.Replace(springs.Replace(statement))
			if strings.Contains(statement, "create_matview") {
				statement = strings.ReplaceAll(statement, "'"+trap.name+"'", "''"+trap.name+"''")
			}
			dbtest.Exec(t, eve, statement)
		}
		field.set = append(field.set, number)
	}
	for _, statement := range namesInFront {
		// Some are practically impossible.
		if _, err := eve.ExecContext(t.Context(), statement); err != nil {
			t.Logf("not in front: %v", err)
		}
	}
	for _, statement := range nobodysTraps {
		var refused *pq.Error
		if _, err := eve.ExecContext(t.Context(), statement); !errors.As(err, &refused) || refused.Code != "42501" && refused.Code != "42704" {
			t.Errorf("%s: %v, want a refusal", statement, err)
		}
	}
	// The page of the program's role shows the deliveries of its log, which gets the events of all.
	dbtest.Exec(t, super, "delete from tinydevcrm.matview_refresh_events where outcome = 'dropped'")
	field.caught("eve herself")
	return field
}

var sprung = regexp.MustCompile(`TRAP (.*) ran as (\S+) in a session of (\S+)`)

// springs are the new log lines of traps, except for what eve ran in a session of her own.
func (f *minefield) springs() []string {
	f.t.Helper()
	file, err := os.Open(filepath.Join(filepath.Dir(f.server.Folder()), "log"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	log, err := io.ReadAll(io.NewSectionReader(file, f.read, math.MaxInt64-f.read))
	if err != nil {
		f.t.Fatal(err)
	}
	var found []string
	for _, match := range sprung.FindAllStringSubmatch(string(log), -1) {
		if match[2] != "eve" || match[3] != "eve" {
			found = append(found, match[0])
		}
	}
	f.read += int64(len(log))
	return found
}

// caught fails the test when something that was done ran what eve had planted.
func (f *minefield) caught(by string) {
	f.t.Helper()
	if found := f.springs(); len(found) > 0 {
		f.t.Errorf("%s: %s (%d times)", by, found[0], len(found))
	}
}

// isArmed shows that each trap catches a careless role.
func (f *minefield) isArmed() {
	f.t.Helper()
	// New sessions, because a session remembers what it has planned.
	sessions := map[string]*sql.DB{"postgres": open(f.t, f.server.URL, "postgres"), "bob": open(f.t, f.server.URL, "bob")}
	for _, number := range f.set {
		trap := traps()[number]
		who, naive, isNamed := strings.Cut(trap.naive, ": ")
		if !isNamed {
			who, naive = "postgres", trap.naive
		}
		statement := strings.NewReplacer("{table}", "eve.{table}", "{view}", "eve.{view}").Replace(naive)
		_, err := inVain(sessions[who], placeOf(number).Replace(statement))
		if found := f.springs(); len(found) == 0 {
			f.t.Errorf("the trap in a %s does not work: %v", trap.name, err)
		}
	}
}
