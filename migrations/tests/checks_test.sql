-- check_installation(): what it finds, and what it says to type.

begin;

select plan(7);

create schema "My Data";
set local search_path = "My Data", public;

-- A server may be set up wrong on purpose, to see that it is found; this one is not.
select is_empty(
    $$ select finding, detail from tinydevcrm.check_installation() where not is_ok $$,
    'this server is set up as it should be');
select is_empty(
    $$ select finding from tinydevcrm.check_installation() where hint is null or detail is null $$,
    'each finding says what was seen and what to type');
select set_has(
    'select finding from tinydevcrm.check_installation()',
    'select finding from tinydevcrm._check_server()',
    'it includes the checks that the migrations make first');

-- what a session can change

create function pg_temp.not_so()
    returns text
    language sql
as $$
    select string_agg(finding || ': ' || hint, '; ')
      from tinydevcrm.check_installation()
     where not is_ok
       and finding like 'jobs of %'
$$;

create role "Tap User" login;
set local session authorization "Tap User";
select throws_ok(
    'select pg_temp.not_so()', '42501', null, 'a role that may not use TinyDevCRM may not call it');
reset session authorization;
grant tinydevcrm_user to "Tap User";
grant create, usage on schema "My Data" to "Tap User";

set local session authorization "Tap User";
select is_empty(
    $$ select finding, detail from tinydevcrm.check_installation() where not is_ok $$,
    'a user sees all findings too');

select tinydevcrm.create_matview('v', 'select 1 as one');
select tinydevcrm.schedule_matview('v', '5 seconds');
reset session authorization;

insert into cron.job_run_details (jobid, runid, username, status, return_message)
select job_id,
       nextval('cron.runid_seq'),
       'Tap User',
       'failed',
       'connection failed'
  from tinydevcrm.schedules;

select is(
    pg_temp.not_so(),
    format(
        'jobs of "Tap User" run: If it says "connection failed", let the role connect, by a line '
        '"local %s "Tap User" trust" (or peer with a map) in pg_hba.conf.', current_database()),
    'a job that cannot connect is found, with the line for pg_hba.conf');

set local session authorization "Tap User";
select is(
    (select detail
       from tinydevcrm.check_installation()
      where not is_ok
        and finding like 'jobs of %'),
    '5 seconds: connection failed', 'the owner of the job sees pg_cron''s message');
reset session authorization;

select * from finish();

rollback;
