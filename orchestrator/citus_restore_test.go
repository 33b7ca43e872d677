package main

import (
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A coordinator is dumped with the rows of its workers and restored into a new cluster. There its tables are
// plain ones until they are distributed again.
func TestCitusDumpGoesOnElsewhere(t *testing.T) {
	old, pool := newCitus(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_user('ann', 'secret word')")
	as := asUser(t, old, "ann")
	dbtest.Exec(t, as, `create table "My Things" as select n as "Id", n % 3 as kind from generate_series(1, 300) as n`)
	dbtest.Exec(t, as, "create table kinds as select n as kind, 'kind ' || n as label from generate_series(0, 2) as n")
	dbtest.Exec(t, as, `select tinydevcrm.distribute_table('"My Things"', 'Id'), tinydevcrm.distribute_table('kinds', as_reference => true)`)
	dbtest.Exec(t, as, `select tinydevcrm.create_matview('v', 'select label, count(*) from "My Things" join kinds using (kind) group by label',
		'changed', key => '{label}')`)
	refreshed(t, as, "v")
	statements := dbtest.Column[string](t, as, "select tinydevcrm.list_distributions()")
	roles, dump := dumpServer(t, old.URL)

	fresh := dbtest.NewCluster(t, 2)
	// The workers need only the roles; everything else belongs to the coordinator.
	runTool(t, roles, "psql", "-X", "-q", fresh.URL)
	restoreServer(t, fresh.URL+"&options=-c%20citus.enable_ddl_propagation%3Doff", roles, dump)
	pool = openPool(t, fresh.URL)
	if plain := dbtest.Value[bool](t, pool, "select not exists (select from pg_dist_partition)"); !plain {
		t.Error("a restored table is distributed")
	}
	as = asUser(t, fresh, "ann")
	for _, when := range []string{"as plain tables", "distributed again"} {
		if rows := dbtest.Value[int](t, as, `select count(*) from "My Things"`); rows != 300 {
			t.Errorf("%s: %d rows", when, rows)
		}
		if got := refreshed(t, as, "v"); got != "refreshed concurrently 3, notified false" {
			t.Errorf("%s: %s", when, got)
		}
		if when == "as plain tables" {
			for _, statement := range statements {
				dbtest.Exec(t, as, statement)
			}
		}
	}
	again := dbtest.Column[string](t, pool, "select tinydevcrm.list_distributions()")
	if len(again) != 2 || again[0] != statements[0] || again[1] != statements[1] {
		t.Errorf("it is distributed by %q, was by %q", again, statements)
	}
	dbtest.Exec(t, as, `insert into "My Things" values (0, 0)`)
	if got := refreshed(t, as, "v"); got != "refreshed concurrently 3, notified true" {
		t.Errorf("after a change: %s", got)
	}
	if findings := dbtest.Column[string](t, pool, "select detail from tinydevcrm.check_installation() where not is_ok"); len(findings) != 1 {
		// This is the upkeep job, until settle_jobs().
		t.Errorf("check_installation() finds %q", findings)
	}
}
