package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// The rules over a distributed table: rows_added is compared with a map kept here, the others by example.
func TestCitusRules(t *testing.T) {
	_, pool := newCitus(t)
	dbtest.Exec(t, pool, "create table things (id int, name text)")
	dbtest.Exec(t, pool, "select tinydevcrm.distribute_table('things', 'id')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select id, name from things', 'rows_added', key => '{id}')")
	dbtest.Exec(t, pool, "update tinydevcrm.settings set event_row_limit = 1000")
	if got := refreshed(t, pool, "v"); got != "refreshed concurrently 0, notified false" {
		t.Errorf("the baseline: %s", got)
	}

	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	before := map[string]bool{}
	for round := range 60 {
		for range 1 + random.IntN(5) {
			id, name := random.IntN(20), string(rune('a'+random.IntN(3)))
			dbtest.Exec(t, pool, "delete from things where id = $1", id)
			if random.IntN(3) > 0 {
				dbtest.Exec(t, pool, "insert into things values ($1, $2)", id, name)
			}
		}
		after := map[string]bool{}
		for _, row := range dbtest.Column[string](t, pool, "select to_jsonb(things)::text from things") {
			after[row] = true
		}
		var added []string
		var removed int
		if err := pool.QueryRow(`
			select array(select value::text from jsonb_array_elements(rows)), removed_count
			  from tinydevcrm.refresh_matview('v')`).Scan(pq.Array(&added), &removed); err != nil {
			t.Fatal(err)
		}
		slices.Sort(added)
		if want := without(after, before); !slices.Equal(added, want) || removed != len(without(before, after)) {
			t.Fatalf("seed %d, round %d: added %v, want %v; removed %d", seed, round, added, want, removed)
		}
		before = after
	}

	dbtest.Exec(t, pool, "truncate things")
	views := map[string]string{"changed": "", "became_not_empty": "", "empty": "", "not_empty": "", "always": ""}
	for rule := range views {
		dbtest.Exec(t, pool, "select tinydevcrm.create_matview($1, 'select count(*), name from things group by name', $1)", rule)
		refreshed(t, pool, rule)
	}
	for _, change := range []string{"insert into things select n, 'n' from generate_series(1, 100) as n", "select", "truncate things"} {
		dbtest.Exec(t, pool, change)
		for rule := range views {
			_, notified, _ := strings.Cut(refreshed(t, pool, rule), "notified ")
			views[rule] += " " + notified
		}
	}
	want := map[string]string{"changed": " true false true", "became_not_empty": " true false false", "empty": " false false true",
		"not_empty": " true true false", "always": " true true true"}
	if !maps.Equal(views, want) {
		t.Errorf("notified after rows were added, nothing changed, and rows were removed: %v, want %v", views, want)
	}
}

