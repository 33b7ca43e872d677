-- Schedules in a time zone of their own: when they are due, above all on the days on which clocks are changed, and
-- what pg_cron gets. TestNextDue compares many more with a reckoning of its own.

begin;

select plan(34);

-- the two days

create function pg_temp.dues(schedule text, time_zone text, first_at timestamptz, last_at timestamptz)
    returns text[]
    language sql
as $$
    with recursive dues (due_at) as (
        select tinydevcrm._compute_next_due(null, schedule, time_zone, first_at - interval '1 second')
         union all
        select tinydevcrm._compute_next_due(null, schedule, time_zone, due_at)
          from dues
         where due_at <= last_at
    )
    select array_agg(to_char(due_at at time zone 'UTC', 'DD HH24:MI') order by due_at)
      from dues
     where due_at <= last_at
$$;

select is(
           pg_temp.dues(schedule, zone, first_at, first_at + length), dues::text[],
           format('%s in %s from %s on is due at these times', schedule, zone, first_at))
  from (
    values
        -- 2026-03-29 01:00 UTC: from 02:00 to 03:00.
        ('30 2 * * *', 'Europe/Berlin', timestamptz '2026-03-28 00:00Z', interval '3 days',
         '{"28 01:30","29 01:00","30 00:30"}'),
        ('0,15,30 2,3 * * *', 'Europe/Berlin', '2026-03-29 00:00Z', '6 hours',
         '{"29 01:00","29 01:15","29 01:30"}'),
        ('30 */1 * * *', 'Europe/Berlin', '2026-03-28 23:00Z', '4 hours',
         '{"28 23:30","29 00:30","29 01:30","29 02:30"}'),
        ('30 * * * *', 'Europe/Berlin', '2026-03-28 23:00Z', '3 hours',
         '{"28 23:30","29 00:30","29 01:30"}'),
        ('*/30 2 * * *', 'Europe/Berlin', '2026-03-28 00:00Z', '2 days 3 hours',
         '{"28 01:00","28 01:30","30 00:00","30 00:30"}'),
        -- 2026-10-25 01:00 UTC: from 03:00 to 02:00.
        ('30 2 * * *', 'Europe/Berlin', '2026-10-24 00:00Z', '3 days',
         '{"24 00:30","25 00:30","26 01:30"}'),
        ('30 * * * *', 'Europe/Berlin', '2026-10-24 23:00Z', '4 hours',
         '{"24 23:30","25 00:30","25 01:30","25 02:30"}'),
        ('*/30 2 * * *', 'Europe/Berlin', '2026-10-25 00:00Z', '1 day',
         '{"25 00:00","25 00:30","25 01:00","25 01:30"}'),
        ('0 3 * * *', 'Europe/Berlin', '2026-10-25 00:00Z', '1 day', '{"25 02:00"}'),
        -- Half an hour, at 15:30 and 15:00 UTC.
        ('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03 00:00Z', '1 day', '{"03 15:30"}'),
        ('45 1 * * *', 'Australia/Lord_Howe', '2026-04-04 00:00Z', '1 day', '{"04 14:45"}'),
        ('45 * * * *', 'Australia/Lord_Howe', '2026-04-04 13:50Z', '2 hours', '{"04 14:45","04 15:15"}'),
        ('0 9 * * 1-5', 'America/New_York', '2026-03-06 00:00Z', '3 days 14 hours',
         '{"06 14:00","09 13:00"}'),
        ('0 7 $ * *', 'Asia/Kolkata', '2026-02-01 00:00Z', '58 days 2 hours', '{"28 01:30","31 01:30"}')
  ) as known (schedule, zone, first_at, length, dues);

select is(
    pg_temp.dues('0 7 * * *', null, '2026-07-01 00:00Z', '2026-07-02 00:00Z'), '{"01 07:00"}',
    'without a zone it is that of pg_cron');

-- pg_cron has one time zone

select is(
           tinydevcrm._make_job_schedule(seconds, schedule, zone, 'GMT'), wanted,
           format('for %s in %s pg_cron gets %s', schedule, coalesce(zone, 'its own zone'), wanted))
  from (
    values
        (null::integer, '0 7 * * 1', null, '0 7 * * 1'),
        (null, '0 7 $ * *', null, '0 7 28-31 * *'),
        (null, '0 7 * * 1', 'UTC', '0 7 * * 1'),
        (null, '0 7 * * 1', 'Europe/Berlin', '0 5,6 * * *'),
        (null, '15 7 * * *', 'Asia/Kolkata', '45 1 * * *'),
        (null, '*/5 * * * *', 'Europe/Berlin', '0,5,10,15,20,25,30,35,40,45,50,55 * * * *'),
        (null, '* * * * *', 'Australia/Lord_Howe', '* * * * *')
  ) as known (seconds, schedule, zone, wanted);

