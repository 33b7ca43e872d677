package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// doings are what sessions with more rights than a user do with that user's relations. Some are refused; none
// runs what the owner has planted.
var doings = []string{
	"select from tinydevcrm.refresh_matview('eve.{view}')",
	"select from tinydevcrm.schedule_matview('eve.{view}', '1 minute')",
	"select from tinydevcrm.schedule_matview('eve.{view}', 'on change')",
	"do $$ declare id bigint; begin for id in select schedules.id from tinydevcrm.schedules loop call tinydevcrm.refresh_scheduled(id); end loop; end $$",
	"select from tinydevcrm.watch_matview('eve.{view}', 'changed')",
	"select from tinydevcrm.alter_matview_query('eve.{view}', 'select n from eve.{table}')",
	"select tinydevcrm.describe_matview('eve.{view}')",
	"select from tinydevcrm.allow_embedding('eve.{view}', '{*}')",
	"select from tinydevcrm.refresh_matview('eve.{view}')",
	"select tinydevcrm._find_embed('eve.{view}'), tinydevcrm._find_matview('{eve.{view}}')",
	"do $$ declare read text; begin read := (tinydevcrm._build_rows_statement('eve.{view}', true)).statement; execute read; end $$",
	"do $$ declare read text; begin read := (tinydevcrm._build_rows_statement('eve.{table}')).statement; execute read; end $$",
	"select tinydevcrm.forbid_embedding('eve.{view}')",
	"select tinydevcrm.pause_matview('eve.{view}')",
	"select tinydevcrm.resume_matview('eve.{view}')",
	"select tinydevcrm.unschedule_matview('eve.{view}')",
	"select tinydevcrm.create_subscription('of {view}', 'eve.{view}')",
	"select from tinydevcrm.receive_events('of {view}')",
	"select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'replace', table_name => '{table}', schema_name => 'eve')",
	"select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'append', table_name => '{table}', schema_name => 'eve')",
	"select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'upsert', key => '{n}', table_name => '{table}', schema_name => 'eve')",
	"create temporary table mine as select '5'::text as n; select tinydevcrm.import_staging('mine', '{table}', 'append', schema_name => 'eve')",
	"create temporary table mine as select '5'::text as n; select tinydevcrm.import_staging('mine', '{table}', 'replace', schema_name => 'eve')",
	"create temporary table mine as select '5'::text as n; select tinydevcrm.import_staging('mine', '{table}', 'upsert', '{n}', schema_name => 'eve')",
	"select tinydevcrm.import_staging('eve.{table}', 'taken', schema_name => 'public')",
	"select tinydevcrm.import_staging('eve.{view}', 'taken', schema_name => 'public')",
	"select tinydevcrm.drop_matview('eve.{view}')",
}

// upkeeps are doings that concern no single relation.
var upkeeps = []string{
	"call tinydevcrm.remove_expired()",
	"call tinydevcrm.settle_jobs()",
	"call tinydevcrm.refresh_changed()",
	"select tinydevcrm._wake_change_jobs(null)",
	"call tinydevcrm.refresh_changed(is_job => true)",
	"select * from tinydevcrm.check_installation()",
	"select * from tinydevcrm.matview_status",
	"select * from tinydevcrm.subscription_status",
	"select * from tinydevcrm.overview",
	"select * from tinydevcrm.job_runs",
	"select tinydevcrm.event_json(events) from tinydevcrm.matview_refresh_events as events",
	"select tinydevcrm.list_distributions()",
	"select tinydevcrm._settle_owners()",
	"alter table eve.t0 rename to t0_renamed; select * from tinydevcrm.matview_status; alter table eve.t0_renamed rename to t0",
	"alter materialized view eve.v0 owner to adele; alter materialized view eve.v0 owner to eve",
	"select tinydevcrm.drop_user('eve', 'adele')",
}

