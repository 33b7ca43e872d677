-- What the page of one event shows beside the event.

begin;

select plan(6);

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Two" login in role tinydevcrm_user;
create schema tap authorization "Tap One";
set local search_path = tap, public;
set local session authorization "Tap One";

create temporary table ids (name text, id bigint);
grant select on ids to "Tap Two";
select tinydevcrm.create_matview(name, 'select 1 as n', rule)
  from (values ('v', 'always'), ('w', 'always'), ('quiet', 'never')) as views (name, rule) \g /dev/null
select tinydevcrm.create_subscription(name) from unnest(array['a', 'b']) as name \g /dev/null
insert into ids select 'first', id from tinydevcrm.refresh_matview('v');
insert into ids select 'other', id from tinydevcrm.refresh_matview('w');
insert into ids select 'second', id from tinydevcrm.refresh_matview('v');
select tinydevcrm.watch_matview('v', 'never') \g /dev/null
select tinydevcrm.refresh_matview('v') \g /dev/null
select tinydevcrm.watch_matview('v', 'always') \g /dev/null
insert into ids select 'third', id from tinydevcrm.refresh_matview('v');

create function pg_temp.id(name text) returns bigint language sql as 'select id from ids where ids.name = id.name';

select is(
    (select concat_ws(' ', previous = pg_temp.id('first'), next = pg_temp.id('third'))
       from tinydevcrm._find_neighbours(pg_temp.id('second'))),
    't t', 'the neighbours are those of the same view that notified');
select is(
    (select concat_ws(' ', previous, next) from tinydevcrm._find_neighbours(pg_temp.id('other'))), '',
    'a view''s only event has none');

select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('a') \g /dev/null
select results_eq(
    $$ select subscription, status, acknowledged_at is not null from tinydevcrm._list_event_deliveries(pg_temp.id('first')) $$,
    $$ values ('b', 'pending', false), ('a', 'acknowledged', true) $$,
    'what is not acknowledged comes first');

set local session authorization "Tap Two";
select is_empty('select * from tinydevcrm._list_event_deliveries(pg_temp.id(''first''))', 'another user sees no delivery');
select is(
    (select concat_ws(' ', previous, next) from tinydevcrm._find_neighbours(pg_temp.id('second'))), '',
    'another user sees no neighbour');
reset session authorization;
select is_empty(
    'select * from tinydevcrm._list_event_deliveries(pg_temp.id(''first''))', 'a superuser sees only deliveries to own subscriptions');

select * from finish();

rollback;
