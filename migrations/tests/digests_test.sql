-- One post that carries several deliveries: digests.

begin;

select plan(41);

create schema "My Data";
set local search_path = "My Data", public;
-- Digests are judged by times of the past that the test sets itself.
set local timezone = 'UTC';

select tinydevcrm.create_matview('v' || i, 'select 1 as one, 2 as two', 'always') from generate_series(1, 3) as i;
select tinydevcrm.create_webhook('hook', 'https://example.com/', digest => 'daily at 8:00 Europe/Berlin');
select tinydevcrm.create_webhook('chat', 'https://ntfy.sh/topic', digest => 'hourly', numbers_as_text => true);
select tinydevcrm.create_webhook('plain', 'https://example.com/');

create function pg_temp.hook(name text)
    returns bigint
    language sql
as $$
    select id
      from tinydevcrm.subscriptions
     where subscriptions.name = hook.name
$$;

-- What a program receives, and what follows.
create temporary table posts as
select *
  from tinydevcrm._receive_posts(0, 1, '1 minute');
create function pg_temp.receive(name text)
    returns bigint
    language sql
as $$
    truncate posts;
    insert into posts
    select *
      from tinydevcrm._receive_posts(pg_temp.hook(name), 100, '1 minute', 64);
    select count(*)
      from posts;
$$;
create function pg_temp.is_due(name text)
    returns boolean
    language sql
as $$
    select exists (select from tinydevcrm._list_due_webhooks() as due where due.name = is_due.name)
$$;
-- Lets a day pass.
create function pg_temp.pass(name text, period interval default interval '1 day')
    returns void
    language sql
as $$
    update tinydevcrm.deliveries
       set created_at = created_at - period,
           visible_at = visible_at - period
     where subscription_id = pg_temp.hook(name)
       and acknowledged_at is null;
    update tinydevcrm.webhooks
       set next_post_at = next_post_at - period,
           next_probe_at = next_probe_at - period,
           posted_at = array(select at - period from unnest(posted_at) as at)
     where subscription_id = pg_temp.hook(name);
$$;

-- schedules

select is(
    (select (next_post_at at time zone 'Europe/Berlin')::time from tinydevcrm.webhooks where subscription_id = pg_temp.hook('hook')),
    '08:00'::time, 'a digest is due at its time in its time zone');
-- Half a day away, so that no minute that the test lets pass goes over it.
select tinydevcrm.set_digest('hook', to_char(now() + interval '12 hours', '"daily at "HH24:MI" UTC"'));
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', 'https://example.com/', digest => 'now and then') $$, 'TD003', null,
    'a digest that is no schedule is refused');
