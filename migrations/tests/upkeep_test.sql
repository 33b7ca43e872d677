-- settle_jobs() repairs pg_cron's jobs, whatever happened to them.

begin;

select plan(15);

create role "Tap Owner" login in role tinydevcrm_user;
create schema taps authorization "Tap Owner";

grant usage on schema cron to "Tap Owner";
set local session authorization "Tap Owner";
set local search_path = taps, public;
select tinydevcrm.create_matview('v', 'select 1 as one');
select tinydevcrm.schedule_matview('v', '7 seconds');
-- A job of a user's own, whose name differs from one of ours only by the number.
select tinydevcrm._has_clock() as has_clock \gset
\if :has_clock
    reset session authorization;
    insert into cron.job (jobname, schedule, command, username)
    values ('tinydevcrm schedule 0', '1 1 1 1 *', 'select 1', 'Tap Owner');
\else
    select cron.schedule('tinydevcrm schedule 0', '1 1 1 1 *', 'select 1');
    reset session authorization;
\endif

-- What check_installation() finds wrong with jobs.
create function pg_temp.wrong()
    returns text
    language sql
as $$
    select detail
      from tinydevcrm.check_installation()
     where finding = 'each schedule has its job, and jobs connect to this server'
       and not is_ok
$$;

create function pg_temp.job()
    returns text
    language sql
as $$
    select format(
               '%s as %s at %s:%s, %s: %s',
               case job.schedule when schedules.cron_schedule then 'in time' end,
               username,
               case nodename when current_setting('cron.host') then 'home' else nodename end,
               case nodeport when current_setting('port')::integer then 'home' else 'away' end,
               case database when current_database() then 'home' else database end,
               case command
                   when (tinydevcrm._describe_job(schedules)).command
                       then 'refreshes'
                   else command
               end)
      from tinydevcrm.schedules
      join cron.job
        on job.jobid = schedules.job_id
     where schedules.owner = (
         select oid from pg_roles where rolname like 'Tap%'
     )
$$;

select is(pg_temp.wrong(), null, 'nothing is wrong at first');
select is(pg_temp.job(), 'in time as Tap Owner at home:home, home: refreshes', 'a schedule has its job');

-- a dump of another server is restored

update cron.job
   set nodename = '/elsewhere',
       nodeport = nodeport + 1,
       database = 'old';

select is(
    (select count(*)::integer from regexp_matches(pg_temp.wrong(), 'connects to /elsewhere:', 'g')),
    3, 'jobs that connect elsewhere are found: that of the schedule, upkeep and retention');

call tinydevcrm.settle_jobs();

select is(pg_temp.wrong(), null, 'settle_jobs() corrects them');
select is(
    pg_temp.job(), 'in time as Tap Owner at home:home, home: refreshes',
    'the schedule''s job connects to this server again');
select is(
    (select array_agg(nodename || ' ' || database) from cron.job where jobname = 'tinydevcrm schedule 0'),
    array['/elsewhere old'], 'settle_jobs() leaves jobs of the user''s own alone');

-- a job is removed by hand

select cron.unschedule(job_id)
  from tinydevcrm.schedules;

select is(pg_temp.wrong(), '7 seconds: has no job', 'a schedule without a job is found');

call tinydevcrm.settle_jobs();

select is(
    pg_temp.job(), 'in time as Tap Owner at home:home, home: refreshes',
    'a schedule without a job gets a new one');

-- pg_cron is another version: the job has the loop of a minute, or seconds that this pg_cron lacks

update tinydevcrm.schedules
   set cron_schedule = case when tinydevcrm._cron_has_seconds() then '* * * * *' else '7 seconds' end;
update cron.job
   set schedule = schedules.cron_schedule
  from tinydevcrm.schedules
 where schedules.job_id = job.jobid;

select matches(
    pg_temp.wrong(), '^7 seconds: (has no job|its job''s schedule is )',
    'a job for another version of pg_cron is found');

call tinydevcrm.settle_jobs();

select is(
    (select array_agg(cron_schedule) from tinydevcrm.schedules),
    array[case when tinydevcrm._cron_has_seconds() then '7 seconds' else '* * * * *' end],
    'the job gets the schedule for this pg_cron');

-- pg_cron gets another time zone

set local session authorization "Tap Owner";
select tinydevcrm.schedule_matview('v', 'daily at 7:00', 'Asia/Kolkata');
reset session authorization;
create temporary table made_here as
select cron_schedule from tinydevcrm.schedules;
update tinydevcrm.schedules
   set cron_zone = 'Asia/Tokyo',
       cron_schedule = tinydevcrm._make_job_schedule(seconds, schedule, time_zone, 'Asia/Tokyo');
update cron.job
   set schedule = schedules.cron_schedule
  from tinydevcrm.schedules
 where schedules.job_id = job.jobid;

select is(
    pg_temp.wrong(), '0 7 * * *: its job was made for the time zone Asia/Tokyo',
    'a job that was made for another time zone of pg_cron is found');

call tinydevcrm.settle_jobs();

select results_eq(
    $$ select job.schedule, schedules.cron_schedule
         from tinydevcrm.schedules
         join cron.job
           on job.jobid = schedules.job_id $$,
    $$ select cron_schedule, cron_schedule from made_here $$,
    'it is called at the times for this one');

-- the owner is renamed

alter role "Tap Owner" rename to "Tap Renamed";
call tinydevcrm.settle_jobs();

select is(
    pg_temp.job(), 'in time as Tap Renamed at home:home, home: refreshes', 'a job follows a renamed role');
select is(
    (select count(*)::integer from cron.job where command ~ 'refresh_(scheduled|by_seconds)'), 1,
    'no job of the old name is left');

-- somebody changes the command of a job

update cron.job
   set command = 'select 1/0'
  from tinydevcrm.schedules
 where schedules.job_id = job.jobid;
call tinydevcrm.settle_jobs();

select is(
    pg_temp.job(), 'in time as Tap Renamed at home:home, home: refreshes',
    'a job with another command is replaced');

select * from finish();

rollback;
