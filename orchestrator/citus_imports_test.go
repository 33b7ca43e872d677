package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Each mode on a distributed table, step by step on the same table.
func TestCitusImportModes(t *testing.T) {
	cluster, pool := newCitus(t)
	const ab = `[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]`
	const cd = `[{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]`
	steps := []struct {
		name, options, text string
		says                string // of an error
		want                string // the rows
		placed              string
	}{
		{"no such column", "--distribute-by x", "id,name\n1,a\n", "no column 'x' to distribute by", "", ""},
		{"a null in the column", "--distribute-by id", "id,name\n1,a\n,b\n", "column id cannot distribute table public.t: it is null in 1 of the rows", "", ""},
		{"a key without the column", "--mode upsert --key name --distribute-by id", "id,name\n1,a\n", "the key lacks id", "", ""},
		{"a new table", "--distribute-by id", "id,name\n1,a\n2,b\n", "", ab, "distributed by id"},
		{"create refuses it", "--distribute-by id", "id,name\n3,c\n", "is there already", ab, ""},
		{"replace", "--mode replace", "id,name\n3,c\n", "", `[{"id": 3, "name": "c"}]`, "distributed by id"},
		{"append", "--mode append", "name,id\nd,4\n", "", cd, "distributed by id"},
		{"append by the same column", "--mode append --distribute-by id", "id,name\n5,e\n", "", cd[:len(cd)-1] + `, {"id": 5, "name": "e"}]`, "distributed by id"},
		{"append by another column", "--mode append --distribute-by name", "id,name\n6,f\n", "is already distributed by id, not by name", cd[:len(cd)-1] + `, {"id": 5, "name": "e"}]`, ""},
		{"append what does not fit the column", "--mode append", "id,name\nsix,f\n", "only mode replace changes", cd[:len(cd)-1] + `, {"id": 5, "name": "e"}]`, ""},
		{"append of no value for the column", "--mode append", "id,name\n,f\n", "values do not fit", cd[:len(cd)-1] + `, {"id": 5, "name": "e"}]`, ""},
		{"upsert without an index", "--mode upsert --key id", "id,name\n5,e\n", "no unique index on the key", cd[:len(cd)-1] + `, {"id": 5, "name": "e"}]`, ""},
		{"replace, the column wider", "--mode replace", "id,name\none,a\n", "", `[{"id": "one", "name": "a"}]`, "distributed by id"},
		{"replace without the column", "--mode replace", "name\na\n", "no column 'id' to distribute by", `[{"id": "one", "name": "a"}]`, ""},
		{"replace by another column", "--mode replace --distribute-by name", "id,name\n1,a\n2,b\n", "", ab, "distributed by name"},
		{"upsert into a new table", "--mode upsert --key id,name --distribute-by id --table u", "id,name\n1,a\n", "", ab, "distributed by id"},
		{"upsert", "--mode upsert --key id,name --table u", "id,name\n1,a\n2,b\n", "", ab, "distributed by id"},
		{"upsert by a part of the key", "--mode upsert --key name --table u", "id,name\n1,a\n", "the key lacks id", ab, ""},
	}
	for _, step := range steps {
		args := append([]string{"upload", writeFile(t, "t.csv", step.text)}, strings.Fields(step.options)...)
		_, stderr, err := command(t, cluster.URL, "", args...)
		if (err == nil) != (step.says == "") || !strings.Contains(stderr, step.says) {
			t.Errorf("%s: it says %q, want %q", step.name, stderr, step.says)
		}
		if got := rowsOf(t, cluster, "t"); got != step.want {
			t.Errorf("%s: got %s, want %s", step.name, got, step.want)
		}
		if step.placed != "" && distribution(t, pool) != step.placed {
			t.Errorf("%s: it is %s, want %s", step.name, distribution(t, pool), step.placed)
		}
	}
	if got, want := rowsOf(t, cluster, "u"), ab; got != want {
		t.Errorf("upserted: %s, want %s", got, want)
	}

	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select * from t')")
	_, stderr, err := command(t, cluster.URL, "", "upload", writeFile(t, "t.csv", "id,name\nx,a\n"), "--mode", "replace")
	if err == nil || !strings.Contains(stderr, "v depends on table public.t") {
		t.Errorf("replaced under a view: %v, %s", err, stderr)
	}
	mustCommand(t, cluster.URL, "upload", writeFile(t, "t.csv", "id,name\n9,i\n"), "--mode", "replace")
	if got := refreshed(t, pool, "v"); got != "refreshed plain 1, notified true" {
		t.Errorf("the view after a replace: %s", got)
	}
}

