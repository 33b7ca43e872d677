-- When the orchestrator next has something to do.

begin;

select plan(15);

create schema work;
set local search_path = work, public;

create function pg_temp.next()
    returns double precision
    language sql
as $$
    select tinydevcrm._find_next_work('log')
$$;

select is(pg_temp.next(), null, 'without schedules and deliveries nothing is due');

-- schedules

create table "Fed" (n integer);
select tinydevcrm.create_matview('v', 'select count(*) from "Fed"');
select is(pg_temp.next(), null, 'nor for a view without a schedule');

select tinydevcrm.schedule_matview('v', '5 seconds');
select ok(pg_temp.next() <= 5, 'a schedule is due');

select tinydevcrm.unschedule_matview('v');

-- deliveries

select tinydevcrm.create_subscription('log');
select tinydevcrm.create_subscription('of a worker');
update tinydevcrm.matviews set notify_when = 'always' where relation = 'v'::regclass;
select tinydevcrm.refresh_matview('v');
select ok(pg_temp.next() <= 0, 'a delivery of the log waits');

select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from tinydevcrm.receive_events('log');
select is(pg_temp.next(), null, 'what workers receive when they want to does not count');

select tinydevcrm.create_webhook('w', 'https://example.com/');
select tinydevcrm.refresh_matview('v');
select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from tinydevcrm.receive_events('log');
select ok(pg_temp.next() <= 0, 'a delivery of a webhook waits');

create temp table received as
select delivery_id
  from tinydevcrm._receive_posts(tinydevcrm._find_own_subscription('w'), 10, '1 minute');
select ok(pg_temp.next() <= 0, 'while it is in flight, the program has something to do');

select tinydevcrm._refuse_post(
           tinydevcrm._find_own_subscription('w'), delivery_id, 429, 'later', '1 hour', '0', null, false)
  from received;
select ok(pg_temp.next() between 600 and 7200, 'a retry is due later');

select tinydevcrm.pause_subscription('w');
select is(pg_temp.next(), null, 'not while the subscription is paused');

-- sources

select tinydevcrm.create_source('hourly', 'https://example.com/a.csv', schedule => 'hourly');
select ok(pg_temp.next() <= 0, 'a new source is fetched now');

delete from tinydevcrm.source_runs;
select ok(pg_temp.next() between 0 and 3600, 'and then by its schedule');

select tinydevcrm.drop_source('hourly');
select is(pg_temp.next(), null, 'one that is gone is not');

-- deadlines

update tinydevcrm.matviews set notify_deadline = '2 hours' where relation = 'v'::regclass;
select ok(pg_temp.next() between 7100 and 7200, 'the deadline of a view');
update tinydevcrm.matviews set notify_deadline = '0' where relation = 'v'::regclass;

-- users

select tinydevcrm.create_user('next_ann', 'secret word');
select throws_ok(
    $$ set local role next_ann; select tinydevcrm._find_next_work('log') $$, '42501', null,
    'a user does not see when others'' work is due');
reset role;

set local role tinydevcrm_orchestrator;
select lives_ok($$ select tinydevcrm._find_next_work('log') $$, 'an orchestrator does');
reset role;

select * from finish();

rollback;
