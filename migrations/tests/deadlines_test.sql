-- Tables that do not change within a deadline.

begin;

select plan(33);

create role "Tap One" login in role tinydevcrm_user;
create schema tap authorization "Tap One";
set local search_path = tap, public;

-- As if the transactions that have changed the tables had ended, and their time had been noted so long ago.
create function pg_temp.age(age interval)
    returns void
    language sql
as $$
    delete from tinydevcrm.table_changes;
    update tinydevcrm.table_change_times set changed_at = now() - age.age;
    update tinydevcrm.imports set finished_at = now() - age.age, started_at = now() - age.age;
    update tinydevcrm.matviews set deadline_set_at = now() - age.age where notify_deadline > '0'
$$;

create function pg_temp.log(relation regclass)
    returns text
    language sql
as $$
    select string_agg(outcome || case when is_notified then '' else ' ' || suppressed_by end, ', ' order by id)
      from tinydevcrm.matview_refresh_events
     where matview = 'tap.' || log.relation::text
       and outcome in ('silent', 'resumed')
$$;

set local session authorization "Tap One";
create table orders (n integer);
create table items (n integer) partition by range (n);
create table items_1 partition of items for values from (0) to (10);
select tinydevcrm.create_matview('v', 'select n from orders union all select n from items', 'never', notify_deadline => '1 hour');
select tinydevcrm.create_matview('plain', 'select n from orders', 'never');
select tinydevcrm.create_subscription('s', 'v');

-- Tracked tables

reset session authorization;
select tinydevcrm._note_silent();
select is(pg_temp.log('v'), null, 'a new deadline begins when it is set');
select pg_temp.age('59 minutes');
select tinydevcrm._note_silent();
select is(pg_temp.log('v'), null, 'nothing is noted before the deadline');
select pg_temp.age('61 minutes');
select tinydevcrm._note_silent(), tinydevcrm._note_silent();
select is(pg_temp.log('v'), 'silent', 'after it an event notifies, once, whatever the rule');
select is(pg_temp.log('plain'), null, 'a view without a deadline has no such event');
select matches(
    (select reason from tinydevcrm.matview_refresh_events where outcome = 'silent'),
    '^nothing new since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC in tap.items, tap.orders$', 'which says since when and in which tables');
set local session authorization "Tap One";
select results_eq(
    $$ select status, is_troubled, outcome, notify_deadline from tinydevcrm.matview_status where relation = 'v'::regclass $$,
    $$ values ('silent', true, null::text, interval '1 hour') $$, 'the view is silent, which is no outcome of a refresh');
select is((select (event).outcome from tinydevcrm.receive_events('s')), 'silent', 'its subscriptions get it');
select tinydevcrm.refresh_matview('v');
select is((select status from tinydevcrm.matview_status where relation = 'v'::regclass), 'silent', 'a refresh does not end it');

insert into items_1 values (1);
reset session authorization;
select tinydevcrm._note_silent(), tinydevcrm._note_silent();
select is(pg_temp.log('v'), 'silent, resumed', 'a change of a partition does, with an event');
select matches(
    (select reason from tinydevcrm.matview_refresh_events where outcome = 'resumed'), '^new since \d{4}-', 'which says since when');
select ok(
    (select last_changed_at between now() and clock_timestamp() from tinydevcrm.matview_status where relation = 'v'::regclass),
    'the status says when the tables changed');
select is(
    (select status from tinydevcrm.matview_status where relation = 'v'::regclass), 'not scheduled', 'and is as before');
select pg_temp.age('61 minutes');
select tinydevcrm._note_silent();
select is(pg_temp.log('v'), 'silent, resumed, silent', 'the next streak is a new event');

-- Changes of the deadline

set local session authorization "Tap One";
select tinydevcrm.watch_matview('v', notify_deadline => '2 hours');
reset session authorization;
select tinydevcrm._note_silent();
select is(
    (select silent_noted_at from tinydevcrm.matviews where relation = 'v'::regclass), null, 'another deadline begins anew');
