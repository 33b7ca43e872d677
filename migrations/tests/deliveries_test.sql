-- Subscriptions and deliveries by one worker; many at once are a Go test.

begin;

select plan(40);

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

-- Also where there is nothing to look through, by whatever plan.
create function pg_temp.accept_nobody()
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

select is_empty('select pg_temp.accept_nobody()', 'a subscription that is not there is told by every function');
select throws_ok(
    $$ select * from tinydevcrm.receive_events('nobody') $$, 'TD001',
    'there is no subscription ''nobody''', 'an unknown subscription is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('') $$, '23514', null, 'an empty name is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('x', 'pg_class') $$, 'TD001', null,
    'what is not watched cannot be subscribed to');

-- rejected, parked, delivered again

select tinydevcrm.create_subscription('few', 'b', max_attempts => 2);
select tinydevcrm.refresh_matview('b');

create temporary table few as
select *
  from tinydevcrm.receive_events('few');

select ok(
    (select tinydevcrm.reject_event(delivery_id, 'no room') from few)
    between clock_timestamp() + interval '2 seconds' and clock_timestamp() + interval '8 seconds',
    'what is rejected comes back after about five seconds');
select is_empty($$ select * from tinydevcrm.receive_events('few') $$, 'not sooner');
select is(
    (select array[status, last_error, pending_count::text, in_flight_count::text]
       from tinydevcrm.subscription_status where subscription = 'few'),
    array['failing', 'no room', '1', '0'], 'subscription_status says why');

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
    (select attempt from tinydevcrm.receive_events('few')), 2, 'the next attempt has the next number');
select is(
    (select tinydevcrm.reject_event(delivery_id, 'still no room') from few), null,
    'the last one that is rejected has no further one');
select pg_temp.let_time_pass();
select is_empty($$ select * from tinydevcrm.receive_events('few') $$, 'it is parked');
select is(
    (select array[parked_count, pending_count]
       from tinydevcrm.subscription_status where subscription = 'few'),
    array[1, 0]::bigint[], 'and counted as such');
select throws_ok(
    $$ select tinydevcrm.reject_event(delivery_id) from few $$, 'TD001', null,
    'what is not pending cannot be rejected');
select is(tinydevcrm.redeliver_parked('few'), 1::bigint, 'redeliver_parked() brings all of them back');
select is(
    (select attempt from tinydevcrm.receive_events('few')), 1, 'with all their attempts');
select pg_temp.let_time_pass();
select is((select attempt from tinydevcrm.receive_events('few')), 2, 'a worker that dies uses one up');
select pg_temp.let_time_pass();
select is_empty($$ select * from tinydevcrm.receive_events('few') $$, 'after the last one it is parked');
select is(
    (select last_error from tinydevcrm.subscription_status where subscription = 'few'),
    'still no room', 'with the last reason that was given');
select lives_ok(
    $$ select tinydevcrm.redeliver_event(max(id)) from tinydevcrm.deliveries where parked_at is not null $$,
    'redeliver_event() brings back one');
select is(
    (select tinydevcrm.reject_event(delivery_id, 'wait', interval '1 hour')
       from tinydevcrm.receive_events('few')) > clock_timestamp() + interval '59 minutes',
    true, 'a worker can ask for a longer pause');
select is(
    (select max(delay) <= interval '9 hours' and min(delay) >= interval '3 hours'
       from generate_series(1, 100)
      cross join lateral tinydevcrm._compute_retry_delay(100) as delay), true,
    'pauses have an end, and are not all alike');

-- paused, replayed

select tinydevcrm.pause_subscription('few');
select pg_temp.let_time_pass();
select is_empty($$ select * from tinydevcrm.receive_events('few') $$, 'nothing is received while it is paused');
select tinydevcrm.resume_subscription('few');
select is(
    (select count(*) from tinydevcrm.receive_events('few')), 1::bigint, 'and all of it after');
select is(
    tinydevcrm.replay_events('few', now() - interval '1 hour'),
    (select count(*) - 1 from tinydevcrm.matview_refresh_events where is_notified and matview like '%.b'),
    'replay_events() brings what was told before the subscription');
select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('few');
select ok(
    tinydevcrm.replay_events('few', now() - interval '1 hour') > 0
    and tinydevcrm.replay_events('few', clock_timestamp()) = 0,
    'and what was acknowledged, since the time given');

select throws_ok(
    $$ select tinydevcrm.replay_events('few', null) $$, 'TD007', null, 'no time is no time');
select is(tinydevcrm.acknowledge_events(null), 0::bigint, 'to acknowledge nothing is harmless');

select tinydevcrm.drop_subscription('few');

select lives_ok($$ select tinydevcrm.drop_matview('a') $$, 'a view with deliveries can be dropped');
select results_eq(
    'select name from tinydevcrm.subscriptions', array['all'], 'its own subscriptions go with it');
select lives_ok($$ select tinydevcrm.drop_subscription('all') $$, 'a subscription can be dropped');
select is_empty('select from tinydevcrm.deliveries', 'its deliveries go with it');

select * from finish();

rollback;
