-- Schedules: their normal form, their jobs, and the steps of a job.

begin;

select plan(51);

create schema "My Data";
set local search_path = "My Data", public;

select is(
    array(
        select parsed.schedule
          from unnest(array[
                   '5 seconds', '5 s', '00:00:05', ' 59 SECONDS ', '1 second', '1 minute', '60 seconds',
                   '5 minutes', '1 hour', '24 hours', '1 day', ' */5  *  * * *', '0 7 * * mon']
               ) with ordinality as given (given, ordinal)
         cross join lateral tinydevcrm._parse_schedule(given) as parsed
         order by ordinal
    ),
    array['5 seconds', '5 seconds', '5 seconds', '59 seconds', '1 second', '* * * * *', '* * * * *',
          '*/5 * * * *', '0 * * * *', '0 0 * * *', '0 0 * * *', '*/5 * * * *', '0 7 * * mon'],
    'schedules that mean the same have one normal form');

select throws_ok(
           format('select tinydevcrm._parse_schedule(%L)', given), 'TD003', null,
           format('%L is refused', given))
  from unnest(array['', null, '* * *', 'soon', '0 seconds', '-5 seconds', '1.5 seconds', '7 minutes', '2 days'])
           as refused (given);

select throws_matching(
    $$ do $do$
       declare
           v_hint text;
       begin
           perform tinydevcrm._parse_schedule('90 seconds');
       exception
           when others then
               get stacked diagnostics v_hint = pg_exception_hint;
               raise exception '%', v_hint;
       end
       $do$ $$,
    '1 minute and 2 minutes', 'the refusal offers the nearest two');

-- one job per owner and schedule

select tinydevcrm.create_matview('a', 'select 1 as one', 'always');
select tinydevcrm.create_matview('b', 'select 2 as two', 'always');

create function pg_temp.jobs()
    returns bigint
    language sql
as $$
    select count(*)
      from cron.job
     where command ~ '^call tinydevcrm.refresh_(scheduled|by_seconds)\('
$$;

select is(pg_temp.jobs(), 0::bigint, 'there is no job before there is a schedule');
select is(
    (select seconds from tinydevcrm.schedule_matview('a', '5 seconds')), 5,
    'schedule_matview() returns the schedule');

-- the first refresh

create table divisors as select 1 as n;
select tinydevcrm.create_matview('fails', 'select 1 / n as n from divisors');
update divisors set n = 0;
select results_eq(
    $$ select schedule, outcome, error_code, error_message
         from tinydevcrm.schedule_matview('fails', '1 hour') $$,
    $$ values ('0 * * * *', 'failed', '22012', 'division by zero') $$,
    'schedule_matview() says that the first refresh failed, and why');
select is(
    (select schedule from tinydevcrm.matview_status where relation = 'fails'::regclass),
    '1 hour', 'the schedule is set although the first refresh failed, and shown as it was typed');
update divisors set n = 1;
select results_eq(
    $$ select outcome, row_count, error_code from tinydevcrm.schedule_matview('fails', '1 hour') $$,
    $$ values ('recovered', 1::bigint, null::text) $$,
    'schedule_matview() says that the refresh succeeded');
select tinydevcrm.drop_matview('fails');
select is(
    (select count(*)::integer from tinydevcrm.matview_refresh_events where matview = '"My Data".a'),
    1, 'schedule_matview() refreshes at once');
select lives_ok(
    $$ select tinydevcrm.schedule_matview('b', '00:00:05') $$, 'another view can have the same schedule');
select is(pg_temp.jobs(), 1::bigint, 'views on the same schedule share one job');
select is(
    (select job.schedule
       from cron.job
       join tinydevcrm.schedules
         on schedules.job_id = job.jobid),
    case when tinydevcrm._cron_has_seconds() then '5 seconds' else '* * * * *' end,
    'pg_cron runs the job by seconds if it has seconds, else each minute');
select is(
    (select command from cron.job join tinydevcrm.schedules on job_id = jobid),
    (select case
                when tinydevcrm._cron_has_seconds() then format('call tinydevcrm.refresh_scheduled(%s)', id)
                else 'call tinydevcrm.refresh_by_seconds(false)'
            end
       from tinydevcrm.schedules),
    'the job refreshes by the schedule');
select lives_ok(
    $$ select tinydevcrm.schedule_matview('a', '1 minute') $$, 'one call changes the schedule');
select is(pg_temp.jobs(), 2::bigint, 'the new schedule has a job of its own');
select lives_ok(
    $$ select tinydevcrm.unschedule_matview('a') $$, 'unschedule_matview() stops it');
select is(pg_temp.jobs(), 1::bigint, 'the job is removed with the last view on its schedule');
select lives_ok(
    $$ select tinydevcrm.unschedule_matview('a') $$, 'unschedule_matview() may be called twice');

-- pg_cron checks a cron expression

