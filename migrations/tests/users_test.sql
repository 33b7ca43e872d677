-- A plain role in tinydevcrm_user has all of the interface, over its own rows only.

begin;

select plan(38);

create role "Tap One" in role tinydevcrm_user;
create role "Tap Two" in role tinydevcrm_user;
create schema tap_one authorization "Tap One";

set local search_path = tap_one, public;
set local session authorization "Tap One";

create temporary table staging (n text);
insert into staging
values ('1'), ('2');

select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'numbers') $$,
    'a user can import a staging table');
select lives_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{5}') $$, 'a user can begin an import of a file');
select lives_ok(
    $$ select tinydevcrm.create_matview('v', 'select * from numbers') $$, 'a user can create a view');
select lives_ok($$ select tinydevcrm.create_subscription('s') $$, 'a user can create a subscription');
select lives_ok($$ select tinydevcrm.schedule_matview('v', '5 seconds') $$, 'a user can schedule a view');
select is_empty(
    $$ select from tinydevcrm.schedules where job_id is null $$, 'the schedule of a user has a job');
select is(
    (select (event).row_count from tinydevcrm.receive_events('s')), 2::bigint, 'a user receives the event');

select tinydevcrm.create_matview('added', 'select * from numbers', 'rows_added');
select tinydevcrm.refresh_matview('added');
insert into numbers
values (3);
select is(
    (select array[added_count::text, rows::text] from tinydevcrm.refresh_matview('added')),
    array['1', '[{"n": 3}]'], 'a user is notified of added rows');

select is(
    (select next_due_at > now() from tinydevcrm.matview_status where relation = 'v'::regclass), true,
    'a user sees when a view is due next');

set local session authorization "Tap Two";

select is_empty('select * from tinydevcrm.matview_baselines', 'another user sees no baselines');
select results_eq(
    $$ select (select count(*) from tinydevcrm.imports)
            + (select count(*) from tinydevcrm.matviews)
            + (select count(*) from tinydevcrm.schedules)
            + (select count(*) from tinydevcrm.matview_refresh_events)
            + (select count(*) from tinydevcrm.subscriptions)
            + (select count(*) from tinydevcrm.deliveries)
            + (select count(*) from tinydevcrm.matview_status)
            + (select count(*) from tinydevcrm.job_runs) $$,
    array[0::bigint], 'another user sees nothing');
select throws_ok(
    $$ select tinydevcrm.schedule_matview('tap_one.v', '1 minute') $$, null, null,
    'another user cannot change the schedule');

-- A user cannot forge rows, and code of another user never runs with the rights of a reader.
select throws_ok(
    $$ insert into tinydevcrm.matviews (relation) values ('tap_one.v') $$,
    '42501', null, 'another user cannot register the view');

reset session authorization;
create table forged (job_id bigint, event_id bigint, matview_id bigint);
insert into forged
select jobid,
       (select max(id) from tinydevcrm.matview_refresh_events),
       (select min(id) from tinydevcrm.matviews)
  from cron.job
 where username = 'Tap One';
grant select on forged to "Tap Two";
grant usage, create on schema tap_one to "Tap Two";
set local session authorization "Tap Two";

create materialized view tap_one.mine as
select 1 as n;
select tinydevcrm.watch_matview('tap_one.mine');

select throws_ok(statement, '42501', null, 'forging: ' || statement)
  from (
    values
        ($$ insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, row_count, duration)
            select matview_id, 'refreshed', true, 9, '0 s' from forged $$),
        ($$ insert into tinydevcrm.matview_refresh_events (id, matview_id, outcome, is_notified, row_count, duration)
            overriding system value
            select 1000000, id, 'refreshed', true, 9, '0 s' from tinydevcrm.matviews $$),
        ($$ insert into tinydevcrm.matview_refresh_events
                (matview_id, outcome, is_notified, row_count, started_at, duration)
            select id, 'refreshed', true, 9, now() + interval '1 year', '0 s' from tinydevcrm.matviews $$),
        ($$ insert into tinydevcrm.matview_baselines (matview_id, bucket, hash_sum, hashes, other_hashes)
            select matview_id, 0, 0, '{}', '{}' from forged $$),
        ($$ insert into tinydevcrm.refresh_requests (matview_id) select matview_id from forged $$),
        ($$ insert into tinydevcrm.embeds (matview_id, origins) select matview_id, '{*}' from forged $$),
        ($$ insert into tinydevcrm.schedules (owner, schedule, cron_schedule, job_id)
            select '"Tap Two"', '2 minutes', '*/2 * * * *', job_id from forged $$),
        ($$ insert into tinydevcrm.matviews (id, relation) overriding system value values (9, 'tap_one.mine') $$),
        ('update tinydevcrm.matviews set schedule_id = 1'),
        ('update tinydevcrm.matviews set last_scheduled_at = now()'),
        ($$ update tinydevcrm.matviews set relation = 'tap_one.v' $$),
        ('delete from tinydevcrm.matviews'),
        ('update tinydevcrm.matview_refresh_events set is_notified = true'),
        ($$ insert into tinydevcrm._locks (what, id) values ('matview', 0) $$),
        ($$ select cron.schedule('mine', '* * * * *', 'select 1') $$)
  ) as forgeries (statement);
select throws_ok(
    format(
        $$ insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, row_count, duration)
           select id, 'refreshed', true, 9, %L from tinydevcrm.matviews $$, duration),
    '23514', null, 'no event takes ' || duration)
  from (values ('-1 second'), ('8 days')) as durations (duration);
select throws_ok(
    $$ select tinydevcrm.schedule_matview('tap_one.mine', '*foo * * * *') $$, 'TD003', null,
    'a schedule that cannot be parsed is refused');
select throws_ok(
    $$ update tinydevcrm.matviews set schedule = '*foo * * * *' $$, 'TD003', null,
    'an update with such a schedule is refused too');
select is_empty(
    $$ select from tinydevcrm._locks
        where what = 'upkeep'
           or id = (select matview_id from forged)
           or what = 'schedule' and id not in (select id from tinydevcrm.schedules) $$,
    'a user does not see locks of others or of upkeep');
select lives_ok(
    $$ select tinydevcrm.refresh_matview('tap_one.mine') $$, 'a user can refresh a view of their own');

select lives_ok(
    $$ select tinydevcrm.create_webhook('theft', 'https://example.com/') $$, 'a user can create a webhook');
select throws_ok(
    $$ insert into tinydevcrm.deliveries (owner, subscription_id, event_id)
       select owner, subscription_id, event_id from tinydevcrm.webhooks, forged $$,
    '42501', null, 'a user cannot have the events of another posted');

create type tap_one.mood as enum ('fine');
create function tap_one.escalate(mood tap_one.mood) returns json
    language plpgsql
as $body$
begin
    raise exception 'ran as %', current_user;
end
$body$;
create cast (tap_one.mood as json) with function tap_one.escalate(tap_one.mood);

reset session authorization;

select is(
    (select count(*) from cron.job where username = 'Tap One'), 1::bigint,
    'the job of the first user is still there');

create materialized view public.moods as select 'fine'::tap_one.mood as mood, 1 as n;
select tinydevcrm.watch_matview('public.moods');
select is(
    (select rows from tinydevcrm.refresh_matview('public.moods')),
    '[{"n": 1, "mood": "fine"}]'::jsonb,
    'an event does not run a cast that another user made for a type');

select * from finish();

rollback;