select throws_ok(
    $$ select tinydevcrm.set_digest('hook', '5 seconds') $$, 'TD003', '''5 seconds'' cannot be a digest',
    'a digest each second is refused');
select throws_ok(
    $$ select tinydevcrm.set_digest('hook', 'on change') $$, 'TD003', null, 'a digest on change is refused');
select throws_ok(
    $$ update tinydevcrm.webhooks set digest = 'never ever' $$, 'TD003', null, 'also when it is written directly');
select tinydevcrm.create_subscription('worker');
select throws_ok(
    $$ select tinydevcrm.set_digest('worker', 'hourly') $$, 'TD001', null, 'a worker has no digest');

-- one post

select tinydevcrm.refresh_matview('v1');
select tinydevcrm.refresh_matview('v2');
select tinydevcrm.refresh_matview('v1');
select ok(pg_temp.is_due('plain'), 'without a digest deliveries are posted at once');
select ok(not pg_temp.is_due('hook'), 'with a digest they wait');
select is(pg_temp.receive('hook'), 0::bigint, 'and are not received before');
select ok(
    (select next_attempt_at > now() from tinydevcrm.subscription_status where subscription = 'hook'),
    'the status says until when');
select pg_temp.pass('hook');
select tinydevcrm.refresh_matview('v3');
select ok(pg_temp.is_due('hook'), 'then it is due');
select is(pg_temp.receive('hook'), 1::bigint, 'all are one post');

create temporary table expected as
select array_agg(id order by id) as ids,
       format('events_%s_%s', min(id), max(id)) as message_id
  from tinydevcrm.matview_refresh_events;
select is(
    (select array_agg((event.value ->> 'id')::bigint order by event.number)
       from posts cross join lateral json_array_elements(body #> '{data,events}') with ordinality as event (value, number)),
    (select ids from expected), 'which has the events of all views, the newest last, those included that came after the time');
select is(
    (select array[body ->> 'type', body #>> '{data,event_count}', body #>> '{data,omitted_count}', message_id] from posts),
    (select array['digest', '4', '0', message_id] from expected), 'with their number, and an id by the first and the last');
select is(pg_temp.receive('hook'), 0::bigint, 'while it is posted nothing else is');
select is_empty(
    $$ select from tinydevcrm.receive_events('hook') $$, 'what it carries is received by nobody');

create function pg_temp.refuse(status integer)
    returns text
    language sql
as $$
    select tinydevcrm._refuse_post(pg_temp.hook('hook'), delivery_id, status, 'no', null, early)
      from posts
$$;

-- a retry is the same message

select tinydevcrm._receive_posts(pg_temp.hook('plain'), 100, '1 minute');
create temporary table first_post as table posts;
truncate first_post;
select pg_temp.pass('hook', '2 minutes');
select is(pg_temp.receive('hook'), 1::bigint, 'when the program dies it is received again');
insert into first_post table posts;
select is(pg_temp.refuse(503), null, 'when it is refused');
select tinydevcrm.refresh_matview('v2');
select is(pg_temp.receive('hook'), 0::bigint, 'it waits for its retry, and what is new waits behind it');
select pg_temp.pass('hook', '10 minutes');
select is(pg_temp.receive('hook'), 1::bigint, 'then it is posted again');
select results_eq(
    'select message_id, body::text, delivery_id from posts', 'select message_id, body::text, delivery_id from first_post',
    'as it was, without what is new');

select tinydevcrm._accept_posts(array[pg_temp.hook('hook')], array(select delivery_id from posts));
select is(
    (select array[pending_count, parked_count] from tinydevcrm.subscription_status where subscription = 'hook'), array[1, 0]::bigint[],
    'when it is accepted all that it carries is acknowledged');
select is(
    (select count(distinct carried_by) from tinydevcrm.latest_deliveries('hook') where status = 'acknowledged'), 1::bigint,
    'the list of deliveries says which one carried the others');
select ok(not pg_temp.is_due('hook'), 'what is new waits for the next time');
select is(pg_temp.receive('hook'), 0::bigint, 'also when it is asked for');
select pg_temp.pass('hook');
select is(pg_temp.receive('hook'), 1::bigint, 'and then comes');
select is(
    (select body ->> 'type' from posts), 'matview.refreshed', 'a single event is a message as without a digest');

-- parked and redelivered

update tinydevcrm.deliveries
   set attempts = 12
 where id in (select delivery_id from posts);
select pg_temp.refuse(500);
select is((select parked_count from tinydevcrm.subscription_status where subscription = 'hook'), 1::bigint, 'it can be parked');
select tinydevcrm.redeliver_event(delivery_id)
  from tinydevcrm.latest_deliveries('hook')
 where carried_by is null;
select is(
    (select pending_count from tinydevcrm.subscription_status where subscription = 'hook'), 5::bigint,
    'a digest is redelivered with all that it carries');
select pg_temp.pass('hook');
select is(pg_temp.receive('hook'), 1::bigint, 'as one message');
select is((select (body #>> '{data,event_count}')::integer from posts), 4, 'of what it had; a later event of a view of it follows in the next one');

-- in the words of a chat

select pg_temp.pass('chat');
select pg_temp.receive('chat');
select is(
    (select array[body ->> 'title', body ->> 'severity', body ->> 'path', body ->> 'message_id'] from posts),
    (select array['5 notifications: "My Data".v1 (2), "My Data".v2 (2), "My Data".v3 (1)', 'change', '/subscriptions/chat', message_id]
       from (select format('events_%s_%s', min(id), max(id)) as message_id from tinydevcrm.matview_refresh_events) as expected),
    'a chat gets a title with the views');
select is(
    (select string_agg(event.value ->> 'title', ', ') from posts cross join lateral json_array_elements(body -> 'events') as event),
    (select string_agg(format('"My Data".%s: 1 row', substring(matview from '[^.]*$')), ', ' order by id)
       from tinydevcrm.matview_refresh_events), 'and each event in its own words');
select is(
    (select body #>> '{events,0,event,rows}' from posts), '[{"one": "1", "two": "2"}]',
    'numbers are texts where the subscription wants that');

-- a long one is cut

select tinydevcrm._accept_posts(array[pg_temp.hook('chat')], array(select delivery_id from posts));
select tinydevcrm.refresh_matview('v1') from generate_series(1, 60);
select pg_temp.pass('chat');
select pg_temp.receive('chat');
select is(
    (select array[json_array_length(body -> 'events')::text, body ->> 'summary'] from posts),
    array['50', '60 notifications from "My Data".v1 (60). The first 10 are left out here.'],
    'a digest shows the newest 50, and says how many there are');
select is(
    (select body #>> '{events,49,event,id}' from posts), (select max(id)::text from tinydevcrm.matview_refresh_events),
    'the newest is the last');
select tinydevcrm._accept_posts(array[pg_temp.hook('chat')], array(select delivery_id from posts));
select is((select pending_count from tinydevcrm.subscription_status where subscription = 'chat'), 0::bigint, 'those left out are delivered too');

-- retention

select tinydevcrm.refresh_matview('v1') from generate_series(1, 3);
select pg_temp.pass('chat');
select pg_temp.receive('chat');
delete
  from tinydevcrm.matview_refresh_events
 where id = (select min(event_id) from tinydevcrm.deliveries where subscription_id = pg_temp.hook('chat') and acknowledged_at is null);
select pg_temp.pass('chat');
select is(pg_temp.receive('chat'), 1::bigint, 'when the event that carries others is removed');
select is((select json_array_length(body -> 'events') from posts), 2, 'these are posted all the same');

-- its end

select is(tinydevcrm.set_digest('hook', null), null, 'a digest can be ended');
select tinydevcrm.refresh_matview('v3');
update tinydevcrm.deliveries
   set state = 'acknowledged'
 where subscription_id = pg_temp.hook('hook')
   and attempts > 0;
select ok(pg_temp.is_due('hook'), 'and deliveries are posted at once again');

select * from finish();

rollback;