select throws_ok(
    $$ select tinydevcrm.schedule_matview('a', '90 * * * *') $$, 'TD003', '''90 * * * *'' is not a schedule',
    'a schedule that pg_cron rejects raises TD003');
select is(pg_temp.jobs(), 1::bigint, 'a rejected schedule leaves no job');

-- steps of a job

create temporary table calls as
select id as schedule_id,
       timestamptz '2024-01-31 10:00:00.1+00' as called_at
  from tinydevcrm.schedules;

update tinydevcrm.schedules
   set seconds = null,
       cron_schedule = schedule;

select tinydevcrm.schedule_matview('a', '5 seconds');

update tinydevcrm.matviews
   set last_refreshed_at = case
           when relation = 'a'::regclass then timestamptz '2024-01-31 09:59:30+00'
           else timestamptz '2024-01-31 09:59:10+00'
       end;

create function pg_temp.round(schedule_id bigint, called_at timestamptz)
    returns regclass[]
    language sql
as $$
    select array_agg(matviews.relation order by number)
      from tinydevcrm._plan_round(array[round.schedule_id], round.called_at) as next_round
     cross join unnest(next_round.matview_ids) with ordinality as ids (id, number)
      join tinydevcrm.matviews
     using (id)
$$;

select is(
    (select pg_temp.round(schedule_id, called_at) from calls), array['b', 'a']::regclass[],
    'a round begins with the view that was refreshed least recently');

select tinydevcrm._refresh_matview(matviews, schedule_id)
  from tinydevcrm.matviews
 where relation = 'b'::regclass;

select is(
    (select pg_temp.round(schedule_id, called_at) from calls), array['a']::regclass[],
    'a view that was refreshed is not in the rest of the round');
select is(
    (select due.relation
       from calls
      cross join tinydevcrm.matviews
      cross join lateral tinydevcrm._find_due_matview(matviews.id, array[calls.schedule_id], called_at) as due
      where matviews.relation = 'b'::regclass),
    null, 'a view that another session has refreshed is not due');
select is(
    (select due.relation
       from calls
      cross join tinydevcrm.matviews
      cross join lateral tinydevcrm._find_due_matview(matviews.id, array[calls.schedule_id], called_at) as due
      where matviews.relation = 'a'::regclass),
    'a'::regclass, 'a view that was not refreshed is due');

select tinydevcrm._refresh_matview(matviews, schedule_id)
  from tinydevcrm.matviews
 where relation = 'a'::regclass;

select is(
    (select row(next_round.matview_ids is null, next_round.wait)::text
       from calls, tinydevcrm._plan_round(array[schedule_id], called_at) as next_round),
    '(t,)', 'when all are refreshed the job ends: further runs in the same minute do nothing');

select is(
    (select array_agg(distinct schedule_id) from tinydevcrm.matview_refresh_events where schedule_id is not null),
    (select array_agg(schedule_id) from calls),
    'the event of a scheduled refresh has the schedule''s number');

drop materialized view a;

select tinydevcrm.drop_matview('b');

select is(pg_temp.jobs(), 0::bigint, 'no job is left when the last view is dropped');

-- pauses

select tinydevcrm.create_matview('fast', 'select 1 as n', 'always');
select tinydevcrm.create_matview('slow', 'select 1 as n', 'always');
select tinydevcrm.schedule_matview('fast', '7 seconds');
select tinydevcrm.schedule_matview('slow', '7 seconds');

create function pg_temp.lane(relation regclass)
    returns text
    language sql
as $$
    select case when schedules.is_slow then 'slow' else 'common' end
      from tinydevcrm.matviews
      join tinydevcrm.schedules
        on schedules.id = matviews.schedule_id
     where matviews.relation = lane.relation
$$;

create function pg_temp.next(relation regclass)
    returns regclass
    language sql
as $$
    select (pg_temp.round(matviews.schedule_id, clock_timestamp()))[1]
      from tinydevcrm.matviews
     where matviews.relation = next.relation
$$;

select lives_ok($$ select tinydevcrm.pause_matview('fast') $$, 'a view can be paused');
select is(
    (select array[status, schedule] from tinydevcrm.matview_status where relation = 'fast'::regclass),
    array['paused', '7 seconds'], 'a paused view keeps its schedule');
select is(pg_temp.next('fast'), 'slow'::regclass, 'a paused view is not refreshed');
select lives_ok($$ select tinydevcrm.resume_matview('fast') $$, 'a view can be resumed');
select is(pg_temp.next('fast'), 'fast'::regclass, 'a resumed view is refreshed again');
select throws_ok(
    $$ select tinydevcrm.pause_matview('pg_class') $$, 'TD001', null,
    'a relation that is not watched cannot be paused');

-- the job for slow views

create function pg_temp.choose(relation regclass, took interval)
    returns text
    language plpgsql
as $$
begin
    perform tinydevcrm._assign_lane(matviews.id, took)
       from tinydevcrm.matviews
      where matviews.relation = choose.relation;
    return pg_temp.lane(relation);
end
$$;

create temporary table jobs_before as
select pg_temp.jobs() as count;

select is(
    pg_temp.choose('slow', '3 seconds'), 'common',
    'a refresh of less than half of the period is not slow');
select is(pg_temp.choose('slow', '4 seconds'), 'slow', 'a refresh of more than half of the period is slow');
select is(pg_temp.jobs(), (select count + 1 from jobs_before), 'slow views have a job of their own');
select is(
    (select schedule from tinydevcrm.matview_status where relation = 'slow'::regclass), '7 seconds',
    'a slow view keeps its schedule');
select is(
    (tinydevcrm.schedule_matview('slow', '7 seconds')).is_slow, true,
    'a slow view stays slow when the same schedule is set again');
select is(pg_temp.choose('slow', '1 second'), 'slow', 'a slow view stays slow at a seventh of the period');
select is(
    pg_temp.choose('slow', '0.5 seconds'), 'common',
    'a slow view returns to the common job below a tenth of the period');
select is(
    pg_temp.jobs(), (select count from jobs_before),
    'the job for slow views is removed with the last of them');

select tinydevcrm.unschedule_matview('fast');
select is(
    pg_temp.choose('slow', '30 seconds'), 'common',
    'a slow refresh that delays no other view stays in the common job');
select tinydevcrm.drop_matview('slow');
select is(pg_temp.jobs(), (select count - 1 from jobs_before), 'its job is removed with the view');

select * from finish();

rollback;