// rowsOf returns a table's rows in order; empty when there is no table.
func rowsOf(t *testing.T, cluster *dbtest.Cluster, table string) string {
	t.Helper()
	pool := openPool(t, cluster.URL)
	if dbtest.Value[bool](t, pool, "select to_regclass($1) is null", table) {
		return ""
	}
	// Rows of one column are sorted after they are collected, not on the workers.
	return dbtest.Value[string](t, pool, fmt.Sprintf(
		"select coalesce(jsonb_agg(r order by r), '[]')::text from (select to_jsonb(t) as r from %s as t offset 0) as all_rows", table))
}

// A small table becomes a reference table, which each worker has a copy of, and remains one.
func TestCitusReferenceTables(t *testing.T) {
	cluster, pool := newCitus(t)
	dbtest.Exec(t, pool, "update tinydevcrm.settings set reference_row_limit = 3")
	upload := func(text string, options ...string) {
		t.Helper()
		mustCommand(t, cluster.URL, append([]string{"upload", writeFile(t, "t.csv", text), "--distribute-by", "id"}, options...)...)
	}
	upload("id,name\n1,a\n2,b\n3,c\n")
	upload("id,name\n4,d\n", "--mode", "append")
	upload("id,name\n5,e\n,f\n", "--mode", "replace")
	upload("id,name\nx,e\n", "--mode", "replace")
	if got := dbtest.Value[string](t, pool, "select string_agg(distinct distribution, ',') from tinydevcrm.imports"); got != "reference" {
		t.Errorf("a table of at most 3 rows is %s", got)
	}
	if got := rowsOf(t, cluster, "t"); got != `[{"id": "x", "name": "e"}]` {
		t.Errorf("its rows are %s", got)
	}
	for i, rows := range onWorkers(t, pool, "select count(*) from "+dbtest.Value[string](t, pool,
		"select shard_name from citus_shards where table_name = 't'::regclass limit 1")) {
		if rows != "1" {
			t.Errorf("worker %d has %s rows", i, rows)
		}
	}
	upload("id,name\n1,a\n2,b\n3,c\n4,d\n", "--table", "large")
	if got := distribution(t, pool); got != "distributed by id" {
		t.Errorf("a table of 4 rows is %s", got)
	}

	dbtest.Exec(t, pool, "create table k (a int primary key, b int)")
	dbtest.Exec(t, pool, "create table other (a int primary key)")
	dbtest.Exec(t, pool, "create table f (a int references other)")
	asks := []struct{ statement, want string }{
		{"select tinydevcrm.distribute_table('t')", "reference"},
		{"select tinydevcrm.distribute_table('large')", "distributed by id"},
		{"select tinydevcrm.distribute_table('large', 'id', false)", "distributed by id"},
		{"select tinydevcrm.distribute_table('large', 'name')", "TD011 table public.large is already distributed by id, not by name"},
		{"select tinydevcrm.distribute_table('large', as_reference => true)", "TD011 table public.large is already on the workers: distributed by id"},
		{"select tinydevcrm.distribute_table('t', 'id', false)", "TD011 table public.t is already on the workers: reference"},
		{"select tinydevcrm.distribute_table('k', 'b', false)",
			"TD011 the unique index k_pkey (a) of table public.k lacks b, the column to distribute by"},
		{"select tinydevcrm.distribute_table('other', 'a')",
			"TD011 a foreign key connects table public.other with public.f, which is not distributed"},
		{"select tinydevcrm.distribute_table('k', as_reference => false)", "TD011 table public.k needs a column to distribute by"},
		{"select tinydevcrm.distribute_table('k', 'a', true)", "reference"},
	}
	for _, ask := range asks {
		var got string
		if err := pool.QueryRow(ask.statement).Scan(&got); err != nil {
			got = dbtest.Explained(err)
		}
		if got != ask.want {
			t.Errorf("%s: %s, want %s", ask.statement, got, ask.want)
		}
	}
}
