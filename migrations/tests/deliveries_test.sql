-- Subscriptions and deliveries by one worker; many at once are a Go test.

begin;

select plan(41);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('a', 'select 1 as one');
select tinydevcrm.create_matview('b', 'select 2 as two');

select tinydevcrm.refresh_matview('a');

select ok(tinydevcrm.create_subscription('all') is not null, 'create_subscription() returns a number');
select is(
    tinydevcrm.create_subscription('all'),
    (select id from tinydevcrm.subscriptions where name = 'all'),
    'create_subscription() returns the number of an existing one');
select tinydevcrm.create_subscription('only a', 'a');

select is_empty(
    $$ select * from tinydevcrm.receive_events('all') $$,
    'events before the subscription are not delivered');

select tinydevcrm.refresh_matview('a');
select tinydevcrm.refresh_matview('b');

select tinydevcrm.create_subscription('failures', 'b', notify_when => 'failed');
select tinydevcrm.refresh_matview('b');
select is(
    (select xmax::text from tinydevcrm.subscriptions where name = 'failures'), '0',
    'an event locks no subscription whose rules do not hold');
select tinydevcrm.drop_subscription('failures');
delete from tinydevcrm.matview_refresh_events where id = (select max(id) from tinydevcrm.matview_refresh_events);

create temporary table received as
select *
  from tinydevcrm.receive_events('all');

select results_eq(
    'select (event).matview, attempt from received order by delivery_id',
    $$ values ('"My Data".a', 1), ('"My Data".b', 1) $$,
    'a subscription to all views gets the events of all');
select results_eq(
    $$ select (event).rows from tinydevcrm.receive_events('only a') $$,
    $$ values ('[{"one": 1}]'::jsonb) $$,
    'a subscription to one view gets its events, with their rows');
select is_empty(
    $$ select * from tinydevcrm.receive_events('all') $$, 'a received delivery is invisible');

update tinydevcrm.deliveries
   set visible_at = clock_timestamp() - interval '1 second';

select results_eq(
    $$ select attempt from tinydevcrm.receive_events('all', 1) $$, array[2],
    'after the visibility timeout it is received again; batch_size is the limit');
select is(
    tinydevcrm.acknowledge_events(array(select delivery_id from received)), 2::bigint,
    'acknowledge_events() returns how many it acknowledged');
select is(
    tinydevcrm.acknowledge_events(array(select delivery_id from received)), 0::bigint,
    'acknowledge_events() counts none twice');

update tinydevcrm.deliveries
   set visible_at = clock_timestamp() - interval '1 second';

select is_empty(
    $$ select * from tinydevcrm.receive_events('all') $$, 'an acknowledged delivery is not received again');

-- Also without rows to read, and whatever the plan.
create function pg_temp.calls_without_error()
    returns setof text
    language plpgsql
as $$
declare
    v_call text;
begin
    set local enable_indexscan = off;
    set local enable_bitmapscan = off;
    foreach v_call in array array[
        'drop_subscription(''nobody'')', 'pause_subscription(''nobody'')', 'resume_subscription(''nobody'')',
        'redeliver_parked(''nobody'')', 'replay_events(''nobody'', now())', 'rotate_webhook_secret(''nobody'')',
        'latest_deliveries(''nobody'')', 'receive_events(''nobody'')'
    ]
    loop
        begin
            execute 'select tinydevcrm.' || v_call;
            return next v_call;
        exception
            when sqlstate 'TD001' then
        end;
    end loop;
    reset enable_indexscan;
    reset enable_bitmapscan;
end
$$;

select is_empty(
    'select pg_temp.calls_without_error()',
    'every function raises TD001 for an unknown subscription');
select throws_ok(
    $$ select * from tinydevcrm.receive_events('nobody') $$, 'TD001',
    'there is no subscription ''nobody''', 'an unknown subscription is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('') $$, '23514', null, 'an empty name is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('x', 'pg_class') $$, 'TD001', null,
    'a relation that is not watched cannot be subscribed to');

-- rejected, parked, delivered again

select tinydevcrm.create_subscription('few', 'b', max_attempts => 2);
select tinydevcrm.refresh_matview('b');

create temporary table few as
select *
  from tinydevcrm.receive_events('few');

select ok(
    (select tinydevcrm.reject_event(delivery_id, 'no room') from few)
    between clock_timestamp() + interval '2 seconds' and clock_timestamp() + interval '8 seconds',
    'a rejected delivery is retried after about five seconds');
