begin;
select plan(15);

create table numbers (n integer);
insert into numbers values (1);
select tinydevcrm.create_matview('v', 'select n from numbers', 'always') \g /dev/null
select tinydevcrm.create_subscription('s', max_attempts => 2) \g /dev/null
select tinydevcrm.refresh_matview('v') from generate_series(1, 5) \g /dev/null

prepare statuses as
    select array_agg(status order by delivery_id)
      from tinydevcrm.latest_deliveries('s');

select results_eq(
    'statuses', $$ values (array['pending', 'pending', 'pending', 'pending', 'pending']) $$,
    'a delivery that was not received is pending');

create temporary table received as
    select row_number() over (order by delivery_id) as number,
           delivery_id
      from tinydevcrm.receive_events('s', 4);
select results_eq(
    'statuses', $$ values (array['in flight', 'in flight', 'in flight', 'in flight', 'pending']) $$,
    'a received delivery is in flight');

select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from received where number = 1 \g /dev/null
select tinydevcrm.reject_event(delivery_id, 'no') from received where number > 1 \g /dev/null
update tinydevcrm.deliveries set visible_at = now() where id = (select delivery_id from received where number = 2);
select tinydevcrm.receive_events('s', 1) \g /dev/null
select tinydevcrm.reject_event(delivery_id, 'no again') from received where number = 2 \g /dev/null
select results_eq(
    'statuses', $$ values (array['acknowledged', 'parked', 'failing', 'failing', 'pending']) $$,
    'an answer makes it acknowledged, failing or parked');

select is(last_error, 'no again', 'a parked delivery shows the reason')
  from tinydevcrm.latest_deliveries('s')
 where status = 'parked';
select is(next_attempt_at, null, 'a parked delivery has no next attempt')
  from tinydevcrm.latest_deliveries('s')
 where status = 'parked';
select ok(bool_and(next_attempt_at > now()), 'a failing delivery has a next attempt')
  from tinydevcrm.latest_deliveries('s')
 where status = 'failing';
select is(
    array(select delivery_id from tinydevcrm.latest_deliveries('s')),
    array(select id from tinydevcrm.deliveries order by id desc),
    'the newest delivery comes first');
select is(count(*), 2::bigint, 'row_limit is the limit')
  from tinydevcrm.latest_deliveries('s', 2);
select is(
           array(select status from tinydevcrm._list_deliveries('s', kinds.kind, null, 9)),
           kinds.statuses,
           format('the deliveries of kind %s are listed, newest first', kinds.kind))
  from (values ('waiting', array['pending', 'failing', 'failing']),
               ('failing', array['failing', 'failing']),
               ('parked', array['parked']),
               ('acknowledged', array['acknowledged']),
               ('nonsense', array[]::text[])) as kinds (kind, statuses);
select is(
    array(
        select listed.delivery_id
          from tinydevcrm._list_deliveries(
                   's', 'failing', (select max(id) from tinydevcrm.deliveries where last_error is not null and state = 'pending'), 9)
               as listed),
    array(
        select min(id) from tinydevcrm.deliveries where last_error is not null and state = 'pending'),
    'a page begins before a delivery');
select throws_ok(
    $$ select tinydevcrm.latest_deliveries('none') $$, 'TD001', null,
    'an unknown subscription is refused');

select * from finish();
rollback;
