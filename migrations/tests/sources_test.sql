-- Sources: what may be one, when it is due, who takes its runs, and what a run may end with.

begin;

select plan(74);

update tinydevcrm.settings set webhook_networks = '{}';
create role "Tap Ann" in role tinydevcrm_user;
create role "Tap Eve" in role tinydevcrm_user;
create role "Tap Runner" in role tinydevcrm_orchestrator;
create schema tap_ann authorization "Tap Ann";
create schema tap_eve authorization "Tap Eve";

set local session authorization "Tap Ann";
set local search_path = tap_ann, public;

-- what may be a source

select throws_ok(
    format('select tinydevcrm.create_source(%L, %L, schedule => %L)', 'x', url, 'hourly'), 'TD007', null,
    'no source: ' || url)
  from unnest(array[
           'file:///etc/passwd', 'ftp://example.com/a.csv', 'http://127.0.0.1/', 'http://10.0.0.1/a.csv',
           'http://169.254.169.254/latest/meta-data', 'http://[::1]/', 'https://user:word@example.com/',
           'file:orders-*.csv', 'file:../orders.csv', 'https://exa mple.com/', 'gopher://example.com'
       ]) as url;
select throws_ok(
    $$ select tinydevcrm.create_source('x', 'file:orders.csv') $$, 'TD007',
    'source ''x'' cannot be fetched: files in the inbox are for the role of the orchestrator alone',
    'the inbox is not for users');
select throws_ok(
    $$ select tinydevcrm.create_source('x', 'https://example.com/', headers => '{"Host": "inside"}') $$, 'TD007',
    'source ''x'' cannot be fetched: the header Host is set by the orchestrator', 'not every header may be set');
select throws_ok(
    format('select tinydevcrm.create_source(%L, %L, %s)', 'x', 'https://example.com/', arguments), code, null, what)
  from (
    values ('mode => ''create''', 'TD007', 'mode create takes one file only'),
           ('mode => ''no''', 'TD007', 'there is no such mode'),
           ('mode => ''upsert''', 'TD007', 'mode upsert needs a key'),
           ('key => ''{id}''', 'TD007', 'mode replace takes no key'),
           ('options => ''{"new_columns": "perhaps"}''', 'TD007', 'an option has a choice'),
           ('options => ''{"mode": "append"}''', 'TD007', 'the mode is no option'),
           ('options => ''{"type": "id=text"}''', 'TD007', 'types are an object'),
           ('schedule => ''now and then''', 'TD003', 'a schedule is one'),
           ('schedule => ''on change''', 'TD003', 'a schedule is by the clock'),
           ('schedule => ''5 seconds''', 'TD003', 'a source is fetched once a minute at most'),
           ('refuse_if_fewer => 50', 'TD007', 'a share is up to 1'),
           ('schema_name => ''tinydevcrm''', 'TD007', 'our schema is not for tables of users')
  ) as bad (arguments, code, what);

-- creation

select lives_ok(
    $$ select tinydevcrm.create_source('orders', 'https://example.com/orders.csv?token=abc', schedule => 'daily at 6:00',
                                       refuse_if_fewer => 0.5, headers => '{"Authorization": "Bearer s3cret"}') $$,
    'a source is created');
select throws_ok(
    $$ select tinydevcrm.create_source('orders', 'https://example.com/') $$, 'TD004', null, 'its name is taken');
select results_eq(
    $$ select format('%s %s', schema_name, table_name) collate "default", mode, next_due_at > now() from tinydevcrm.sources $$,
    $$ values ('tap_ann orders', 'replace', true) $$, 'the table has its name, and it is due by its schedule');
