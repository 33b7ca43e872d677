-- The order of deliveries, per view, by one worker; several programs at once are a Go test.

begin;

select plan(23);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('a', 'select 1 as one');
select tinydevcrm.create_matview('b', 'select 2 as two');
select tinydevcrm.create_subscription('s');

create function pg_temp.refresh(relation regclass, count integer default 1)
    returns void
    language sql
as $$
    select tinydevcrm.refresh_matview(relation)
      from generate_series(1, count)
$$;

create temporary table received (number bigint generated always as identity, delivery_id bigint, view text, event_id bigint, superseded_by bigint);

-- Receives a batch and says of which view the events are.
create function pg_temp.receive(batch_size integer, visibility_timeout interval default '30 seconds')
    returns text
    language sql
as $$
    truncate received restart identity;
    insert into received (delivery_id, view, event_id, superseded_by)
    select delivery_id, right((event).matview, 1), (event).id, superseded_by
      from tinydevcrm.receive_events('s', batch_size, visibility_timeout);
    select coalesce(string_agg(view, '' order by number), '')
      from received;
$$;

create function pg_temp.delivery(number integer)
    returns bigint
    language sql
as $$
    select delivery_id
      from received
     where received.number = delivery.number
$$;

create function pg_temp.let_time_pass()
    returns void
    language sql
as $$
    update tinydevcrm.deliveries
       set visible_at = clock_timestamp() - interval '1 second'
     where acknowledged_at is null
$$;

select pg_temp.refresh('a', 3);
select pg_temp.refresh('b', 2);
select pg_temp.refresh('a');

select is(pg_temp.receive(2), 'aa', 'a batch has the oldest ones');
select is(pg_temp.receive(10), 'bb', 'what is in flight holds up the later ones of its view, and of no other');
select is(pg_temp.receive(10), '', 'until it is answered');
select pg_temp.let_time_pass();
select is(pg_temp.receive(100), 'aaabba', 'a batch with all has them in the order of the events');

select tinydevcrm.acknowledge_events(array[pg_temp.delivery(1), pg_temp.delivery(4), pg_temp.delivery(5)]);
select tinydevcrm.reject_event(pg_temp.delivery(2), 'no');
update tinydevcrm.deliveries set visible_at = clock_timestamp() where is_in_flight and acknowledged_at is null;
select is(pg_temp.receive(10), '', 'one that waits for its retry holds up the later ones');
select pg_temp.refresh('b');
select is(pg_temp.receive(10), 'b', 'of its view only');
select tinydevcrm.acknowledge_events(array[pg_temp.delivery(1)]);
select pg_temp.let_time_pass();
select is(pg_temp.receive(10), 'aaa', 'after the retry they come in order');

-- The second is in flight with another worker, the first is due again.
select tinydevcrm.reject_event(pg_temp.delivery(1), 'no');
update tinydevcrm.deliveries
   set visible_at = clock_timestamp()
 where id in (pg_temp.delivery(1), pg_temp.delivery(3));
select is(pg_temp.receive(10), 'a', 'a batch ends before one that is in flight');

select pg_temp.let_time_pass();
select is(pg_temp.receive(1), 'a', 'the first one comes again');
update tinydevcrm.deliveries set state = 'parked' where id = pg_temp.delivery(1);
create temporary table parked as
select * from received;
select is(pg_temp.receive(10), 'aa', 'a parked one holds up none');
select tinydevcrm.acknowledge_events(array(select delivery_id from received));

select tinydevcrm.redeliver_parked('s');
select is(pg_temp.receive(10), 'a', 'it can be delivered again');
select is(
    (select superseded_by from received),
    (select max(id) from tinydevcrm.matview_refresh_events where matview like '%.a'),
    'superseded_by is the newest event of its view that was acknowledged');
select is(
    (select tinydevcrm._build_webhook_body(events, superseded_by) ->> 'superseded_by'
       from received join tinydevcrm.matview_refresh_events as events on events.id = event_id),
    (select superseded_by::text from received), 'the body of a post says so too');
select tinydevcrm.acknowledge_events(array(select delivery_id from received));