// What a user has planted runs only in the user's own sessions, whatever others do.
func TestTrapsCatchNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t, "eve", "bob", "mate", "adele")
	// Sampling by Postgres itself does not run in a user's session.
	dbtest.Exec(t, s.super, "alter system set autovacuum = off")
	dbtest.Exec(t, s.super, "select pg_reload_conf()")
	dbtest.Exec(t, s.super, "grant tinydevcrm_admin to adele")
	dbtest.Exec(t, s.super, "grant eve to mate")
	field := layTraps(t, s.server, s.super)

	sessions := map[string]*sql.DB{"postgres": openPool(t, s.server.URL), "postgres as eve": openPool(t, s.server.URL)}
	dbtest.Exec(t, sessions["postgres as eve"], "set role eve")
	for _, role := range []string{"adele", "runner", "bob", "mate"} {
		sessions[role] = open(t, s.server.URL, role)
	}
	for who, session := range sessions {
		for _, searchPath := range []string{"public", "eve, pg_catalog"} {
			session.SetMaxOpenConns(1)
			dbtest.Exec(t, session, "select pg_catalog.set_config('search_path', $1, false)", searchPath)
			for _, number := range field.set {
				field.doAll(who, session, placeOf(number))
			}
			for _, statement := range upkeeps {
				field.do(who, session, statement)
			}
		}
		dbtest.Exec(t, session, "select pg_catalog.set_config('search_path', 'public', false)")
	}
	field.callEach(sessions)
	field.askPages(s)
	field.runProgram()
	field.isArmed()
}

// do runs a statement and rolls it back. The statement itself is allowed to succeed.
func (f *minefield) do(who string, session *sql.DB, statement string) {
	f.t.Helper()
	var err error
	if strings.HasPrefix(statement, "call ") {
		_, err = session.ExecContext(f.t.Context(), statement)
	} else {
		_, err = inVain(session, statement)
	}
	var refused *pq.Error
	if errors.As(err, &refused) && (refused.Code.Class() == "XX" || refused.Code == "42601" || refused.Code == "42883") {
		f.t.Errorf("%s: %s: %v", who, statement, err)
	}
	f.caught(who + ": " + statement)
}

// doAll does, in one transaction, everything that can be done with a table and its view.
func (f *minefield) doAll(who string, session *sql.DB, place *strings.Replacer) {
	f.t.Helper()
	for _, statement := range doings {
		f.do(who, session, place.Replace(statement))
	}
}

// callEach calls every function of ours that takes a relation or a registration, including those not meant for
// it, with non-null arguments. It finds new functions by itself.
func (f *minefield) callEach(sessions map[string]*sql.DB) {
	f.t.Helper()
	calls := dbtest.Column[string](f.t, f.super, `
		select format(
		           'select * from (select matviews as registration, matviews.id from tinydevcrm.matviews where relation = ''eve.{view}''::regclass) as of, %s(%s)',
		           pg_proc.oid::regproc,
		           (
		               select string_agg(
		                          case type
		                              when 'regclass'::regtype then '''eve.{relation}'''
		                              when 'tinydevcrm.matviews'::regtype then 'of.registration'
		                              when 'bigint'::regtype then 'of.id'
		                              when 'boolean'::regtype then 'true'
		                              when 'text'::regtype then '''n'''
		                              when 'name'::regtype then '''eve'''
		                              when 'text[]'::regtype then '''{n}'''
		                              when 'jsonb'::regtype then '''{}'''
		                              when 'timestamptz'::regtype then 'pg_catalog.now()'
		                              when 'integer'::regtype then '10'
		                              else 'null'
		                          end || '::' || format_type(type, null), ', ' order by place)
		                 from unnest(pg_proc.proargtypes) with ordinality as argument (type, place)
		           ))
		  from pg_proc
		 where pronamespace = 'tinydevcrm'::regnamespace
		   and prokind = 'f'
		   and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
		   and proargtypes::oid[] && array['regclass'::regtype, 'regclass[]'::regtype, 'tinydevcrm.matviews'::regtype]::oid[]`)
	if len(calls) < 20 {
		f.t.Fatalf("%d functions take a relation", len(calls))
	}
	for who, session := range sessions {
		for _, number := range f.set {
			for _, call := range calls {
				for _, relation := range []string{"{table}", "{view}"} {
					statement := placeOf(number).Replace(strings.ReplaceAll(call, "{relation}", relation))
					// Refused or not: only what runs matters.
					_, _ = inVain(session, statement)
					f.caught(who + ": " + statement)
				}
			}
		}
	}
}

