-- A plain role in tinydevcrm_user has all of the interface, over its own rows only.

begin;

select plan(9);

create role "Tap One" in role tinydevcrm_user;
create role "Tap Two" in role tinydevcrm_user;
create schema tap_one authorization "Tap One";

set local search_path = tap_one, public;
set local role "Tap One";

create temporary table staging (n text);
insert into staging
values ('1'), ('2');

select lives_ok($$ select tinydevcrm.import_staging('staging', 'numbers') $$, 'a user imports');
select lives_ok(
    $$ select * from tinydevcrm.begin_import('x.csv', convert_to(E'a\n', 'UTF8')) $$, 'either way');
select lives_ok(
    $$ select tinydevcrm.create_matview('v', 'select * from numbers') $$, 'makes a view');
select lives_ok($$ select tinydevcrm.create_subscription('s') $$, 'subscribes');
select lives_ok($$ select tinydevcrm.schedule_matview('v', '5 seconds') $$, 'schedules it');
select is(
    (select username::text from cron.job), 'Tap One', 'and the job runs as that user');
select is(
    (select (event).row_count from tinydevcrm.receive_events('s')), 2::bigint, 'receives the event');

set local role "Tap Two";

select results_eq(
    $$ select (select count(*) from tinydevcrm.imports)
            + (select count(*) from tinydevcrm.matviews)
            + (select count(*) from tinydevcrm.schedules)
            + (select count(*) from tinydevcrm.matview_refresh_events)
            + (select count(*) from tinydevcrm.subscriptions)
            + (select count(*) from tinydevcrm.deliveries)
            + (select count(*) from tinydevcrm.matview_status)
            + (select count(*) from tinydevcrm.job_runs) $$,
    array[0::bigint], 'of which another user sees nothing');
select throws_ok(
    $$ select tinydevcrm.schedule_matview('tap_one.v', '1 minute') $$, null, null,
    'and can change nothing');

reset role;

select * from finish();

rollback;
