-- Users, administrators and the orchestrator's role.

begin;

select plan(35);

create role "Tap Boss" in role tinydevcrm_admin;
create role "Tap Orchestrator" in role tinydevcrm_orchestrator;
create role "Tap Plain" in role tinydevcrm_user;

set local session authorization "Tap Boss";

select is(
    tinydevcrm.create_user('Tap Ann', 'secret word')::text, '"Tap Ann"',
    'an administrator can create a user');
select lives_ok(
    $$ select tinydevcrm.create_user('Tap Bob', 'secret word') $$,
    'an administrator can create another user');
select is(
    (select array[rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication]
       from pg_roles where rolname = 'Tap Ann'),
    array[true, false, false, false, false, false], 'a user can log in, and has no further rights');
select is(
    (select rolconnlimit from pg_roles where rolname = 'Tap Ann'), 10,
    'a user has the connection limit of the settings');
select is(
    (select setconfig from pg_db_role_setting where setrole = '"Tap Ann"'::regrole),
    array['search_path="Tap Ann"', 'statement_timeout=300s'],
    'a user has a schema of their own and a statement_timeout');
reset session authorization;
select alike(
    (select rolpassword from pg_authid where rolname = 'Tap Ann'), 'SCRAM-SHA-256$%', 'the password is kept as SCRAM');
set local session authorization "Tap Boss";

select throws_ok(
    $$ select tinydevcrm.create_user('Tap Ann', 'secret word') $$, 'TD004', null,
    'a name that is in use is refused');
select throws_ok(
    $$ select tinydevcrm.create_user('public', 'secret word') $$, 'TD007', null,
    'the name of an existing schema is refused');
select throws_ok(
    $$ select tinydevcrm.create_user('pg_ann', 'secret word') $$, 'TD007', null,
    'a name that Postgres reserves is refused');
select throws_ok(
    $$ select tinydevcrm.create_user('ann', 'short') $$, 'TD007', null, 'a short password is refused');

select throws_ok(
    $$ select tinydevcrm.create_user('Tap Eve', null) $$, 'TD007', null, 'a null password is refused');
select throws_ok(
    $$ select tinydevcrm.create_user(null, 'secret word') $$, 'TD007', null, 'a null name is refused');

-- What a user may do.

reset session authorization;
select tinydevcrm._has_clock() as has_clock \gset
\if :has_clock
    -- Only a superuser makes others.
    insert into cron.job (jobname, schedule, command, username)
    values ('left', '* * * * *', 'select 1', 'Tap Ann');
\else
    grant usage on schema cron to "Tap Ann";
    set local session authorization "Tap Ann";
    select cron.schedule('left', '* * * * *', 'select 1');
\endif
set local session authorization "Tap Ann";
set local search_path = "Tap Ann", public;
create table numbers as select 1 as n;
select tinydevcrm.create_matview('v', 'select * from numbers', 'always');
select tinydevcrm.schedule_matview('v', '5 seconds');
select tinydevcrm.create_subscription('mine');
select tinydevcrm.create_webhook('hook', 'https://example.com/');
select tinydevcrm.refresh_matview('v');
select throws_ok(
    $$ select tinydevcrm.create_user('Tap Eve', 'secret word') $$, '42501', null,
    'a user cannot create users');
select throws_ok(
    $$ select tinydevcrm.drop_user('Tap Bob') $$, '42501', null, 'a user cannot drop users');
select throws_ok(
    $$ update tinydevcrm.settings set event_limit = 1 $$, '42501', null, 'a user cannot change settings');

set local session authorization "Tap Boss";
select is(
    (select array_agg(relation::text || ' ' || status) from tinydevcrm.matview_status),
    array['"Tap Ann".v ok'], 'an administrator sees the views of all');
select is(
    (select count(*)::integer from tinydevcrm.subscription_status), 2,
    'an administrator sees the subscriptions of all');
select is(
    (select count(*)::integer from tinydevcrm.matview_refresh_events), 2,
    'an administrator sees the events of all');
select is_empty(
    $$ update tinydevcrm.matviews set notify_when = 'never' returning id $$,
    'an administrator cannot change the views of others');
