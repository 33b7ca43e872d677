-- Times of a schedule that pass while the database is down: TestMissedRefreshIsMadeUpOnce does what needs commits.

begin;

select plan(16);

create function pg_temp.requested()
    returns text[]
    language sql
as $$
    select array_agg(matviews.relation::text order by matviews.relation::text)
      from tinydevcrm.refresh_requests
      join tinydevcrm.matviews
        on matviews.id = refresh_requests.matview_id
     where refresh_requests.schedule_id is not null
$$;

-- As if the database had been down for that long, and a schedule had been set before.
create function pg_temp.be_down(length interval)
    returns void
    language sql
as $$
    delete from tinydevcrm.refresh_requests;
    update tinydevcrm.matviews
       set last_refreshed_at = now() - length,
           last_scheduled_at = now() - length,
           schedule_began_at = now() - 2 * length;
$$;

select tinydevcrm.create_matview(name, 'select 1 as n')
  from unnest(array['hourly', 'often', 'off', 'paused', 'yearly', 'asked', 'unscheduled']) as name;

select is(
    (tinydevcrm.schedule_matview('hourly', 'hourly')).catch_up, true, 'a schedule of an hour is made up for by itself');
select is((tinydevcrm.schedule_matview('often', '30 minutes')).catch_up, false, 'a shorter one is not');
select is(
    (tinydevcrm.schedule_matview('asked', '30 minutes', catch_up => true)).catch_up, true, 'unless that is asked for');
select is((tinydevcrm.schedule_matview('off', 'hourly', catch_up => false)).catch_up, false, 'it can be switched off');
select tinydevcrm.schedule_matview('paused', 'hourly');
select tinydevcrm.schedule_matview('yearly', 'yearly');
select tinydevcrm.pause_matview('paused');

select tinydevcrm._request_missed_refreshes();
select is(pg_temp.requested(), null, 'nothing is made up for after a schedule is set');

select pg_temp.be_down('3 hours');
select tinydevcrm._request_missed_refreshes();
select is(
    pg_temp.requested(), '{asked,hourly}',
    'what was due meanwhile is made up for, but not a paused view, or one whose time has not come');
select tinydevcrm._request_missed_refreshes();
select is((select count(*) from tinydevcrm.refresh_requests), 2::bigint, 'once');

-- as refresh_requested() does
select tinydevcrm._refresh_matview(matviews, schedule_id, is_job => true)
  from tinydevcrm.matviews
 where relation = 'hourly'::regclass;
select is(pg_temp.requested(), '{asked}', 'a refresh removes the request');
select tinydevcrm._request_missed_refreshes();
select is(pg_temp.requested(), '{asked}', 'and is enough');

select pg_temp.be_down('3 hours');
update tinydevcrm.matviews
   set schedule_began_at = now()
 where relation = 'hourly'::regclass;
select tinydevcrm._request_missed_refreshes();
select is(pg_temp.requested(), '{asked}', 'a schedule that was just set has missed nothing');

select pg_temp.be_down('3 hours');
select tinydevcrm.resume_matview('paused');
select tinydevcrm._request_missed_refreshes();
select is(pg_temp.requested(), '{asked,hourly}', 'nor has a view whose pause has just ended');
select is(
    (select late_reason from tinydevcrm.matview_status where relation = 'paused'::regclass), null,
    'and it is not late');

-- changes

select tinydevcrm.schedule_matview('hourly', '5 minutes');
select is((select catch_up from tinydevcrm.matviews where relation = 'hourly'::regclass), false,
    'another schedule has its own default');
update tinydevcrm.matviews set catch_up = true where relation = 'hourly'::regclass;
select is(
    (select row(schedule, catch_up)::text from tinydevcrm.matviews where relation = 'hourly'::regclass),
    '("5 minutes",t)', 'catch_up can be changed alone');
select tinydevcrm.unschedule_matview('hourly');
select is(
    (select row(schedule, catch_up, schedule_began_at, schedule_id)::text
       from tinydevcrm.matviews
      where relation = 'hourly'::regclass),
    '(,,,)', 'nothing of it is left without a schedule');
select is(
    (select catch_up from tinydevcrm.matviews where relation = 'unscheduled'::regclass), null,
    'a view without a schedule has none');

select * from finish();
rollback;