// askPages requests every page and route about eve's relations: from one without users, as a superuser and as
// the orchestrator's own role, and from one with users, as an administrator, another user, and a member of eve.
func (f *minefield) askPages(withUsers *site) {
	f.t.Helper()
	for _, role := range []string{"postgres", "runner"} {
		url := dbtest.AsRole(f.server.URL, role)
		_, stderr, end := begin(f.t, url, "up", "--listen-addr", "localhost:0")
		page := &site{t: f.t, url: pageOf(f.t, stderr), super: f.super}
		f.ask(page, "the page of "+role, "")
		for path, status := range map[string]int{
			"/": 200, "/tables/eve.t0": 404, "/views/eve.v0": 404, "/views": 200, "/tables": 200, "/matviews": 200, "/events": 200, "/subscriptions": 200,
		} {
			got, body := page.sees("", path)
			if got != status || strings.Contains(body, "t1") || strings.Contains(body, "v1") {
				f.t.Errorf("the page of %s: %s: %d, want %d and nothing of eve's: %s", role, path, got, status, body)
			}
		}
		for _, path := range []string{"/matviews/eve.v0.json", "/matviews/eve.v0.csv", "/views/eve.v0.csv"} {
			got, body := page.get("", path)
			if got != http.StatusForbidden || !strings.Contains(body, "Log in as its owner") {
				f.t.Errorf("the page of %s: %s: %d: %s", role, path, got, body)
			}
		}
		end()
	}
	for _, user := range []string{"adele", "bob", "mate"} {
		f.ask(withUsers, "the page with users", user)
	}
	// A user who may request a refresh is not informed that one was done.
	if status, body := withUsers.post("mate", "/matviews/refresh", "relation", "eve.v0"); status != http.StatusOK || !strings.Contains(body, `"is_requested":true`) {
		f.t.Errorf("mate asks for a refresh: %d %s", status, body)
	}
	if _, body := withUsers.sees("mate", "/views/eve.v0"); !strings.Contains(body, "It belongs to eve.") || strings.Contains(body, `action="/matviews/drop`) {
		f.t.Errorf("mate sees eve's view: %s", body)
	}
	if stdout := mustCommand(f.t, f.server.URL, "matview", "refresh", "eve.v0"); !strings.Contains(stdout, "belongs to another role, whose job refreshes it") {
		f.t.Errorf("a superuser asks for a refresh: %s", stdout)
	}
}

func (f *minefield) ask(page *site, name, user string) {
	f.t.Helper()
	check := func(what string, status int, body string) {
		f.t.Helper()
		if status >= 500 {
			f.t.Errorf("%s %s: %s: %d %s", name, user, what, status, body)
		}
		f.caught(name + " " + user + ": " + what)
	}
	for _, path := range []string{"/", "/matviews", "/subscriptions", "/events", "/views", "/tables", "/metrics", "/readyz"} {
		status, body := page.sees(user, path)
		check(path, status, body)
	}
	for _, number := range f.set {
		place := placeOf(number)
		for _, path := range []string{
			"/tables/eve.{table}", "/tables/eve.{table}/columns", "/views/eve.{view}", "/views/eve.{view}/edit", "/?search={view}", "/events?of=eve.{view}",
			"/matviews/eve.{view}", "/matviews/eve.{view}.csv", "/matviews/eve.{view}.html", "/embed/eve.{view}",
		} {
			status, body := page.sees(user, place.Replace(path))
			check(path, status, body)
		}
		for _, post := range [][]string{
			{"schedule", "schedule", "1 hour"}, {"refresh"}, {"embed", "origins", "*"}, {"watch", "notify_when", "changed"},
			{"pause"}, {"resume"}, {"unschedule"}, {"unembed"},
		} {
			status, body := page.post(user, "/matviews/"+post[0], append([]string{"relation", place.Replace("eve.{view}")}, post[1:]...)...)
			check(post[0], status, body)
		}
		for _, query := range []string{"", "&dry_run=1"} {
			for _, mode := range []string{"append", "replace", "upsert&key=n"} {
				status, body := page.upload(user, place.Replace("?schema=eve&table={table}&mode="+mode+query), "n\n9\n")
				check("upload by "+mode+query, status, body)
			}
		}
	}
}

