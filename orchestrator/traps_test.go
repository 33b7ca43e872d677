package main

import (
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// What a user plants does not run with the rights of an administrator who looks at it or refreshes it.
func TestTrapsCatchNobody(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user('eve', 'secret word')")
	eve := open(t, server.URL, "eve")
	for _, trap := range []string{
		"create table caught (who text)",
		"grant insert on caught to public",
		"grant usage on schema eve to public",
		// It works for whoever is superuser, so that eve has no more to do than have them call it.
		`create function spring() returns integer language plpgsql as $$
		 begin
		     if current_setting('is_superuser') = 'on' then
		         execute 'alter role eve superuser';
		     end if;
		     insert into eve.caught values (current_user);
		     return 1;
		 exception
		     when others then return 2;
		 end $$`,
		"create function spring(text) returns json language sql as 'select to_json(eve.spring())'",
		"create function spring(anyelement) returns text language sql as 'select eve.spring()::text'",
		"create function spring(integer) returns integer language sql immutable as 'select eve.spring()'",
		"create type mood as enum ('fine')",
		"create function spring(mood) returns json language sql as 'select to_json(eve.spring())'",
		"create cast (mood as json) with function spring(mood) as implicit",
		"create function equals(bigint, bigint) returns boolean language sql as 'select eve.spring() > 0'",
		"create operator > (leftarg = bigint, rightarg = bigint, function = equals)",
		"create operator = (leftarg = bigint, rightarg = bigint, function = equals)",
		"create function count() returns bigint language sql as 'select eve.spring()::bigint'",
		"create function format(text, text) returns text language sql as 'select eve.spring()::text'",
		"create function clock_timestamp() returns timestamptz language sql as 'select now() from eve.spring()'",
		"create table data as select 1::bigint as n, 'fine'::mood as mood",
		"create view innocent as select n, mood, spring() as m from data",
		"select tinydevcrm.create_matview('trap', 'select n, mood, m from innocent', 'rows_added')",
		"create unique index on trap (n)",
		"create index on trap (spring(m))",
		// Whoever plans a query on trap runs these.
		"create function planned(integer) returns integer language plpgsql immutable as $$ begin return eve.spring(); end $$",
		"create index on trap ((planned(1)))",
		"create index on trap (n) where planned(2) > 0",
		"create statistics stated on (planned(3)), n from trap",
	} {
		// Some cannot even be planted, which is as good.
		if _, err := eve.ExecContext(t.Context(), trap); err != nil {
			t.Logf("not planted: %v", err)
		}
	}
	dbtest.Exec(t, eve, "delete from caught")
	for _, searchPath := range []string{"public", "eve, pg_catalog"} {
		super.SetMaxOpenConns(1)
		dbtest.Exec(t, super, "set search_path = "+searchPath)
		for _, look := range []string{
			"select tinydevcrm.refresh_matview('eve.trap')",
			"select tinydevcrm.schedule_matview('eve.trap', '1 minute')",
			"do $$ declare id bigint; begin select max(schedules.id) into id from tinydevcrm.schedules; call tinydevcrm.refresh_scheduled(id); end $$",
			"select * from tinydevcrm.matview_status",
			"select tinydevcrm.allow_embedding('eve.trap', '{*}')",
			"select tinydevcrm._find_embed('eve.trap'), tinydevcrm._find_matview('{eve.trap}')",
			"do $$ declare read text; begin read := (tinydevcrm._rows_statement('eve.trap', true)).statement; execute read; read := (tinydevcrm._rows_statement('eve.trap')).statement; execute read; end $$",
			"select tinydevcrm.event_json(events) from tinydevcrm.matview_refresh_events as events",
			"select tinydevcrm.watch_matview('eve.trap', 'changed')",
			"select tinydevcrm.refresh_matview('eve.trap')",
			"call tinydevcrm.remove_expired()",
			"call tinydevcrm.settle_jobs()",
			"select * from tinydevcrm.check_installation()",
			"select tinydevcrm.unschedule_matview('eve.trap')",
		} {
			// To refuse is as good.
			if _, err := super.ExecContext(t.Context(), look); err != nil && db.Explain(err).Code != "42501" {
				t.Errorf("%s: %v", look, err)
			}
		}
	}
	if dbtest.Value[bool](t, super, "select rolsuper from pg_roles where rolname = 'eve'") {
		t.Error("eve has become a superuser")
	}
	if who := dbtest.Value[string](t, super, "select coalesce(string_agg(distinct who, ', '), '') from eve.caught where who <> 'eve'"); who != "" {
		t.Errorf("%s ran what eve planted", who)
	}

	// The trap is one.
	dbtest.Exec(t, super, "explain select from eve.trap")
	if !dbtest.Value[bool](t, super, "select rolsuper from pg_roles where rolname = 'eve'") {
		t.Error("the trap would have caught nobody")
	}
}

// Whoever reads a view of theirs is not led to what the owner of its schema puts in its place at that moment.
func TestNobodyIsLedElsewhere(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	mustCommand(t, server.URL, "migrate", "up")
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user('eve', 'secret word')")
	eve := open(t, server.URL, "eve")
	dbtest.Exec(t, eve, "create function spring() returns text language plpgsql immutable as $$ begin raise exception 'ran as %', current_user; end $$")

	for name, look := range map[string]string{
		"to read it":    "do $$ declare read text; begin read := (tinydevcrm._rows_statement({oid}::regclass)).statement; execute read; end $$",
		"to embed it":   "select tinydevcrm.allow_embedding({oid}::regclass, '{*}')",
		"to refresh it": "do $$ begin assert (tinydevcrm.refresh_matview({oid}::regclass)).row_count is null, 'refreshed'; raise 'not refreshed'; end $$",
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Exec(t, super, "select tinydevcrm.create_matview('bait', 'select 1 as n', schema_name => 'eve')")
			oid := dbtest.Value[string](t, super, "select 'eve.bait'::regclass::oid")
			swap, err := eve.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer swap.Rollback()
			for _, statement := range []string{
				"drop materialized view bait", "create materialized view bait as select 1 as n",
				"create function planned_" + oid + "(integer) returns text language plpgsql immutable as $$ begin if current_user <> 'eve' then perform spring(); end if; return ''; end $$",
				"create index on bait ((planned_" + oid + "(1)))",
			} {
				if _, err := swap.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}

			looked := make(chan error, 1)
			go func() {
				_, err := super.Exec(strings.ReplaceAll(look, "{oid}", oid))
				looked <- err
			}()
			dbtest.Eventually(t, dbtest.Deadline, "the look waits", func() bool {
				return dbtest.Value[bool](t, super, "select exists (select from pg_locks where not granted)")
			})
			if err := swap.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-looked; err == nil || strings.Contains(err.Error(), "ran as") {
				t.Errorf("the look gives %v", err)
			}
			dbtest.Exec(t, eve, "drop materialized view bait")
		})
	}
}
