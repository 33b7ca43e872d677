-- Tenants: what a user makes large, locks or writes affects that user alone. What needs two sessions is in
-- orchestrator/tenants_test.go.

begin;

select plan(74);

create role "Tap One" in role tinydevcrm_user;
create role "Tap Member" in role tinydevcrm_user, "Tap One";
create role "Tap Boss" in role tinydevcrm_admin;
create role "Tap Two" in role tinydevcrm_user;
create schema tap_one authorization "Tap One";
grant usage on schema tap_one to public;
set local search_path = tap_one, public;

create function pg_temp.jobs_of(role text)
    returns text[]
    language sql
    security definer
as $$
    select array_agg(command order by command)
      from cron.job
     where username = jobs_of.role
$$;

set local session authorization "Tap One";
create table numbers as select 1 as n;
select tinydevcrm.create_matview('v', 'select * from numbers', 'rows_added', key => '{n}');

-- code of an owner runs in their sessions

select is(tinydevcrm._is_session_of('"Tap One"'), true, 'a session belongs to the role that has logged in');
select is(tinydevcrm._is_session_of(null), false, 'a session does not belong to null');
select lives_ok(
    $$ select tinydevcrm._check_session_of('numbers') $$,
    'a session may read relations of the role that has logged in');

set local session authorization "Tap Member";
select is(tinydevcrm._is_session_of('"Tap One"'), false, 'a session of a member of the role does not count');
set local role "Tap One";
select is(tinydevcrm._is_session_of('"Tap One"'), false, '"set role" does not count');
select throws_ok(
    $$ select tinydevcrm._check_session_of('numbers') $$, '42501', null,
    'after "set role" the role''s relations are not read');
select throws_ok(
    $$ select tinydevcrm.create_matview('w', 'select 1 as n') $$, '42501', null,
    'after "set role" no view is created');
select is((tinydevcrm.refresh_matview('v')).id, null, 'after "set role" a refresh is requested');
reset role;

set local session authorization "Tap Two";
select throws_ok(
    $$ select tinydevcrm.refresh_matview('tap_one.v') $$, 'TD001', null,
    'another user cannot request a refresh');
set local session authorization "Tap Boss";
select is((tinydevcrm.refresh_matview('v')).id, null, 'an administrator can request a refresh');
select throws_ok(
    $$ select tinydevcrm.schedule_matview('v', '1 minute') $$, '42501', null,
    'an administrator cannot schedule the view');
reset session authorization;

select is((tinydevcrm.refresh_matview('v')).id, null, 'a superuser can request a refresh');
select is_empty(
    'select from tinydevcrm.matview_refresh_events where matview = ''tap_one.v''',
    'a request does not refresh at once');
select is(
    (select array_agg(requested_by::text) from tinydevcrm.refresh_requests), array['"Tap One"'],
    'several requests are one row');
select is(
    pg_temp.jobs_of('Tap One'), array['call tinydevcrm.refresh_requested()'],
    'the owner has a job for the request');
select is(
    (tinydevcrm.schedule_matview('v', '5 seconds')).schedule, '5 seconds',
    'a superuser can schedule the view');
select is(
    (tinydevcrm.allow_embedding('v', '{*}')).rows, '[]',
    'a superuser can make it public, without rows yet');
select throws_ok(
    format('call tinydevcrm.refresh_scheduled(%s)', id), '42501', null, 'a superuser cannot refresh by its schedule')
  from tinydevcrm.schedules;
select throws_ok(
    $$ select tinydevcrm._set_key('v', '{n}') $$, '42501', null,
    'a superuser creates no index on it');
select throws_ok(
    $$ select tinydevcrm._copy_rows(max(id)) from tinydevcrm.matviews $$, '42501', null,
    'a superuser copies no rows of it');
select throws_ok(
    $$ select tinydevcrm._refresh_matview(matviews) from tinydevcrm.matviews $$, '42501', null,
    'a superuser cannot refresh it by the internal function');