select isnt_empty(
    $$ update tinydevcrm.settings set event_limit = 1000 returning id $$,
    'an administrator can change settings');

-- The orchestrator

set local session authorization "Tap Orchestrator";
select tinydevcrm.create_subscription('log');
set local session authorization "Tap Ann";
select tinydevcrm.refresh_matview('v');
set local session authorization "Tap Orchestrator";
select is(
    (select (event).matview from tinydevcrm.receive_events('log')), '"Tap Ann".v',
    'the orchestrator receives the events of all users');
select is(
    (select array_agg(due.name) from tinydevcrm._list_due_webhooks() as due), array['hook'],
    'the orchestrator finds the due webhooks of all users');
select is(
    (select count(tinydevcrm.acknowledge_events(array[received.delivery_id]))::integer
       from tinydevcrm._list_due_webhooks() as due
      cross join lateral tinydevcrm._receive_deliveries(due.subscription_id, 10, '1 minute') as received),
    2, 'the orchestrator can acknowledge their deliveries');
select is_empty(
    $$ update tinydevcrm.deliveries
          set state = 'acknowledged'
        where subscription_id in (select id from tinydevcrm.subscriptions where name = 'mine')
       returning id $$,
    'the orchestrator cannot acknowledge deliveries of other subscriptions');
select is(
    (select count(*)::integer from tinydevcrm.matviews where owner = '"Tap Ann"'::regrole), 1,
    'the orchestrator sees the views of all');
select is_empty(
    'update tinydevcrm.matviews set is_paused = true returning id', 'the orchestrator cannot change them');
select throws_ok(
    $$ update tinydevcrm.subscriptions set owner = '"Tap Orchestrator"' where name = 'hook' $$, '42501', null,
    'the orchestrator cannot take over a subscription');

-- Dropping a user

set local session authorization "Tap Boss";
select throws_ok(
    $$ select tinydevcrm.drop_user('Tap Ann') $$, '2BP01', 'user "Tap Ann" still owns something',
    'a user who owns something is not dropped');
select throws_ok(
    $$ select tinydevcrm.drop_user('Tap Plain') $$, 'TD001', null,
    'a role that create_user() has not made is not dropped');
select throws_ok(
    $$ select tinydevcrm.drop_user('Tap Ann', 'Tap Ann') $$, 'TD007',
    'user "Tap Ann" cannot be their own new owner', 'a user cannot be their own new owner');
select throws_ok(
    $$ select tinydevcrm.drop_user('Tap Ann', 'Tap Plain') $$, 'TD001', null,
    'a role that create_user() has not made cannot be the new owner');
reset session authorization;
-- The dropped user may be a member of the new owner's role, and the other way round.
grant "Tap Ann" to "Tap Bob";
create schema shared;
create table shared.cays as select 2 as n;
select tinydevcrm.create_user('Tap Cay', 'secret word');
alter table shared.cays owner to "Tap Cay";
grant "Tap Bob" to "Tap Cay";
set local role "Tap Boss";
select tinydevcrm.drop_user('Tap Ann', 'Tap Bob');
select tinydevcrm.drop_user('Tap Cay', 'Tap Bob');
reset role;
select is(
    array(select format('%s %s', relname, relowner::regrole) from pg_class
           where oid in (to_regclass('"Tap Ann".numbers'), to_regclass('shared.cays')) order by relname desc),
    array['numbers "Tap Bob"', 'cays "Tap Bob"'], 'the new owner has the tables');
select is((select n from "Tap Ann".numbers) + (select n from shared.cays), 3, 'the tables keep their rows');
set local role "Tap Boss";
select is(
    (select array[owner::text, schedule] from tinydevcrm.matview_status), array['"Tap Bob"', '5 seconds'],
    'the new owner has the views and schedules');
reset session authorization;
select is(
    (select array[
                (select count(*) from pg_roles where rolname = 'Tap Ann'),
                (select count(*) from cron.job where username = 'Tap Ann'),
                (select count(*) from cron.job where username = 'Tap Bob'),
                (select count(*) from tinydevcrm.subscriptions where owner <> '"Tap Orchestrator"'::regrole)
            ]),
    array[0, 0, 1, 0]::bigint[], 'nothing is left of the dropped user');

select * from finish();

rollback;
