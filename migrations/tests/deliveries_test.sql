-- Subscriptions and deliveries by one worker; many at once are a Go test.

begin;

select plan(17);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('a', 'select 1 as one');
select tinydevcrm.create_matview('b', 'select 2 as two');

select tinydevcrm.refresh_matview('a');

select ok(tinydevcrm.create_subscription('all') is not null, 'create_subscription() gives a number');
select is(
    tinydevcrm.create_subscription('all'),
    (select id from tinydevcrm.subscriptions where name = 'all'),
    'and the same one when it is there');
select tinydevcrm.create_subscription('only a', 'a');

select is_empty(
    $$ select * from tinydevcrm.receive_events('all') $$,
    'what happened before the subscription is not delivered');

select tinydevcrm.refresh_matview('a');
select tinydevcrm.refresh_matview('b');

create temporary table received as
select *
  from tinydevcrm.receive_events('all');

select results_eq(
    'select (event).matview, attempt from received order by delivery_id',
    $$ values ('"My Data".a', 1), ('"My Data".b', 1) $$,
    'a subscription to all gets the events of all');
select results_eq(
    $$ select (event).rows from tinydevcrm.receive_events('only a') $$,
    $$ values ('[{"one": 1}]'::jsonb) $$,
    'a subscription to one gets the events of the one, with their rows');
select is_empty(
    $$ select * from tinydevcrm.receive_events('all') $$, 'what has been received is not visible');

update tinydevcrm.deliveries
   set visible_at = clock_timestamp() - interval '1 second';

select results_eq(
    $$ select attempt from tinydevcrm.receive_events('all', 1) $$, array[2],
    'until its time is over; a batch has the size asked for');
select is(
    tinydevcrm.acknowledge_events(array(select delivery_id from received)), 2::bigint,
    'acknowledge_events() counts what it ended');
select is(
    tinydevcrm.acknowledge_events(array(select delivery_id from received)), 0::bigint,
    'a second time there is nothing to end');

update tinydevcrm.deliveries
   set visible_at = clock_timestamp() - interval '1 second';

select is_empty(
    $$ select * from tinydevcrm.receive_events('all') $$, 'what is acknowledged does not come back');

select throws_ok(
    $$ select * from tinydevcrm.receive_events('nobody') $$, 'TD001',
    'there is no subscription ''nobody''', 'an unknown subscription is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('') $$, '23514', null, 'an empty name is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('x', 'pg_class') $$, 'TD001', null,
    'what is not watched cannot be subscribed to');

select lives_ok($$ select tinydevcrm.drop_matview('a') $$, 'a view with deliveries can be dropped');
select results_eq(
    'select name from tinydevcrm.subscriptions', array['all'], 'its own subscriptions go with it');
select lives_ok($$ select tinydevcrm.drop_subscription('all') $$, 'a subscription can be dropped');
select is_empty('select from tinydevcrm.deliveries', 'its deliveries go with it');

select * from finish();

rollback;
