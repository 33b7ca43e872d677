-- Tenants stay in their rooms: what they make large, lock or write is theirs alone. What takes two sessions is in
-- orchestrator/tenants_test.go.

begin;

select plan(46);

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

select is(tinydevcrm._is_session_of('"Tap One"'), true, 'a session is of the role that has logged in');
select is(tinydevcrm._is_session_of(null), false, 'and of nobody else');
select lives_ok($$ select tinydevcrm._check_session_of('numbers') $$, 'whose relations it reads');

set local session authorization "Tap Member";
select is(tinydevcrm._is_session_of('"Tap One"'), false, 'membership is not enough');
set local role "Tap One";
select is(tinydevcrm._is_session_of('"Tap One"'), false, 'nor is "set role"');
select throws_ok($$ select tinydevcrm._check_session_of('numbers') $$, '42501', null, 'so it does not read them');
select throws_ok(
    $$ select tinydevcrm.create_matview('w', 'select 1 as n') $$, '42501', null, 'and makes none');
select is((tinydevcrm.refresh_matview('v')).id, null, 'but asks for a refresh');
reset role;

set local session authorization "Tap Two";
select throws_ok($$ select tinydevcrm.refresh_matview('tap_one.v') $$, 'TD001', null, 'which another cannot');
set local session authorization "Tap Boss";
select is((tinydevcrm.refresh_matview('v')).id, null, 'and an administrator can');
select throws_ok(
    $$ select tinydevcrm.schedule_matview('v', '1 minute') $$, '42501', null, 'who changes nothing else of it');
reset session authorization;

select is((tinydevcrm.refresh_matview('v')).id, null, 'as a superuser can');
select is_empty('select from tinydevcrm.matview_refresh_events where matview = ''tap_one.v''', 'nothing is refreshed yet');
select is(
    (select array_agg(requested_by::text) from tinydevcrm.refresh_requests), array['"Tap One"'],
    'one request is enough');
select is(
    pg_temp.jobs_of('Tap One'), array['call tinydevcrm.refresh_requested()'], 'for which its owner has a job');
select is((tinydevcrm.schedule_matview('v', '5 seconds')).schedule, '5 seconds', 'a superuser schedules it');
select is((tinydevcrm.allow_embedding('v', '{*}')).rows, '[]', 'and makes it public, which shows nothing yet');
select throws_ok(
    format('call tinydevcrm.refresh_scheduled(%s)', id), '42501', null, 'but does no round of it')
  from tinydevcrm.schedules;
select throws_ok($$ select tinydevcrm._set_key('v', '{n}') $$, '42501', null, 'makes no index on it');
select throws_ok(
    $$ select tinydevcrm._copy_rows(max(id)) from tinydevcrm.matviews $$, '42501', null, 'copies no rows');
select throws_ok(
    $$ select tinydevcrm._refresh_matview(matviews) from tinydevcrm.matviews $$, '42501', null,
    'and refreshes nothing from inside');
select is_empty('select from tinydevcrm.matview_refresh_events where matview = ''tap_one.v''', 'so nothing was done');

call tinydevcrm.settle_jobs();
select is(cardinality(pg_temp.jobs_of('Tap One')), 2, 'upkeep keeps the job while something is asked for');

set local session authorization "Tap One";
select is(
    (tinydevcrm._find_requested_matview(0)).relation, 'v'::regclass, 'the job finds what is asked for');
select tinydevcrm._refresh_matview(tinydevcrm._find_requested_matview(0), is_job => true);
select is((tinydevcrm._find_requested_matview(0)).relation, null, 'and has done it');
select is((select rows from tinydevcrm.embeds), '[["1"]]', 'which copies the rows too');
reset session authorization;
call tinydevcrm.settle_jobs();
select is(cardinality(pg_temp.jobs_of('Tap One')), 1, 'then the job goes');

-- seconds

set local session authorization "Tap One";
select tinydevcrm.create_matview('loop' || i, 'select 1 as n', 'never') from generate_series(1, 12) as i;
select tinydevcrm.schedule_matview(('loop' || i)::regclass, i || ' seconds') from generate_series(1, 12) as i;
select is(
    (select count(distinct job_id)::integer from tinydevcrm.schedules), case when tinydevcrm._cron_has_seconds() then 12 else 1 end,
    'where pg_cron has no seconds one job makes those of twelve schedules');
select is(
    (select is_ok from tinydevcrm.check_installation() where finding like 'pg_cron can run all loops%'), true,
    'for which it has room');

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
    '23514', null, 'an event carries no more than two megabytes');

create function loud() returns integer language plpgsql
as $$ begin raise exception '%', repeat('é', 1000000); end $$;
create materialized view loud_view as select loud() as n with no data;
select tinydevcrm.watch_matview('loud_view');
select is(
    (select array[outcome, octet_length(error_message)::text] from tinydevcrm.refresh_matview('loud_view')),
    array['failed', '5000'], 'a long message is cut');

-- schedules that cannot be read, or would take for ever

select throws_ok(
    $$ select tinydevcrm.schedule_matview('v', 'mon * * * *') $$, 'TD003', null, 'a word in the wrong field is no schedule');
select throws_ok(
    format($$ select tinydevcrm.schedule_matview('v', '%s * * * *') $$, '0' || repeat(',0', 20000)), 'TD003', null,
    'nor is one of 40 kB');
select is(tinydevcrm._compute_next_cron_time('mon * * * *', now()::timestamp), null, 'nor read from inside');
select is(tinydevcrm._compute_next_cron_time('* * * * *', 'infinity'), null, 'nothing follows the end of time');
select is(tinydevcrm._compute_next_due(0, null, now()), null, 'no seconds are no schedule');
select throws_ok(
    format($$ select tinydevcrm._describe_cron('%1$s', '%1$s', '%1$s', '%1$s', '%1$s', false) $$, array_fill(1, array[1601])),
    'TD003', null, 'Python, which nothing can stop, gets no more than 1,600 numbers');
select throws_ok(
    $$ select tinydevcrm._describe_cron(null, '{}', '{1}', '{1}', '{1}', false) $$, 'TD003', null, 'and no nulls');
select throws_ok('call tinydevcrm.refresh_scheduled(0)', 'TD001', null, 'there is no schedule 0');
select throws_ok('call tinydevcrm.refresh_scheduled(null)', 'TD001', null, 'and none without a number');
reset session authorization;
select throws_ok('call tinydevcrm.remove_expired(0)', 'TD007', null, 'batches of nothing would have no end');

select * from finish();

rollback;