select tinydevcrm.replay_events('s', '-infinity');
select is(pg_temp.receive(100), 'aaabbab', 'replayed events come in their order');
select is_empty(
    'select from received where superseded_by is not null',
    'and are not superseded, because the newer ones follow');
select tinydevcrm.acknowledge_events(array(select delivery_id from received));

-- Several views at once; as many wait behind the head of one.
select pg_temp.refresh('a', 3);
select pg_temp.refresh('b', 2);
select is(
    (select array_agg(right((event).matview, 1) order by (event).id)
       from tinydevcrm.subscriptions
      cross join lateral tinydevcrm._receive_deliveries(subscriptions.id, 10, '1 minute', 2)
      where name = 's'),
    '{a,a,b,b}', 'run_length limits those of each view');
select pg_temp.let_time_pass();
select pg_temp.receive(100);
select tinydevcrm.acknowledge_events(array(select delivery_id from received));

-- More views than are looked at: each has its turn.
select tinydevcrm.create_matview('v' || i, 'select 1 as one') from generate_series(1, 300) as i;
select pg_temp.refresh(('v' || i)::regclass, 2) from generate_series(1, 300) as i;
create temporary table first_batch as
select pg_temp.receive(100) as views;
select is((select count(distinct event_id) from received), 100::bigint, 'a batch of many views is full');
create temporary table many as
select 0::bigint as round, received.event_id from received;
do $$
begin
    for i in 1..50 loop
        perform pg_temp.receive(100);
        insert into many select i, event_id from received;
        exit when not exists (select from received);
    end loop;
end
$$;
select is((select count(*) from many), 600::bigint, 'all views have their turn, whichever is looked at first');
select is((select count(distinct event_id) from many), 600::bigint, 'and none comes twice');
select is_empty(
    $$ select
         from many
         join tinydevcrm.matview_refresh_events as events on events.id = many.event_id
         join (select * from many) as earlier on earlier.round > many.round
         join tinydevcrm.matview_refresh_events as earlier_events
           on earlier_events.id = earlier.event_id
          and earlier_events.matview_id = events.matview_id
          and earlier_events.id < events.id $$,
    'in the order of each view');

-- What waits behind a head and is not due takes no place of a batch.
select tinydevcrm.create_subscription('full');
select pg_temp.refresh('a', 6);
select pg_temp.refresh('b');
update tinydevcrm.deliveries set visible_at = clock_timestamp() + '1 minute'
 where id in (
           select deliveries.id
             from tinydevcrm.deliveries
             join tinydevcrm.subscriptions on subscriptions.id = deliveries.subscription_id
             join tinydevcrm.matviews on matviews.id = deliveries.matview_id
            where subscriptions.name = 'full'
              and matviews.relation = 'a'::regclass
            order by deliveries.event_id
           offset 1
       );
select is(
    (select string_agg(right((event).matview, 1), '' order by (event).id) from tinydevcrm.receive_events('full', 5)), 'ab',
    'a batch has the heads of all views, though more than a batch wait behind one');

select tinydevcrm.create_subscription('most');
select pg_temp.refresh('a');
select tinydevcrm.create_matview('c' || i, 'select 1 as one') from generate_series(1, 12) as i;
select pg_temp.refresh(('c' || i)::regclass) from generate_series(1, 12) as i;
update tinydevcrm.deliveries set visible_at = clock_timestamp() + interval '1 minute' where event_id = (select max(id) from tinydevcrm.matview_refresh_events);
select is(
    (select count(*) from tinydevcrm.receive_events('most', 2147483647)), 12::bigint, 'a batch may be as large as a number');

-- A user's own insert names no view.
insert into tinydevcrm.deliveries (subscription_id, event_id)
select subscriptions.id, events.id
  from tinydevcrm.subscriptions
 cross join lateral (select min(id) as id from tinydevcrm.matview_refresh_events) as events
on conflict do nothing;
select is_empty(
    $$ select from tinydevcrm.deliveries
         join tinydevcrm.matview_refresh_events as events on events.id = event_id
        where deliveries.matview_id <> coalesce(events.matview_id, 0) $$,
    'a delivery has the view of its event');

select * from finish();

rollback;
