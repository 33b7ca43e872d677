-- Rounds that were stopped: by the end of a session, by a lock, or by a limit. orchestrator/rounds_test.go does the same
-- with two sessions and with kills.

begin;

select plan(27);

create schema "My Data";
set local search_path = "My Data", public;

select throws_ok(
    $$ update tinydevcrm.settings set refresh_lock_timeout = '0' $$, '23514', null,
    'a refresh waits at least a moment for a lock');
select throws_ok(
    $$ update tinydevcrm.settings set refresh_timeout = '0' $$, '23514', null, 'a refresh may take at least a second');
select is((select refresh_timeout from tinydevcrm.settings), null, 'a refresh may take as long as it does');
select is(
    (select refresh_lock_timeout from tinydevcrm.settings), interval '3 seconds', 'it waits three seconds for a lock');

select is(
    array(select tinydevcrm._find_ended_pause(ended_count) from unnest(array[0, 1, 2, 3, 11, 1000]) as ended_count),
    array['0', '30 s', '1 min', '2 min', '512 min', '512 min']::interval[],
    'the pause doubles with each session that a view has ended, up to 8.5 hours');

-- the mark

select tinydevcrm.create_matview(name, 'select 1 as n', 'always') from unnest(array['a', 'B b', 'c', 'd']) as name;
select tinydevcrm._assign_schedule(relation, '1 minute', null, null) from tinydevcrm.matviews;

create function pg_temp.plan(out names text, out lock_wait interval)
    language sql
as $$
    select string_agg(matviews.relation::text, ', ' order by number), min(next_round.lock_wait)
      from tinydevcrm.schedules
     cross join lateral tinydevcrm._plan_round(array[schedules.id], now()) as next_round
     cross join unnest(next_round.matview_ids) with ordinality as ids (id, number)
      join tinydevcrm.matviews
        on matviews.id = ids.id
     where not schedules.is_slow
$$;

create function pg_temp.marked()
    returns text[]
    language sql
as $$
    select array_agg(matviews.relation::text order by number)
      from tinydevcrm._locks
     cross join unnest(_locks.matview_ids) with ordinality as ids (id, number)
      join tinydevcrm.matviews
        on matviews.id = ids.id
     where _locks.what = 'schedule'
$$;

create function pg_temp.outcomes()
    returns text
    language sql
as $$
    select string_agg(concat_ws(' ', matviews.relation, outcome, error_code, method), ', ' order by events.id)
      from tinydevcrm.matview_refresh_events as events
      join tinydevcrm.matviews
        on matviews.id = events.matview_id
$$;

select is((pg_temp.plan()).names, 'a, "B b", c, d', 'a round takes all that are due');
select is(pg_temp.marked(), array['a', '"B b"', 'c', 'd'], 'the plan marks them');
select is(
    (select pid from tinydevcrm._locks where matview_ids is not null), pg_backend_pid(), 'the mark names the session');
select is((pg_temp.plan()).names, 'a, "B b", c, d', 'another plan while this session lives');
select is(pg_temp.outcomes(), null, 'records nothing');

select tinydevcrm._move_mark(id, array(select id from tinydevcrm.matviews order by id), 1, true)
  from tinydevcrm.schedules;
select is(pg_temp.marked(), array['a', '"B b"', 'c', 'd'], 'a refresh writes no mark');
select tinydevcrm._move_mark(id, array(select id from tinydevcrm.matviews order by id), 1, false)
  from tinydevcrm.schedules;
select is(pg_temp.marked(), array['"B b"', 'c', 'd'], 'a view that is passed over leaves it');
select tinydevcrm._move_mark(id, array(select id from tinydevcrm.matviews order by id), 4, true)
  from tinydevcrm.schedules;
select is(pg_temp.marked(), null, 'the last refresh of a round removes it');

-- a session that is gone: another one has its pid

select pg_temp.plan();
select tinydevcrm._refresh_matview(matviews, schedule_id) from tinydevcrm.matviews where relation = 'a'::regclass;
update tinydevcrm._locks set backend_start = '2020-01-01' where matview_ids is not null;

select is(
    (pg_temp.plan()).names, 'c, d', 'the view during whose refresh a session ended is not in the next round');
select is(
    pg_temp.outcomes(), 'a refreshed plain, "B b" failed 57P01', 'it has failed, and the ones before it have not');
select is(
    (select concat_ws(' ', ended_count, is_slow, last_outcome) from tinydevcrm.matviews where relation = '"B b"'::regclass),
    '1 t failed', 'it has a job of its own');
select is(
    (select error_message from tinydevcrm.matview_status where status = 'failing'),
    'the session ended during this refresh; the log of the server says why', 'the status names it');
select ok(
    (select next_due_at > now() + interval '25 seconds' from tinydevcrm.matview_status where status = 'failing'),
    'its next refresh is due after its pause');

-- a dump that is restored on another server

update tinydevcrm._locks set backend_start = '2020-01-01', server_id = 1 where matview_ids is not null;
select is((pg_temp.plan()).names, 'c, d', 'a mark of another server');
select is(pg_temp.outcomes(), 'a refreshed plain, "B b" failed 57P01', 'is no failure here');

-- the order

update tinydevcrm.matviews
   set is_slow = false,
       last_scheduled_at = null,
       last_refreshed_at = now() - case relation when 'd'::regclass then '1 hour' else '2 hours' end::interval,
       ended_count = case relation when 'a'::regclass then 2 when '"B b"'::regclass then 1 else 0 end,
       blocked_since = case relation when 'c'::regclass then now() end;
select is(
    (pg_temp.plan()).names, 'd, c, "B b", a',
    'blocked views come after the others, those that end sessions last, by how many they have ended');

update tinydevcrm.schedules set seconds = 5;
select is((pg_temp.plan()).lock_wait, interval '1.25 s', 'a wait takes at most a quarter of the period');

-- the message

select is(
    tinydevcrm._explain_failure('a', refresh, '2 s'),
    wanted, format('the message of %s', wanted))
  from (values
          ('57014', 'canceling statement due to user request', 'canceling statement due to user request'),
          ('55P03', 'could not obtain lock on row', 'could not obtain lock on row')) as failures (code, said, wanted)
 cross join lateral jsonb_populate_record(
     null::tinydevcrm._refresh, jsonb_build_object('error_code', code, 'error_message', said, 'method', 'plain')) as refresh;

-- rights

create role "Tap User" login in role tinydevcrm_user;
create role "Tap Runner" login in role tinydevcrm_orchestrator;

set local session authorization "Tap User";
select throws_ok(
    'update tinydevcrm._locks set pid = 1', '42501', null, 'a user does not write which session marks');
select throws_ok(
    'select from tinydevcrm._cancel_overdue_refreshes()', '42501', null, 'a user cancels no refreshes');
reset session authorization;

set local session authorization "Tap Runner";
select is_empty('select * from tinydevcrm._cancel_overdue_refreshes()', 'the orchestrator cancels those that are overdue');
reset session authorization;

select * from finish();

rollback;