select is_empty(
    'select from tinydevcrm.matview_refresh_events where matview = ''tap_one.v''',
    'the superuser has refreshed nothing');

call tinydevcrm.settle_jobs();
select is(cardinality(pg_temp.jobs_of('Tap One')), 2, 'upkeep keeps the job while there is a request');

set local session authorization "Tap One";
select is(
    (tinydevcrm._find_requested_matview(0)).relation, 'v'::regclass, 'the job finds the requested view');
select tinydevcrm._refresh_matview(tinydevcrm._find_requested_matview(0), is_job => true);
select is((tinydevcrm._find_requested_matview(0)).relation, null, 'after the refresh the request is gone');
select is(
    (select rows from tinydevcrm.embeds), '[["1"]]',
    'the requested refresh copies the rows to the widget');
reset session authorization;
call tinydevcrm.settle_jobs();
select is(cardinality(pg_temp.jobs_of('Tap One')), 1, 'without a request upkeep removes the job');

-- seconds

set local session authorization "Tap One";
select tinydevcrm.create_matview('loop' || i, 'select 1 as n', 'never') from generate_series(1, 12) as i;
select tinydevcrm.schedule_matview(('loop' || i)::regclass, i || ' seconds') from generate_series(1, 12) as i;
select is(
    (select count(distinct job_id)::integer from tinydevcrm.schedules), case when tinydevcrm._cron_has_seconds() then 12 else 1 end,
    'without seconds in pg_cron one job serves twelve schedules');
select is(
    (select is_ok from tinydevcrm.check_installation() where finding like 'pg_cron can run all loops%'), true,
    'pg_cron can run these jobs at once');

-- bounds

create function pg_temp.grow(set_clause text, constraint_name text)
    returns text
    language sql
as $$
    select throws_ok(
        'update tinydevcrm.matviews set ' || set_clause, '23514',
        'new row for relation "matviews" violates check constraint "' || constraint_name || '"',
        'too much: ' || set_clause)
$$;

select pg_temp.grow($$ notify_interval = '11 years' $$, 'matviews_notify_interval_range');
select pg_temp.grow($$ ignored_columns = array_fill('x'::text, array[1601]) $$, 'matviews_ignored_columns_short');
select pg_temp.grow($$ key = array[repeat('x', 3000)] $$, 'matviews_key_short');
select pg_temp.grow($$ plain_reason = repeat('x', 10001) $$, 'matviews_plain_reason_short');
select pg_temp.grow($$ last_row_count = -1 $$, 'matviews_last_row_count_not_negative');
select throws_ok(
    $$ insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, row_count, rows, duration)
       select max(id), 'refreshed', false, 1, jsonb_build_array(repeat('x', 2097152)), '0 s'
         from tinydevcrm.matviews $$,
    '23514', null, 'an event has no more than two megabytes of rows');
select throws_ok(
    format(
        'insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, row_count, %s, duration) '
        'select max(id), ''refreshed'', false, 1, %s, ''0 s'' from tinydevcrm.matviews', columns, changes),
    code, null, 'an event has no such changes: ' || columns || ', ' || changes)
  from (
    values ('added_rows, removed_rows', $$ '["' || repeat('x', 524288) || '"]', '["' || repeat('x', 524288) || '"]' $$, '23514'),
           ('added_rows', $$ '{}' $$, '23514'),
           ('removed_rows', $$ e'[\n]' $$, '23514'),
           ('updated_rows', $$ '[{"key"' $$, '22P02')
  ) as attempts (columns, changes, code);
