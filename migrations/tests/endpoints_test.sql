-- When the endpoint of a webhook counts as down, what probes it, and what follows when it is back.

begin;

select plan(35);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(1, 8) as i;
select tinydevcrm.create_webhook('hook', 'https://example.com/');

create temporary table hook as
select id
  from tinydevcrm.subscriptions
 where name = 'hook';

create temporary table received (number bigint generated always as identity, delivery_id bigint, event_id bigint, early interval);

create function pg_temp.receive(batch_size integer)
    returns bigint
    language sql
as $$
    truncate received restart identity;
    insert into received (delivery_id, event_id, early)
    select posts.delivery_id, substr(posts.message_id, 7)::bigint, posts.early
      from hook
     cross join lateral tinydevcrm._receive_posts(hook.id, batch_size, '1 minute') as posts;
    select count(*)
      from received;
$$;

create function pg_temp.refuse(status integer, retry_after interval default null)
    returns text
    language sql
as $$
    select max(refused)
      from received
     cross join hook
     cross join lateral tinydevcrm._refuse_post(
               hook.id, received.delivery_id, status, 'no', retry_after, received.early) as refused
$$;

create function pg_temp.is_down()
    returns boolean
    language sql
as $$
    select tinydevcrm._endpoint_is_down(webhooks)
      from tinydevcrm.webhooks
$$;

create function pg_temp.pass_probe_pause()
    returns void
    language sql
as $$
    update tinydevcrm.webhooks
       set next_probe_at = clock_timestamp()
$$;

-- down

select tinydevcrm.refresh_matview(('v' || i)::regclass) from generate_series(1, 8) as i;
select tinydevcrm.refresh_matview('v1');
select is(pg_temp.receive(4), 4::bigint, 'an endpoint that answers gets several at once');
select is(pg_temp.refuse(503), null, 'after four failures it is not yet down');
select is(
    (select failing_since between now() and clock_timestamp() from tinydevcrm.webhooks), true,
    'but it fails since the first one');
select is(pg_temp.receive(1), 1::bigint, 'and is tried with another one');
select is(pg_temp.refuse(null), 'down', 'after the fifth it is down: that is said once');
select ok(pg_temp.is_down(), 'which is its state');
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'it is not due');
select is(pg_temp.receive(10), 0::bigint, 'nothing is posted to it');
select ok(
    (select next_attempt_at between clock_timestamp() + '3 s' and clock_timestamp() + '7 s'
       from tinydevcrm.subscription_status),
    'the status shows the next probe, after about five seconds');
select results_eq(
    'select attempts, count(*) from tinydevcrm.deliveries group by 1 order by 1',
    $$ values (0, 4::bigint), (1, 5) $$, 'the others have lost no attempt');

-- probes

select pg_temp.pass_probe_pause();
select is((select name from tinydevcrm._list_due_webhooks()), 'hook', 'when it is time, a probe is due');
select is(pg_temp.receive(10), 1::bigint, 'one delivery is the probe');
update tinydevcrm.deliveries set visible_at = clock_timestamp() where not is_in_flight and acknowledged_at is null;
select is_empty(
    'select from hook, tinydevcrm._receive_posts(hook.id, 10, ''1 minute'')',
    'while it is in flight, no other program probes');
create temporary table first_probe as
select * from received;
select is(pg_temp.refuse(503), null, 'when it fails, the endpoint stays down');
select ok(
    (select next_probe_at between clock_timestamp() + '7 s' and clock_timestamp() + '13 s' from tinydevcrm.webhooks),
    'and the pause is twice as long');
select is(
    (select attempts from tinydevcrm.deliveries join first_probe on id = delivery_id), 1,
    'a probe that the endpoint cannot answer costs no more than its first attempt');
select pg_temp.pass_probe_pause();
select pg_temp.receive(1);
select isnt(
    (select delivery_id from received), (select delivery_id from first_probe),
    'another delivery is the next probe');
select pg_temp.refuse(503);

do $$
begin
    for i in 1..40 loop
        perform pg_temp.pass_probe_pause();
        perform pg_temp.receive(1);
        perform pg_temp.refuse(504);
    end loop;