create function pg_temp.list_dues(schedule text, time_zone text, day date)
    returns setof timestamptz
    language sql
as $$
    with recursive dues (due_at) as (
        select tinydevcrm._compute_next_due(null, schedule, time_zone, day::timestamptz - interval '1 second')
         union all
        select tinydevcrm._compute_next_due(null, schedule, time_zone, due_at)
          from dues
         where due_at < day + interval '2 days'
    )
    select due_at
      from dues
$$;

create temporary table zoned as
select schedule,
       zone,
       day,
       tinydevcrm._make_job_schedule(null, schedule, zone, 'GMT') as job_schedule
  from unnest(array['30 2 * * *', '0,10 1-3 * * 0', '*/20 2 * * *', '45 2 $ * *', '5 * * * *']) as schedule
 cross join (
    values
        ('Europe/Berlin', date '2026-03-29'), ('Europe/Berlin', '2026-10-25'), ('America/New_York', '2026-03-08'),
        ('America/New_York', '2026-11-01'), ('Australia/Lord_Howe', '2026-04-04'),
        ('Australia/Lord_Howe', '2026-10-03'), ('Asia/Kolkata', '2026-10-31')
 ) as changes (zone, day);

create temporary table dues as
select zoned.*,
       due_at
  from zoned
 cross join pg_temp.list_dues(schedule, zone, day) as due_at;

create temporary table calls as
select zoned.*,
       called_at
  from zoned
 cross join pg_temp.list_dues(job_schedule, 'UTC', day) as called_at;

select is_empty(
    $$ select dues.*
         from dues
         left join calls
           on (calls.schedule, calls.zone, calls.day, calls.called_at)
              = (dues.schedule, dues.zone, dues.day, dues.due_at)
        where calls.called_at is null
          and due_at < dues.day + interval '2 days' $$,
    'pg_cron calls the job at each minute that is due on the days of a change');
select cmp_ok((select count(*) from dues), '>', 400::bigint, 'these are many minutes');
select is_empty(
    $$ select calls.*
         from calls
        where called_at between day + interval '5 minutes' and day + interval '2 days'
          and tinydevcrm._find_round(schedule, zone, job_schedule, called_at + interval '3 seconds')
              is distinct from (
                  select max(due_at)
                    from dues
                   where (dues.schedule, dues.zone, dues.day) = (calls.schedule, calls.zone, calls.day)
                     and due_at between calls.called_at - interval '5 minutes' and calls.called_at) $$,
    'a job that is called is for the time that is due, and otherwise for none');

do $$
begin
    perform set_config('cron.timezone', 'Asia/Tokyo', true);
exception
    when cant_change_runtime_param then
        null;
end
$$;
select is(
    tinydevcrm._cron_timezone(), 'GMT',
    'before version 1.5 pg_cron is in GMT, whatever the setting says; later ones fix it at the start');

-- with a view

select tinydevcrm.create_matview('v', 'select 1 as n');
select tinydevcrm.create_matview('w', 'select 1 as n');

select results_eq(
    $$ select schedule, time_zone, catch_up, seconds, outcome
         from tinydevcrm.schedule_matview('v', 'Weekdays  at 9:00', time_zone => 'europe/berlin') $$,
    $$ values ('0 9 * * 1-5', 'Europe/Berlin', true, null::integer, 'refreshed') $$,
    'a schedule is given with a time zone');
select is(
    (select schedule from tinydevcrm.matview_status where relation = 'v'::regclass),
    'Weekdays at 9:00 Europe/Berlin', 'the status shows what was typed');
select is(
    (select extract(hour from next_due_at at time zone 'Europe/Berlin')::integer
       from tinydevcrm.matview_status
      where relation = 'v'::regclass),
    9, 'and when that is due next');
select is(
    (select job.schedule
       from cron.job
       join tinydevcrm.schedules
         on schedules.job_id = job.jobid),
    '0 7,8 * * *', 'pg_cron runs the job at all hours at which it can be due');
select tinydevcrm.schedule_matview('w', '0 9 * * 1-5 Europe/Berlin');
select is((select count(*) from tinydevcrm.schedules), 1::bigint, 'the same in other words is the same schedule');
select tinydevcrm.schedule_matview('w', '0 9 * * 1-5');
select is((select count(*) from tinydevcrm.schedules), 2::bigint, 'in another zone it is another one');
select throws_ok(
    $$ select tinydevcrm.schedule_matview('v', 'daily', time_zone => 'Europe/Berlim') $$, 'TD003',
    '''Europe/Berlim'' is not a time zone', 'what is not a time zone is refused');
select throws_ok(
    $$ select tinydevcrm.schedule_matview('v', 'daily', time_zone => 'CET') $$, 'TD003', null,
    'so is an abbreviation, which has no summer time');

select * from finish();
rollback;