select throws_ok(
    'insert into tinydevcrm.matview_baselines (matview_id, bucket, hash_sum, hashes, other_hashes, copies, rows) '
    'select max(id), ' || bucket || ' from tinydevcrm.matviews',
    '23514', null, 'no bucket: ' || bucket)
  from unnest(array[
           $$ -1, 0, '{}', '{}', null, null $$, $$ 1048576, 0, '{}', '{}', null, null $$, $$ 0, 1e40, '{}', '{}', null, null $$,
           $$ 0, 0, '{1}', '{}', null, null $$, $$ 0, 0, '{1}', '{1}', '{0}', null $$, $$ 0, 0, '{1}', '{1}', null, '{}' $$,
           $$ 0, 0, array_fill(1::bigint, array[1000001]), array_fill(1::bigint, array[1000001]), null, null $$
       ]) as bucket;

create function pg_temp.bomb(columns integer, rows integer)
    returns text
    language sql
as $$
    select format(
               'insert into tinydevcrm.matview_refresh_events '
               '    (matview_id, outcome, is_notified, row_count, columns, rows, duration) '
               'select max(id), ''refreshed'', false, 1, array_fill(''a''::text, array[%s]), '
               '       (select jsonb_agg(1) from generate_series(1, %s)), ''0 s'' '
               '  from tinydevcrm.matviews',
               columns, rows)
$$;

select lives_ok(pg_temp.bomb(1600, 1000), 'an event has up to 1,600 columns and 1,000 rows');
select throws_ok(pg_temp.bomb(1601, 1), '23514', null, 'an event has no more than 1,600 columns');
select throws_ok(pg_temp.bomb(1, 1001), '23514', null, 'an event has no more than 1,000 rows');

create function pg_temp.ordered(columns text[], rows jsonb)
    returns text
    language sql
as $$
    select tinydevcrm._order_row_columns(
               jsonb_populate_record(
                   null::tinydevcrm.matview_refresh_events,
                   jsonb_build_object('columns', columns, 'rows', rows)))::text
$$;

select is(
    pg_temp.ordered('{b,a,NULL}', '[{"a": null, "b": 1, "c": 2}, {"b": 3}, {}, 4]'),
    '[{"b": 1, "a": null}, {"b": 3}, {}, {}]',
    'each row has its own keys in the order of the columns, and no others');
select is(pg_temp.ordered(null, '[{"a": 1}]'), '[{"a": 1}]', 'without columns the rows stay as they are');
select is(pg_temp.ordered('{}', '[{}]'), '[{}]', 'a view without columns has rows');

-- Far more than the checks let in: rows times columns would be 10^10.
set local statement_timeout = '20s';
select is(
    length(tinydevcrm._order_row_columns(
        jsonb_populate_record(
            null::tinydevcrm.matview_refresh_events,
            jsonb_build_object(
                'columns', array(select 'c' || i from generate_series(1, 100000) as i),
                'rows', (select jsonb_agg(jsonb_build_object('c1', 1)) from generate_series(1, 100000)))))::text),
    1100000, 'the order costs what the rows and the columns cost, not their product');
set local statement_timeout = 0;

create function loud() returns integer language plpgsql
as $$ begin raise exception '%', repeat('é', 1000000); end $$;
create materialized view loud_view as select loud() as n with no data;
select tinydevcrm.watch_matview('loud_view');
select is(
    (select array[outcome, octet_length(error_message)::text] from tinydevcrm.refresh_matview('loud_view')),
    array['failed', '5000'], 'a long error message is cut');

-- groups own nothing: every user has the rights of tinydevcrm_user

create materialized view shared as select 1 as n;
select tinydevcrm.create_matview('becomes_shared', 'select 1 as n');
select tinydevcrm.schedule_matview('becomes_shared', '1 minute');
grant create on schema tap_one to tinydevcrm_user;
alter materialized view shared owner to tinydevcrm_user;
set local client_min_messages = error;
alter materialized view becomes_shared owner to tinydevcrm_user;
set local client_min_messages = notice;
select throws_ok(
    $$ select tinydevcrm.watch_matview('shared') $$, 'TD007',
    'materialized view tap_one.shared belongs to the group tinydevcrm_user', 'a view of the group is not watched');