select is_empty(
    $$ select * from tinydevcrm.receive_events('few') $$,
    'a rejected delivery is not received before that');
select is(
    (select array[status, last_error, pending_count::text, in_flight_count::text]
       from tinydevcrm.subscription_status where subscription = 'few'),
    array['failing', 'no room', '1', '0'], 'subscription_status shows why the attempt failed');

create function pg_temp.let_time_pass()
    returns void
    language sql
as $$
    update tinydevcrm.deliveries
       set visible_at = clock_timestamp() - interval '1 second'
     where acknowledged_at is null
$$;

select pg_temp.let_time_pass();
select is(
    (select attempt from tinydevcrm.receive_events('few')), 2, 'attempts are counted');
select is(
    (select tinydevcrm.reject_event(delivery_id, 'still no room') from few), null,
    'to reject the last attempt returns null');
select pg_temp.let_time_pass();
select is_empty($$ select * from tinydevcrm.receive_events('few') $$, 'a parked delivery is not received');
select is(
    (select array[parked_count, pending_count]
       from tinydevcrm.subscription_status where subscription = 'few'),
    array[1, 0]::bigint[], 'a parked delivery is counted as parked');
select throws_ok(
    $$ select tinydevcrm.reject_event(delivery_id) from few $$, 'TD001', null,
    'a delivery that is not pending cannot be rejected');
select is(
    tinydevcrm.redeliver_parked('few'), 1::bigint,
    'redeliver_parked() makes all parked deliveries pending');
select is(
    (select attempt from tinydevcrm.receive_events('few')), 1, 'a redelivered delivery has all its attempts');
select pg_temp.let_time_pass();
select is((select attempt from tinydevcrm.receive_events('few')), 2, 'an attempt whose worker died counts');
select pg_temp.let_time_pass();
select is_empty(
    $$ select * from tinydevcrm.receive_events('few') $$,
    'after the last attempt a delivery is parked without an answer too');
select is(
    (select last_error from tinydevcrm.subscription_status where subscription = 'few'),
    'still no room', 'a parked delivery keeps the last reason');
select lives_ok(
    $$ select tinydevcrm.redeliver_event(max(id)) from tinydevcrm.deliveries where parked_at is not null $$,
    'redeliver_event() makes one delivery pending');
select is(
    (select tinydevcrm.reject_event(delivery_id, 'wait', interval '1 hour')
       from tinydevcrm.receive_events('few')) > clock_timestamp() + interval '59 minutes',
    true, 'a worker can ask for a longer delay');
select is(
    (select max(delay) <= interval '9 hours' and min(delay) >= interval '3 hours'
       from generate_series(1, 100)
      cross join lateral tinydevcrm._compute_retry_delay(100) as delay), true,
    'delays have an upper limit, and differ by chance');

-- paused, replayed

select tinydevcrm.pause_subscription('few');
select pg_temp.let_time_pass();
select is_empty(
    $$ select * from tinydevcrm.receive_events('few') $$,
    'a paused subscription receives nothing');
select tinydevcrm.resume_subscription('few');
select is(
    (select count(*) from tinydevcrm.receive_events('few')), 1::bigint,
    'a resumed subscription receives what was kept');
select is(
    tinydevcrm.replay_events('few', now() - interval '1 hour'),
    (select count(*) - 1 from tinydevcrm.matview_refresh_events where is_notified and matview like '%.b'),
    'replay_events() delivers events from before the subscription');
select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('few');
select ok(
    tinydevcrm.replay_events('few', now() - interval '1 hour') > 0
    and tinydevcrm.replay_events('few', clock_timestamp()) = 0,
    'replay_events() delivers acknowledged events since a time again');

select throws_ok(
    $$ select tinydevcrm.replay_events('few', null) $$, 'TD007', null, 'replay_events() needs a time');
select is(tinydevcrm.acknowledge_events(null), 0::bigint, 'acknowledge_events(null) does nothing');

select tinydevcrm.drop_subscription('few');

select lives_ok($$ select tinydevcrm.drop_matview('a') $$, 'a view with deliveries can be dropped');
select results_eq(
    'select name from tinydevcrm.subscriptions order by 1', array['all', 'only a'],
    'dropping a view leaves the subscriptions to it');
select tinydevcrm.drop_subscription('only a');
select lives_ok($$ select tinydevcrm.drop_subscription('all') $$, 'a subscription can be dropped');
select is_empty('select from tinydevcrm.deliveries', 'dropping a subscription drops its deliveries');

select * from finish();

rollback;