select pg_temp.age('3 hours');
set local session authorization "Tap One";
select tinydevcrm.watch_matview('v', 'always');
select is((select notify_deadline from tinydevcrm.matviews where relation = 'v'::regclass), '2 hours', 'another rule keeps it');
select tinydevcrm.watch_matview('v', notify_deadline => '0');
reset session authorization;
select tinydevcrm._note_silent();
select is(pg_temp.log('v'), 'silent, resumed, silent', '0 ends it');
set local session authorization "Tap One";
select throws_ok($$ select tinydevcrm.watch_matview('v', notify_deadline => '1 minute') $$, 'TD007', null, 'a minute is too short');
select throws_ok($$ select tinydevcrm.watch_matview('v', notify_deadline => '11 years') $$, 'TD007', null, 'and 11 years too long');
select throws_ok(
    $$ update tinydevcrm.matviews set silent_noted_at = now() $$, '42501', null, 'users do not write what upkeep has noted');
select throws_ok(
    $$ update tinydevcrm.matviews set deadline_set_at = 'infinity' $$, '42501', null, 'or when a deadline began');
select throws_ok(
    $$ insert into tinydevcrm.table_change_times values ('tap.orders', 'infinity') $$, '42501', null, 'or when a table changed');
select throws_ok($$ select tinydevcrm._note_silent() $$, '42501', null, 'or have it noted');

-- Mutes

select tinydevcrm.watch_matview('v', notify_deadline => '1 hour'), tinydevcrm.mute_matview('v', now() + interval '1 hour');
reset session authorization;
select pg_temp.age('2 hours');
select tinydevcrm._note_silent();
select is(pg_temp.log('v'), 'silent, resumed, silent', 'nothing is noted during a mute');
set local session authorization "Tap One";
select tinydevcrm.unmute_matview('v');
reset session authorization;
select tinydevcrm._note_silent();
select is(pg_temp.log('v'), 'silent, resumed, silent, silent', 'a streak that lasts longer notifies then');

-- A view that is not tracked, of an imported table

set local session authorization "Tap One";
create temporary table staging (n text);
insert into staging values ('1');
select count(*) from tinydevcrm.import_staging('staging', 'imported');
select tinydevcrm.create_matview('clock', 'select n from imported where now() > ''2000-01-01''');
select tinydevcrm.untrack_table('imported');
select ok((select not is_tracked from tinydevcrm.matviews where relation = 'clock'::regclass), 'the view is not tracked');
select tinydevcrm.watch_matview('clock', notify_deadline => '1 hour');
reset session authorization;
select pg_temp.age('61 minutes');
select tinydevcrm._note_silent();
select is(pg_temp.log('clock'), 'silent', 'it is silent when no import has come');
set local session authorization "Tap One";
select count(*) from tinydevcrm.import_staging('staging', 'imported', 'append');
reset session authorization;
select tinydevcrm._note_silent();
select is(pg_temp.log('clock'), 'silent, resumed', 'until one comes');

-- A view that reads nothing that we see

set local session authorization "Tap One";
select throws_ok(
    $$ select tinydevcrm.create_matview('blind', 'select now() as at', notify_deadline => '1 hour') $$, 'TD007',
    'tap.blind cannot have a deadline: no table that it reads is tracked or imported', 'is refused a deadline');
select tinydevcrm.create_matview('half', 'select n from orders', notify_deadline => '1 hour', notify_after => 3);
select tinydevcrm.untrack_table('orders');
reset session authorization;
select pg_temp.age('61 minutes');
select tinydevcrm._note_silent();
select is(pg_temp.log('half'), null, 'one that lost its tracking is not silent');

-- Restored

set local session authorization "Tap One";
select tinydevcrm.drop_matview('half');
select tinydevcrm.restore_matview('half');
select results_eq(
    $$ select notify_deadline, notify_after from tinydevcrm.matviews where relation = 'half'::regclass $$,
    $$ values (interval '1 hour', 3) $$, 'a restored view has its deadline, and how often the rule must hold');

-- What upkeep removes has been noted before.

select tinydevcrm.track_table('orders');
insert into orders values (1);
reset session authorization;
delete from tinydevcrm.table_change_times;
call tinydevcrm.settle_jobs();
select ok(
    (select changed_at >= now() from tinydevcrm.table_change_times where relation = 'tap.orders'::regclass), 'upkeep notes changes');
select is(
    (select count(*) from tinydevcrm.table_change_times where relation not in (select relation from tinydevcrm.matview_sources)), 0::bigint,
    'only of tables that views read');
set local session authorization "Tap One";
select tinydevcrm.drop_matview(name::regclass) from unnest(array['half', 'plain', 'v']) as name;
reset session authorization;
call tinydevcrm.settle_jobs();
select is_empty($$ select from tinydevcrm.table_change_times where relation = 'tap.orders'::regclass $$, 'and forgets the others');

select * from finish();

rollback;
