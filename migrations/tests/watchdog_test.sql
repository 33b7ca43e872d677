-- Who may end sessions, and that the watchdog leaves those alone that block nobody.

begin;

select plan(3);

create role "Tap User" login in role tinydevcrm_user;
create role "Tap Runner" login in role tinydevcrm_orchestrator;

set local session authorization "Tap User";
select throws_ok(
    'select from tinydevcrm._end_blocking_sessions(1)',
    '42501', null, 'a user may not end the sessions of others');
reset session authorization;

set local session authorization "Tap Runner";
select is_empty(
    'select * from tinydevcrm._end_blocking_sessions()',
    'the orchestrator may, and ends none that block nobody');
reset session authorization;

select is(
    (select proconfig::text from pg_proc where proname = '_end_blocking_sessions'),
    '{"search_path=pg_catalog, pg_temp",lock_timeout=500ms}',
    'it waits no longer than half a second');

select * from finish();

rollback;
