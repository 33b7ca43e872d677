-- Where pg_cron belongs to somebody else, a job is created as its owner.

begin;

select plan(11);

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Two" login in role tinydevcrm_user;
create role "Tap Installer" login in role tinydevcrm_user;
grant "Tap One" to "Tap Installer";
grant usage on schema cron to "Tap Installer", "Tap One";
grant execute on function
    tinydevcrm._may_edit_jobs(),
    tinydevcrm._is_job_owner(regrole),
    tinydevcrm._run_as(regrole, text),
    tinydevcrm._create_job_as_owner(regrole, text, text, text),
    tinydevcrm._take_jobs(bigint[])
to "Tap Installer";

create function pg_temp.jobs() returns text language sql security definer as $$
    select string_agg(concat_ws(' ', jobname, schedule, username), ', ' order by jobname)
      from cron.job
     where username like 'Tap %'
$$;

set local session authorization "Tap Installer";

select ok(not tinydevcrm._may_edit_jobs(), 'the role may not edit the jobs of others');
select ok(tinydevcrm._is_job_owner('"Tap Installer"'), 'it owns its own');
select ok(not tinydevcrm._is_job_owner('"Tap One"'), 'and not those of others');
select is(
    tinydevcrm._run_as('"Tap One"', 'select to_jsonb(current_user::text)'), '"Tap One"'::jsonb,
    'a statement runs as another role of which it is a member');
select is(
    (select count(*) from pg_proc where proname = '_run_as_owner'), 0::bigint,
    'and the function that ran it is gone');
select throws_ok(
    $$ select tinydevcrm._run_as('"Tap Two"', 'select to_jsonb(1)') $$,
    '42501', 'TinyDevCRM cannot create jobs of "Tap Two"', 'not as one of which it is none');

create temporary table created as
select tinydevcrm._create_job_as_owner('"Tap One"', 'tap job', '* * * * *', 'select 1') as id;
select is(pg_temp.jobs(), 'tap job * * * * * Tap One', 'the job belongs to its owner');
select is(
    tinydevcrm._create_job_as_owner('"Tap One"', 'tap job', '* * * * *', 'select 1'),
    (select id from created), 'the same job again is the one that is there');
select is(
    tinydevcrm._create_job_as_owner('"Tap One"', 'tap job', '5 * * * *', 'select 1'),
    (select id from created), 'and so is one at other times');
select is(pg_temp.jobs(), 'tap job 5 * * * * Tap One', 'which has them now');
select is(
    array(select tinydevcrm._take_jobs(array(select id from created))), array(select id from created),
    'it does not try to lock jobs');

reset session authorization;

select * from finish();

rollback;