reset session authorization;
select is_empty(
    $$ select from tinydevcrm.matviews where relation in ('shared'::regclass, 'becomes_shared'::regclass) $$,
    'a view that is given to the group is no longer watched');
select is(
    (select array[outcome, reason] from tinydevcrm.matview_refresh_events order by id desc limit 1),
    array['dropped', 'it belongs to the group tinydevcrm_user now'], 'which is an event');
-- As a registration that is older than this rule.
set local session_replication_role = replica;
insert into tinydevcrm.matviews (owner, relation)
values ('tinydevcrm_user'::regrole, 'shared'::regclass);
set local session_replication_role = origin;
set local session authorization "Tap Two";
select throws_ok(
    $$ insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, row_count, duration)
       select id, 'refreshed', true, 1, '0 s' from tinydevcrm.matviews where owner = 'tinydevcrm_user'::regrole $$,
    '42501', null, 'no event can be forged for a view of the group');
set local role tinydevcrm_user;
select throws_ok(
    $$ select tinydevcrm.create_subscription('of all') $$, '42501', null, 'the group has no subscriptions');
select throws_ok(
    $$ select tinydevcrm.create_webhook('of all', 'https://example.com/') $$, '42501', null,
    'the group has no webhooks');
select throws_ok(
    $$ insert into tinydevcrm.imports (source, mode, schema_name, table_name) values ('f', 'create', 's', 't') $$,
    '42501', null, 'the group has no imports');
reset session authorization;
select is_empty(
    $$ select from tinydevcrm.subscriptions where tinydevcrm._is_group(owner) $$, 'nothing of the group is left');
select is(
    array(select rolname::text from pg_roles where tinydevcrm._is_group(oid) order by 1),
    array['tinydevcrm_admin', 'tinydevcrm_orchestrator', 'tinydevcrm_user'], 'the groups are these');
delete from tinydevcrm.matviews where owner = 'tinydevcrm_user'::regrole;

-- the number of schedules

update tinydevcrm.settings
   set user_schedules = (select count(*) from tinydevcrm.schedules where owner = '"Tap One"'::regrole and not is_slow);
set local session authorization "Tap One";
select throws_ok(
    $$ select tinydevcrm.schedule_matview('loop1', '0 0 1 1 *') $$, 'TD007', '"Tap One" already has 12 different schedules',
    'another schedule is refused once the owner has settings.user_schedules');
select lives_ok(
    $$ select tinydevcrm.schedule_matview('loop1', '2 seconds') $$,
    'another view on a schedule that is in use is not');
select lives_ok(
    $$ update tinydevcrm.matviews set is_slow = true where relation = 'loop1'::regclass $$,
    'a view can become slow all the same');

-- schedules that cannot be parsed, or would take for ever

select throws_ok(
    $$ select tinydevcrm.schedule_matview('v', 'mon * * * *') $$, 'TD003', null,
    'a word in the wrong field is refused');
select throws_ok(
    format($$ select tinydevcrm.schedule_matview('v', '%s * * * *') $$, '0' || repeat(',0', 20000)), 'TD003', null,
    'a schedule of 40 kB is refused');
select is(
    tinydevcrm._compute_next_cron_time(tinydevcrm._cron_fields('mon * * * *'), now()::timestamp), null,
    'the internal function returns null for it');
select is(tinydevcrm._compute_next_due(null, '* * * * *', 'Europe/Berlin', 'infinity'), null, 'nothing is due after infinity');
select is(tinydevcrm._compute_next_due(0, null, null, now()), null, '0 seconds are never due');
select throws_ok('call tinydevcrm.refresh_scheduled(0)', 'TD001', null, 'there is no schedule 0');
select throws_ok('call tinydevcrm.refresh_scheduled(null)', 'TD001', null, 'there is no schedule null');
reset session authorization;
select throws_ok('call tinydevcrm.remove_expired(0)', 'TD007', null, 'a batch size of 0 is refused');

select * from finish();

rollback;