// runProgram runs a superuser's commands on eve's relations.
func (f *minefield) runProgram() {
	f.t.Helper()
	for _, number := range f.set {
		for _, line := range []string{
			"status", "matview list", "matview refresh eve.{view}", "matview watch eve.{view} --notify-when always",
			"matview schedule eve.{view} 1h", "matview embed eve.{view} --origin *", "matview unschedule eve.{view}", "matview unembed eve.{view}",
			"upload --schema eve --table {table} --mode append " + dbtest.Sample(f.t),
		} {
			args := strings.Fields(placeOf(number).Replace(line))
			// Refused or not: only what runs matters.
			_, _, _ = command(f.t, f.server.URL, "", args...)
			f.caught(fmt.Sprint("orchestrator ", args))
		}
	}
}

// pageOf is the address of a page once it serves.
func pageOf(t *testing.T, stderr *output) string {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "it is ready", func() bool { return strings.Contains(stderr.String(), `"page":"`) })
	_, page, _ := strings.Cut(stderr.String(), `"page":"`)
	page, _, _ = strings.Cut(page, `"`)
	return strings.TrimSuffix(page, "/")
}

// A user reads a view of their own in another user's schema. The other user cannot make them read something
// else by replacing the view at that moment.
func TestNobodyIsLedElsewhere(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['eve', 'bob']) as name")
	eve, bob := open(t, server.URL, "eve"), open(t, server.URL, "bob")
	dbtest.Exec(t, eve, "create function spring() returns text language plpgsql immutable as $$ begin raise exception 'ran as %', current_user; end $$")
	dbtest.Exec(t, eve, "grant usage, create on schema eve to bob")

	for name, look := range map[string]string{
		"to read it":    "do $$ declare read text; begin read := (tinydevcrm._build_rows_statement({oid}::regclass)).statement; execute read; end $$",
		"to embed it":   "select tinydevcrm.allow_embedding({oid}::regclass, '{*}')",
		"to refresh it": "select tinydevcrm.refresh_matview({oid}::regclass)",
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Exec(t, bob, "select tinydevcrm.create_matview('bait', 'select 1 as n', 'changed', schema_name => 'eve')")
			oid := dbtest.Value[string](t, bob, "select 'eve.bait'::regclass::oid")
			swap, err := eve.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer swap.Rollback()
			// The owner of a schema may drop what is in it.
			for _, statement := range []string{
				"drop materialized view bait", "create view bait as select spring() as n", "grant select on bait to public",
			} {
				if _, err := swap.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}

			looked := make(chan error, 1)
			go func() {
				_, err := bob.ExecContext(context.WithoutCancel(t.Context()), strings.ReplaceAll(look, "{oid}", oid))
				looked <- err
			}()
			dbtest.Eventually(t, dbtest.Deadline, "the look waits", func() bool {
				return dbtest.Value[bool](t, super, "select exists (select from pg_locks where not granted)")
			})
			if err := swap.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-looked; err != nil && strings.Contains(err.Error(), "ran as") {
				t.Errorf("the look gives %v", err)
			}
			dbtest.Exec(t, eve, "drop view bait")
		})
	}
}