// without returns what is in one and not in the other, in order.
func without(one, other map[string]bool) []string {
	rows := []string{}
	for row := range one {
		if !other[row] {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return rows
}

// A join with a local table of the coordinator is refused when the view is created, with a hint.
func TestCitusJoins(t *testing.T) {
	_, pool := newCitus(t)
	dbtest.Exec(t, pool, "create table things as select n as id, n % 3 as kind from generate_series(1, 300) as n")
	dbtest.Exec(t, pool, "create table kinds as select n as kind, 'kind ' || n as label from generate_series(0, 2) as n")
	dbtest.Exec(t, pool, "select tinydevcrm.distribute_table('things', 'id')")
	const query = "select label, count(*) from things join kinds using (kind) group by label"
	_, err := pool.Exec("select tinydevcrm.create_matview('v', $1)", query)
	if got := dbtest.Explained(err); got != "TD011 the query joins a distributed table with a local table of the coordinator" {
		t.Errorf("a join with a local table: %s", got)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.distribute_table('kinds', as_reference => true)")
	if rows := dbtest.Value[int](t, pool, "select jsonb_array_length(rows) from tinydevcrm.preview_query($1)", query); rows != 3 {
		t.Errorf("its preview has %d rows", rows)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', $1, key => '{label}')", query)
	if got := refreshed(t, pool, "v"); got != "refreshed concurrently 3, notified true" {
		t.Errorf("refreshed: %s", got)
	}
	// Views over local tables of the coordinator work as before.
	dbtest.Exec(t, pool, "create table local as select 1 as n")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('w', 'select one.n from local as one join local as two using (n)')")
	if got := refreshed(t, pool, "w"); got != "refreshed plain 1, notified true" {
		t.Errorf("over local tables: %s", got)
	}
}

// When tables are dropped or renamed by hand, the registry follows. A table that a view needs cannot be
// dropped.
func TestCitusByHand(t *testing.T) {
	_, pool := newCitus(t)
	dbtest.Exec(t, pool, "create table things as select n as id from generate_series(1, 10) as n")
	dbtest.Exec(t, pool, "select tinydevcrm.distribute_table('things', 'id')")
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select count(*) from things')")
	dbtest.Exec(t, pool, "select tinydevcrm.schedule_matview('v', '1 hour')")
	if _, err := pool.Exec("drop table things"); dbtest.Explained(err)[:5] != "2BP01" {
		t.Errorf("dropped under a view: %v", err)
	}
	for _, statement := range []string{
		"alter table things rename to others",
		`alter table others rename column id to "Id"`,
		"alter table others add column name text default 'x'",
		"alter materialized view v rename to w",
	} {
		dbtest.Exec(t, pool, statement)
	}
	if got := refreshed(t, pool, "w"); got != "refreshed plain 1, notified true" {
		t.Errorf("renamed: %s", got)
	}
	if got := dbtest.Value[string](t, pool, "select tinydevcrm.distribute_table('others')"); got != `distributed by "Id"` {
		t.Errorf("renamed: %s", got)
	}

	dbtest.Exec(t, pool, "drop table others cascade")
	left := dbtest.Value[string](t, pool, `
		select concat_ws(' ', (select count(*) from tinydevcrm.matviews), (select count(*) from tinydevcrm.schedules),
		                 (select count(*) from cron.job where command like '%refresh_scheduled%'))`)
	if left != "0 0 0" {
		t.Errorf("dropped by cascade, it leaves %s", left)
	}
	for i, shards := range onWorkers(t, pool, "select count(*) from pg_class where relname ~ '^(things|others)_[0-9]+$'") {
		if shards != "0" {
			t.Errorf("worker %d has %s shards left", i, shards)
		}
	}
}

// Each user owns their tables on the workers too.
func TestCitusUsers(t *testing.T) {
	cluster, pool := newCitus(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word'), tinydevcrm.create_user('bob', 'secret word')")
	ann, bob := asUser(t, cluster, "ann"), asUser(t, cluster, "bob")
	dbtest.Exec(t, ann, "create temporary table staging as select n::text as id, 'x' as name from generate_series(1, 1000) as n")
	if got := dbtest.Value[string](t, ann, "select distribution from tinydevcrm.import_staging('staging', 't', distribute_by => 'id')"); got != "distributed by id" {
		t.Errorf("imported by a user: %s", got)
	}
	dbtest.Exec(t, ann, "select tinydevcrm.create_matview('v', 'select name, count(*) from t group by name', key => '{name}')")
	if got := refreshed(t, ann, "v"); got != "refreshed concurrently 1, notified true" {
		t.Errorf("refreshed by a user: %s", got)
	}
	for _, statement := range []string{
		"select * from ann.t", "insert into ann.t values (1, 'y')", "select tinydevcrm.distribute_table('ann.t', 'id')",
		"select * from ann.v", "select tinydevcrm.import_staging('none', 't', 'append', schema_name => 'ann')",
	} {
		if statement == "select tinydevcrm.import_staging('none', 't', 'append', schema_name => 'ann')" {
			dbtest.Exec(t, bob, "create temporary table none (id text, name text)")
		}
		if _, err := bob.Exec(statement); dbtest.Explained(err)[:5] != "42501" {
			t.Errorf("another user, %s: %v", statement, err)
		}
	}
	// A user who connects to a worker directly.
	shard := dbtest.Value[string](t, pool, "select shard_name from citus_shards where table_name = 'ann.t'::regclass limit 1")
	for i, worker := range cluster.Workers {
		onWorker := openPool(t, strings.Replace(worker.URL, "user=postgres", "user=bob", 1))
		for _, relation := range []string{"ann.t", shard} {
			if _, err := onWorker.Exec("select * from " + relation); err == nil {
				t.Errorf("on worker %d another user reads %s", i, relation)
			}
		}
	}

	// A user's policies are copied to the workers with the table.
	dbtest.Exec(t, ann, "grant usage on schema ann to bob; grant select on t to bob")
	dbtest.Exec(t, ann, "alter table t enable row level security")
	dbtest.Exec(t, ann, "create policy few on t for select to bob using (id <= 10)")
	if rows := dbtest.Value[int](t, bob, "select count(*) from ann.t"); rows != 10 {
		t.Errorf("by the policy another user reads %d rows, want 10", rows)
	}

	dbtest.Exec(t, pool, "select tinydevcrm.drop_user('ann', 'bob')")
	if owner := dbtest.Value[string](t, pool, "select relowner::regrole::text from pg_class where oid = 'ann.t'::regclass"); owner != "bob" {
		t.Errorf("the table of a dropped user belongs to %s", owner)
	}
	if rows := dbtest.Value[int](t, bob, "select count(*) from ann.t"); rows != 1000 {
		t.Errorf("the new owner reads %d rows", rows)
	}
	for i, roles := range onWorkers(t, pool, "select string_agg(rolname, ' ') from pg_roles where rolname in ('ann', 'bob')") {
		if roles != "bob" {
			t.Errorf("worker %d has the users %s", i, roles)
		}
	}
}