select is((select count(*) from tinydevcrm.source_runs), 1::bigint, 'it is fetched at once');
select lives_ok($$ select tinydevcrm.run_source('orders') $$, 'it can be asked for again');
select is((select count(*) from tinydevcrm.source_runs), 1::bigint, 'the run that is open goes on instead');
select throws_ok(
    $$ select tinydevcrm.alter_source('orders', refuse_if_fewer => 2) $$, 'TD007', '''orders'' cannot be a source',
    'a change is refused without showing the row');
select throws_ok(
    $$ select tinydevcrm.alter_source('orders', 'https://example.com/' || repeat('a', 2000)) $$, 'TD007', null,
    'a URL has a length');
select lives_ok($$ select tinydevcrm.pause_source('orders') $$, 'it can be paused');
select ok((select next_due_at is null from tinydevcrm.sources), 'it is not due then');
select lives_ok($$ select tinydevcrm.resume_source('orders') $$, 'it can be resumed');
select ok((select next_due_at > now() from tinydevcrm.sources), 'it is due again');

-- others

set local session authorization "Tap Eve";
set local search_path = tap_eve, public;
select is_empty($$ select from tinydevcrm.sources union all select from tinydevcrm.source_runs $$, 'others do not see it');
select throws_ok($$ select tinydevcrm.run_source('orders') $$, 'TD001', null, 'others cannot have it fetched');
reset session authorization;
create table public.tap_facts as select id as source_id from tinydevcrm.sources;
grant select on public.tap_facts to public;
set local session authorization "Tap Eve";
select throws_ok(
    $$ insert into tinydevcrm.source_runs (source_id) select source_id from public.tap_facts $$, '42501', null,
    'nor by its number');
select is_empty(
    $$ select described.id from tinydevcrm._take_run() as taken cross join lateral tinydevcrm._describe_run(taken) as described $$,
    'nobody takes the runs of others');

-- an orchestrator

set local session authorization "Tap Runner";
create temporary table taken as
select described.* from tinydevcrm._take_run() as taken cross join lateral tinydevcrm._describe_run(taken) as described;
select results_eq(
    $$ select source, attempt, headers, is_own, options from taken $$,
    $$ values ('orders', 1, '{"Authorization": "Bearer s3cret"}'::jsonb, false, '{"type": {"*": "text"}}'::jsonb) $$,
    'an orchestrator takes it, to stage it');
select is_empty(
    $$ select described.id from tinydevcrm._take_run() as taken cross join lateral tinydevcrm._describe_run(taken) as described $$,
    'nobody takes it meanwhile');
reset session authorization;
update tinydevcrm.source_runs set hidden_for = '0', status = 'due';
set local session authorization "Tap Runner";
select ok(
    (tinydevcrm._take_run('1 minute', array['"Tap Ann"'::regrole::oid::bigint])).id is null,
    'nor one of an owner of whom it fetches another, whatever the run says');
reset session authorization;
update tinydevcrm.source_runs set hidden_for = '1 minute', status = 'fetching';
set local session authorization "Tap Runner";
select is(
    tinydevcrm._fail_run((select id from taken), 1, null, '500 Internal Server Error', false, '1 minute'), false,
    'it is repeated');
select ok(
    (select status = 'waiting' and visible_at > clock_timestamp() + interval '50 seconds' from tinydevcrm.source_runs),
    'not before the server wants it');
select throws_ok(
    format('select tinydevcrm._note_unchanged(%s, 1)', (select id from taken)), 'TD001', null, 'an answer comes once');
select throws_ok(
    $$ update tinydevcrm.sources set url = 'https://evil.example/' $$, '42501', null, 'an orchestrator changes no source');

-- drops

set local session authorization "Tap Ann";
select lives_ok($$ select tinydevcrm.drop_source('orders') $$, 'it can be dropped');
select is_empty($$ select from tinydevcrm.sources union all select from tinydevcrm.source_runs $$, 'with its runs');

-- what is allowed meanwhile

reset session authorization;
update tinydevcrm.settings set webhook_networks = '{10.0.0.0/8}';
set local session authorization "Tap Ann";
select tinydevcrm.create_source('inside', 'http://10.0.0.1/a.csv');
reset session authorization;
update tinydevcrm.settings set webhook_networks = '{}';
set local session authorization "Tap Ann";
select lives_ok($$ select tinydevcrm.pause_source('inside') $$, 'a source whose URL would be refused by now can be paused');
select throws_ok(
    $$ select tinydevcrm.alter_source('inside', 'http://10.0.0.2/a.csv') $$, 'TD007', null, 'but not moved within the network');
select tinydevcrm.drop_source('inside');

-- limits

reset session authorization;
alter table tinydevcrm.sources disable trigger _100_fill_in;
insert into tinydevcrm.sources (owner, name, url, schema_name, table_name)
select '"Tap Ann"'::regrole, 'many ' || number, 'https://example.com/', 'tap_ann', 't' from generate_series(1, 1000) as number;
alter table tinydevcrm.sources enable trigger _100_fill_in;
set local session authorization "Tap Ann";
select throws_ok(
    $$ select tinydevcrm.create_source('one more', 'https://example.com/') $$, 'TD007', 'you have 1000 sources, which is the most',
    'an owner has up to a thousand');
set local session authorization "Tap Eve";
select lives_ok($$ select tinydevcrm.create_source('first', 'https://example.com/') $$, 'which is nobody else''s limit');
select tinydevcrm.drop_source('first');
reset session authorization;
delete from tinydevcrm.sources where name like 'many %';
set local session authorization "Tap Ann";
-- changes

select tinydevcrm.create_source('changed', 'https://example.com/a.csv', mode => 'upsert', key => '{id}', refuse_if_fewer => 0.5);
select tinydevcrm.alter_source('changed', accepts_empty => true, refuse_if_fewer => 0);
select results_eq(
    $$ select mode, key, accepts_empty, refuse_if_fewer from tinydevcrm.sources $$,
    $$ values ('upsert', '{id}'::text[], true, 0::numeric) $$, 'what a change does not name stays');
select tinydevcrm.alter_source('changed', mode => 'append');
select is((select key from tinydevcrm.sources), null, 'mode append has no key');
select throws_ok($$ select tinydevcrm.alter_source('changed', mode => 'upsert') $$, 'TD007', null, 'mode upsert needs one again');
select tinydevcrm.drop_source('changed');

-- events and states

select tinydevcrm.create_source('late', 'https://example.com/late.csv', notify_deadline => '1 hour');
select tinydevcrm.create_subscription('all');
select is((select status from tinydevcrm.source_status), 'ok', 'a new source is ok');
reset session authorization;
create temporary table run as select id from tinydevcrm.source_runs;
grant select on run to public;
-- As the trigger would find it later.
alter table tinydevcrm.source_runs disable trigger _100_fill_in;
update tinydevcrm.source_runs set visible_at = now() - interval '6 minutes';
alter table tinydevcrm.source_runs enable trigger _100_fill_in;
select is((select status from tinydevcrm.source_status where name = 'late'), 'late', 'nothing has fetched it in time');
select is(
    (select is_ok from tinydevcrm.check_installation() where finding = 'sources are fetched and imported'), false,
    'the installation is checked for that');
select is(
    (select value from tinydevcrm._source_metrics() where labels = '{late}'), 1::double precision, 'and the metrics count it');

create procedure pg_temp.fail_run()
    language plpgsql
as $$
begin
    perform tinydevcrm._fail_run((run).id, (run).attempts, null, '404 Not Found', true)
       from tinydevcrm._take_run() as run;
end
$$;
call pg_temp.fail_run();
select results_eq(
    $$ select format('%s', matview), outcome, error_code, error_message, is_notified from tinydevcrm.matview_refresh_events where matview = 'source late' $$,
    $$ values ('source late', 'failed', 'TD013', '404 Not Found', true) $$, 'the first failure is an event');
set local session authorization "Tap Ann";
select is((select status from tinydevcrm.source_status), 'failing', 'the source is failing');
select is(
    (select (event).error_message from tinydevcrm.receive_events('all')), '404 Not Found', 'subscriptions to all views get it');
select tinydevcrm.run_source('late');
reset session authorization;
call pg_temp.fail_run();
select is(
    (select count(*) from tinydevcrm.matview_refresh_events where matview = 'source late'), 1::bigint, 'further failures are none');
set local session authorization "Tap Ann";
select tinydevcrm.run_source('late');
reset session authorization;
select lives_ok(
    $$ select tinydevcrm._note_unchanged((run).id, (run).attempts) from tinydevcrm._take_run() as run $$, 'nothing new is no failure');
select results_eq(
    $$ select outcome, row_count from tinydevcrm.matview_refresh_events where matview = 'source late' order by id desc limit 1 $$,
    $$ values ('recovered', 0::bigint) $$, 'the recovery is an event');
select results_eq(
    $$ select title, summary, severity from tinydevcrm.matview_refresh_events as events
        cross join lateral tinydevcrm._describe_event(events) where matview = 'source late' order by id $$,
    $$ values ('source late: import failed', '404 Not Found', 'failure'),
              ('source late: imported again', 'The import succeeds again, and the file has no rows.', 'recovery') $$,
    'both say so in words');
select is(
    (select string_agg(body::jsonb ->> 'type', ',') from tinydevcrm.matview_refresh_events as events
      cross join lateral tinydevcrm._build_webhook_body(events) as body (body) where matview = 'source late'), 'source.failed,source.recovered',
    'and programs see that it is a source');
select is(
    (select string_agg(distinct described.path, ',') from tinydevcrm.matview_refresh_events as events
      cross join lateral tinydevcrm._describe_event(events) as described where matview = 'source late'), '/sources/late',
    'a notification leads to the page of the source');

update tinydevcrm.sources set created_at = now() - interval '61 minutes';
select tinydevcrm._note_silent_sources();
select tinydevcrm._note_silent_sources();
select is(
    (select count(*) from tinydevcrm.matview_refresh_events where outcome = 'silent' and reason like 'nothing new has come since %'),
    1::bigint, 'when nothing new has come within its deadline, that is one event');
select is((select status from tinydevcrm.source_status where name = 'late'), 'silent', 'the source is silent');
set local session authorization "Tap Ann";
select throws_ok(
    $$ insert into tinydevcrm.matview_refresh_events (source_id, outcome, is_notified, duration) values (1, 'silent', true, '0') $$,
    '42501', null, 'nobody writes events of sources');
select tinydevcrm.alter_source('late', notify_deadline => '2 days');
select results_eq(
    $$ select status, (select count(*) from tinydevcrm.matview_refresh_events where outcome = 'resumed') from tinydevcrm.source_status $$,
    $$ values ('ok', 0::bigint) $$, 'another deadline ends that, without an event');

select * from finish();

rollback;
