-- What the status does not call ok: views that are late, and views that read a renamed table.

begin;

select plan(24);

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Boss" in role tinydevcrm_admin;
create schema tap authorization "Tap One";
grant usage on schema tap to "Tap Boss";
set local search_path = tap, public;
-- As if it had been on the schedule, and not been refreshed, for a day.
create function pg_temp.age(relation regclass)
    returns void
    language sql
    security definer
as $$
    update tinydevcrm.matviews
       set schedule_began_at = now() - interval '1 day',
           last_refreshed_at = now() - interval '1 day',
           last_scheduled_at = null
     where matviews.relation = age.relation
$$;
set local session authorization "Tap One";

create function pg_temp.status(relation regclass)
    returns text
    language sql
as $$
    select status
      from tinydevcrm.matview_status
     where matview_status.relation = status.relation
$$;

create function pg_temp.late_events()
    returns bigint
    language sql
as $$
    select count(*)
      from tinydevcrm.matview_refresh_events
     where outcome = 'late'
$$;

select tinydevcrm.create_matview('v', 'select 1 as n', 'never');
select tinydevcrm.create_matview('fresh', 'select 1 as n', 'never');
select tinydevcrm.schedule_matview(name::regclass, '1 hour')
  from unnest(array['v', 'fresh']) as name;
select tinydevcrm.create_subscription('s', 'v');

select is(pg_temp.status('v'), 'ok', 'a view that is due later is ok');
select pg_temp.age('v');
select is(pg_temp.status('v'), 'late', 'a view that was due and was not refreshed is late');
select is(
    (select late_since between now() - interval '1 day' and now() - interval '22 hours' and is_troubled
       from tinydevcrm.matview_status where relation = 'v'::regclass),
    true, 'the status says since when, and that it needs attention');
select is(
    (select array[late_count, view_count] from tinydevcrm.overview), array[1, 2]::bigint[],
    'the overview counts it');

reset session authorization;
select tinydevcrm._note_late('0');
select is(
    (select array[matview, is_notified::text, owner::text, row_count::text] from tinydevcrm.matview_refresh_events
      where outcome = 'late'),
    array['tap.v', 'true', '"Tap One"', null], 'a late view is an event, whatever its rule');
select matches(
    (select reason from tinydevcrm.matview_refresh_events where outcome = 'late'),
    '^its schedule 1 hour was due at \d{4}-\d\d-\d\d \d\d:00:00 UTC: ', 'which says since when and why');
select tinydevcrm._note_late('0');
set local session authorization "Tap One";
select is(pg_temp.late_events(), 1::bigint, 'once per streak');
select is(
    (select (event).outcome from tinydevcrm.receive_events('s')), 'late', 'its subscriptions get it');
select is(
    (select outcome from tinydevcrm.matview_status where relation = 'v'::regclass), 'refreshed',
    'it is not the outcome of the last refresh');
select tinydevcrm.refresh_matview('v');
select is(pg_temp.status('v'), 'ok', 'a refresh ends it');
select is(pg_temp.late_events(), 1::bigint, 'and is no such event');

select pg_temp.age('v');
reset session authorization;
-- As the orchestrator, while pg_cron and so upkeep are away.
create role "Tap Runner" login in role tinydevcrm_orchestrator;
set local session authorization "Tap Runner";
select tinydevcrm._note_late('1000 years');
set local session authorization "Tap One";
select is(pg_temp.late_events(), 1::bigint, 'nothing is noted soon after the start of the server');
select tinydevcrm.mute_matview('v', now() + interval '1 hour');
set local session authorization "Tap Runner";
select tinydevcrm._note_late('0');
set local session authorization "Tap One";
select is(pg_temp.late_events(), 1::bigint, 'nothing is noted of a muted view');
select tinydevcrm.unmute_matview('v');
set local session authorization "Tap Runner";
select tinydevcrm._note_late('0');
set local session authorization "Tap One";
select is(pg_temp.late_events(), 2::bigint, 'the next streak is a new event, also when it lasts longer than a mute');
select ok(
    (select is_notified from tinydevcrm.matview_refresh_events where outcome = 'late' order by id desc limit 1),
    'and notifies');
select tinydevcrm.pause_matview('v');
select is(pg_temp.status('v'), 'paused', 'a paused view is not late');
select tinydevcrm.resume_matview('v');
select is(pg_temp.status('v'), 'ok', 'what was due before the schedule was resumed is not late');

-- Renamed tables

create table orders as
select 1 as n;
create view seen as
select n from orders;
select tinydevcrm.create_matview('direct', 'select n from orders');
select tinydevcrm.create_matview('indirect', 'select n from seen');
alter table orders rename to orders_2025;
select is(pg_temp.status('direct'), 'not scheduled', 'a renamed table alone is no problem');
create table orders as
select 2 as n;
select results_eq(
    $$ select relation::text, status, renamed_read, is_troubled from tinydevcrm.matview_status where relation::text like '%direct' order by 1 $$,
    $$ select name, 'reads renamed table', 'reads tap.orders_2025, which was tap.orders when the view was made, while there is a new tap.orders', true
         from unnest(array['direct', 'indirect']) as name $$,
    'a view that reads a renamed table while there is a new one of its name says so');
set local session authorization "Tap Boss";
select is(pg_temp.status('direct'), 'reads renamed table', 'an administrator sees it too');
select throws_ok(
    $$ select tinydevcrm.accept_tables('direct') $$, '42501', null, 'and does not accept it for the owner');
set local session authorization "Tap One";
select tinydevcrm.accept_tables('direct');
select is(pg_temp.status('direct'), 'not scheduled', 'accepting the tables ends it');
select is(pg_temp.status('indirect'), 'reads renamed table', 'for that view');
drop table orders;
select is(pg_temp.status('indirect'), 'not scheduled', 'and so does the end of the new table');

select * from finish();

rollback;
