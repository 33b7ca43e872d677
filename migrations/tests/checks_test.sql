-- check_installation(): what it finds, and what it says to type.

begin;

select plan(14);

create schema "My Data";
set local search_path = "My Data", public;

-- Without pg_cron, this session is the clock.
select tinydevcrm._keep_clock() where tinydevcrm._has_clock();

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
        '"local %s "Tap User" trust" (or peer with a map) in pg_hba.conf.', current_database())
    || case when tinydevcrm._has_clock() then format(
        ' Or write "*:*:%s:"Tap User":PASSWORD" into the file that the orchestrator''s PGPASSFILE '
        'names.', current_database()) else '' end,
    'a job that cannot connect is found, with the line for pg_hba.conf');

set local session authorization "Tap User";
select is(
    (select detail
       from tinydevcrm.check_installation()
      where not is_ok
        and finding like 'jobs of %'),
    '5 seconds: connection failed', 'the owner of the job sees pg_cron''s message');
reset session authorization;

-- Whether notifications arrive

create function pg_temp.deaf()
    returns table (finding text, is_ok boolean)
    language sql
as $$
    select finding,
           is_ok
      from tinydevcrm.check_installation()
     where finding like 'notifications reach%'
$$;

set local session authorization "Tap User";
select tinydevcrm._record_listener(true);
select results_eq(
    'select * from pg_temp.deaf()',
    $$ values ('notifications reach the programs of "Tap User"', false) $$,
    'a program that hears nothing is found');
select tinydevcrm._record_listener(false);
select results_eq(
    'select * from pg_temp.deaf()',
    $$ values ('notifications reach the programs of "Tap User"', true) $$,
    'one that hears again is fine');

-- timeouts of a provider

create function pg_temp.bounded()
    returns table (detail text, hint text)
    language sql
as $$
    select detail,
           hint
      from tinydevcrm.check_installation()
     where finding = 'statements take as long as they need'
       and not is_ok
$$;

set local statement_timeout = '2min';
select is_empty('select * from pg_temp.bounded()', 'a user is not asked to lift their own timeout');
reset session authorization;
set local idle_in_transaction_session_timeout = '5min';
select results_eq(
    'select * from pg_temp.bounded()',
    format(
        $$ values (
               'idle_in_transaction_session_timeout = 300000 ms, statement_timeout = 120000 ms: '
               'a longer import or refresh fails',
               'alter role %1$I set idle_in_transaction_session_timeout = 0; '
               'alter role %1$I set statement_timeout = 0;') $$,
        session_user),
    'a timeout of the role of the program is found');
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
set local session authorization "Tap User";
select throws_ok(
    'update tinydevcrm.listeners set probed_at = now()', '42501', null, 'a user cannot write times');
reset session authorization;
create role "Tap Other" in role tinydevcrm_user;
select tinydevcrm._record_listener(true);
set local session authorization "Tap Other";
select is(
    (select count(*) from pg_temp.deaf() where finding like '%Tap User%'), 0::bigint,
    'others do not see a user''s programs');
reset session authorization;
alter table tinydevcrm.listeners disable trigger user;
update tinydevcrm.listeners
   set probed_at = now() - interval '3 minutes';
select is_empty('select * from pg_temp.deaf()', 'a program that has ended is not reported');

select * from finish();

rollback;