end
$$;
select is_empty(
    'select from tinydevcrm.deliveries where attempts > 1 or parked_at is not null',
    'however long it is down, no delivery is parked for it');
select ok(
    (select next_probe_at between clock_timestamp() + '90 s' and clock_timestamp() + '150 s' from tinydevcrm.webhooks),
    'the pause grows to two minutes');
select is(
    (select status from tinydevcrm.subscription_status), 'failing', 'the status says that it fails');

-- retry now

select tinydevcrm.pause_subscription('hook');
select is(tinydevcrm.retry_subscription('hook'), 0::bigint, 'retry_subscription() tries nothing of a paused subscription');
select tinydevcrm.resume_subscription('hook');
select is(tinydevcrm.retry_subscription('hook'), 9::bigint, 'retry_subscription() returns how many are pending');
select is((select name from tinydevcrm._list_due_webhooks()), 'hook', 'and makes a probe due');

-- back

select pg_temp.receive(10);
create temporary table back as
select accepted.*
  from hook
 cross join lateral tinydevcrm._accept_posts(array[hook.id], array(select delivery_id from received)) as accepted;
select results_eq(
    'select down_since <= clock_timestamp(), waiting_count from back',
    $$ values (true, 8::bigint) $$, 'the first success says since when it was down, and what waits');
select ok(not pg_temp.is_down(), 'the endpoint is back');
select is(pg_temp.receive(100), 8::bigint, 'and everything that waits is due');
select is(
    (select array_agg(event_id order by number) from received),
    (select array_agg(event_id order by event_id) from tinydevcrm.deliveries where acknowledged_at is null),
    'oldest first');
select is_empty(
    'select from hook, tinydevcrm._accept_posts(array[hook.id], array(select delivery_id from received))',
    'a further success says nothing');

-- one bad message

select tinydevcrm.refresh_matview('v1');
do $$
begin
    for i in 1..11 loop
        update tinydevcrm.deliveries set visible_at = clock_timestamp() where acknowledged_at is null;
        perform pg_temp.receive(1);
        perform pg_temp.refuse(400);
    end loop;
end
$$;
select ok(not pg_temp.is_down(), 'a message that is refused again and again does not make the endpoint count as down');
update tinydevcrm.deliveries set visible_at = clock_timestamp() where acknowledged_at is null;
select pg_temp.receive(1);
select pg_temp.refuse(400);
select is(
    (select count(*) from tinydevcrm.deliveries where parked_at is not null), 1::bigint,
    'and is parked after its own attempts');

-- A success between the failures.
select tinydevcrm.refresh_matview('v1');
select tinydevcrm.refresh_matview('v2');
select pg_temp.receive(1);
select pg_temp.refuse(500);
create temporary table bad as
select delivery_id from received;
select pg_temp.receive(1);
select tinydevcrm._accept_posts(array[hook.id], array(select delivery_id from received)) from hook;
select results_eq(
    'select attempts, visible_at > clock_timestamp() from tinydevcrm.deliveries join bad on id = delivery_id',
    $$ values (1, true) $$,
    'a success of another delivery does not hasten the retry of one that fails on its own');
select is((select failure_count from tinydevcrm.webhooks), 0, 'but ends the failures in a row');

-- A 500 for the only message: probed early, at the pace of probes; its attempts are those of its own retries.
update tinydevcrm.deliveries set state = 'acknowledged' where acknowledged_at is null and id not in (select delivery_id from bad);
do $$
begin
    for i in 1..30 loop
        perform pg_temp.pass_probe_pause();
        if not pg_temp.is_down() then
            update tinydevcrm.deliveries set visible_at = clock_timestamp() where acknowledged_at is null;
        end if;
        perform pg_temp.receive(1);
        perform pg_temp.refuse(500);
    end loop;
end
$$;
select results_eq(
    'select attempts < 8, state from tinydevcrm.deliveries join bad on id = delivery_id',
    $$ values (true, 'pending') $$, 'early probes cost no attempts');

-- another URL
select ok(pg_temp.is_down(), 'it is down');
update tinydevcrm.webhooks set url = 'https://example.com/other';
select is(
    (select array[failure_count::text, failing_since::text] from tinydevcrm.webhooks), array['0', null],
    'another URL has not failed yet');

select * from finish();

rollback;
