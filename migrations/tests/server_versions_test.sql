-- How servers differ, as far as it is visible: each behaves as its version must. scripts/test --matrix
-- lists the tests whose names begin with "differs".

begin;

select plan(6);

create schema differs;
set local search_path = differs, public;

create function pg_temp.major()
    returns integer
    language sql
as $$
    select current_setting('server_version_num')::integer / 10000
$$;

create function pg_temp.cron_version()
    returns integer[]
    language sql
as $$
    select regexp_match(extversion, '^(\d+)\.(\d+)')::integer[]
      from pg_extension
     where extname = 'pg_cron'
$$;

-- seconds

select tinydevcrm.create_matview('v', 'select 1 as one');
select tinydevcrm.schedule_matview('v', '5 seconds');

select is(
    (select job.schedule
       from tinydevcrm.schedules
       join cron.job
         on job.jobid = schedules.job_id),
    case when pg_temp.cron_version() >= array[1, 5] then '5 seconds' else '* * * * *' end,
    case
        when pg_temp.cron_version() >= array[1, 5]
            then 'differs: pg_cron has seconds itself (since 1.5)'
        else 'differs: pg_cron has no seconds (before 1.5): a job of every minute loops for them'
    end);

select case
           when pg_temp.cron_version() >= array[1, 5] then
               lives_ok($$ select cron.schedule('s', '5 seconds', 'select 1') $$, 'pg_cron itself agrees')
           else
               throws_ok($$ select cron.schedule('s', '5 seconds', 'select 1') $$, '22023', null,
                         'pg_cron itself agrees')
       end;

-- where pg_cron is

select is(
    (select extnamespace::regnamespace::text from pg_extension where extname = 'pg_cron'),
    case when pg_temp.cron_version() >= array[1, 5] then 'pg_catalog' else 'public' end,
    case
        when pg_temp.cron_version() >= array[1, 5] then 'differs: pg_cron''s extension is in pg_catalog (since 1.5)'
        else 'differs: pg_cron''s extension is in public (before 1.5): a newer server has to have it before a '
             'dump of this one is restored there'
    end);

-- the search_path of a query

create function two()
    returns integer
    language sql
as $$
    select 2
$$;

create function four()
    returns integer
    language plpgsql
as $$
begin
    return two() * 2;
end
$$;

select case
           when pg_temp.major() >= 17 then
               throws_ok(
                   $$ select tinydevcrm.create_matview('w', 'select four()') $$, '42883', null,
                   'differs: a function in a query has to qualify the names in it (since 17, where Postgres '
                   'takes the search_path away while a materialized view is filled)')
           else
               lives_ok(
                   $$ select tinydevcrm.create_matview('w', 'select four()') $$,
                   'differs: a function in a query sees the caller''s search_path (before 17)')
       end;

-- the schema public

select is(
    has_schema_privilege('tinydevcrm_user', 'public', 'create'),
    pg_temp.major() < 15,
    case
        when pg_temp.major() < 15
            then 'differs: every user may make tables in the schema public (before 15), until it is revoked'
        else 'differs: no user may make tables in the schema public (since 15)'
    end);

-- notifications of pg_cron's background workers

select is(
    (select hint like 'Before PostgreSQL 13 %' and (is_ok or pg_temp.major() < 13)
       from tinydevcrm._check_server()
      where finding = 'notifications of jobs arrive'),
    true,
    case
        when pg_temp.major() < 13
            then 'differs: jobs have to run over connections (before 13): background workers'' notifications wait'
        else 'differs: jobs may run in background workers (since 13): their notifications arrive'
    end);

select * from finish();

rollback;
