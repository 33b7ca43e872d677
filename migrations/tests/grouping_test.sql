-- Many failures at once are one delivery, where the subscription groups them; and a muted
-- subscription gets none.

begin;

select plan(37);

create schema "My Data";
set local search_path = "My Data", public;

create table numbers (n integer);
insert into numbers values (1);

create table others (n integer);
insert into others values (1);

select tinydevcrm.create_matview('v' || number, 'select 1 / n as n from numbers', 'never')
  from generate_series(1, 3) as number;
select tinydevcrm.create_matview('other', 'select sqrt(n) as n from others', 'never');
select tinydevcrm.create_webhook('hook', 'https://example.com/');
select tinydevcrm.create_webhook('one', 'https://example.com/', 'v1');
select tinydevcrm.create_subscription('worker');
select tinydevcrm.create_subscription('reader');

create function pg_temp.refresh_all()
    returns void
    language sql
as $$
    select tinydevcrm.refresh_matview(relation)
      from tinydevcrm.matviews
     order by id
$$;

-- The deliveries of a subscription to its last events: the view, and the view whose event carries it.
create function pg_temp.deliveries(subscription text)
    returns text
    language sql
as $$
    select string_agg(
               concat_ws(' ', split_part(events.matview, '.', 2), events.outcome, deliveries.state,
                   'with ' || split_part(leaders.matview, '.', 2)),
               ', ' order by events.id)
      from tinydevcrm.subscriptions
      join tinydevcrm.deliveries
        on deliveries.subscription_id = subscriptions.id
      join tinydevcrm.matview_refresh_events as events
        on events.id = deliveries.event_id
      left join tinydevcrm.matview_refresh_events as leaders
        on leaders.id = deliveries.leader_event_id
       and leaders.id <> events.id
     where subscriptions.name = subscription
$$;

create function pg_temp.wait_over()
    returns void
    language sql
as $$
    update tinydevcrm.deliveries
       set visible_at = clock_timestamp()
     where visible_at < 'infinity'
$$;

create function pg_temp.posts(subscription text)
    returns setof json
    language sql
as $$
    select posts.body
      from tinydevcrm.subscriptions
     cross join lateral tinydevcrm._receive_posts(subscriptions.id, 100, '1 minute') as posts
     where subscriptions.name = subscription
     order by posts.delivery_id
$$;

update numbers set n = 0;
update others set n = -1;
select pg_temp.refresh_all();

select is(
    pg_temp.deliveries('hook'),
    'v1 failed pending, v2 failed pending with v1, v3 failed pending with v1, other failed pending',
    'failures with one error are one delivery, and another error is another');
select is_empty($$ select pg_temp.posts('hook') $$, 'the delivery waits for others like it');
select is(
    pg_temp.deliveries('worker'), 'v1 failed pending, v2 failed pending, v3 failed pending, other failed pending',
    'a worker gets each failure');
select is(
    (select count(*)::integer from tinydevcrm.receive_events('worker')), 4, 'and does not wait');
select is(
    (select count(*)::integer from pg_temp.posts('one')), 1, 'a webhook of one view does not wait');
select is(
    (select array_agg(case when next_attempt_at is null then carried_by end is not null order by event_id)
       from tinydevcrm.latest_deliveries('hook')),
    array[false, true, true, false], 'the list of deliveries says which event carries one');

select pg_temp.wait_over();
create temporary table posts as
select body
  from pg_temp.posts('hook') as body;
select is((select count(*)::integer from posts), 2, 'there are two posts');
select is(
    (select count(*)::integer from posts where (body -> 'also_failed') is null), 1,
    'that of a failure alone is like any other');
select is(
    (select body -> 'data' ->> 'matview' from posts where json_array_length(body -> 'also_failed') > 0),
    '"My Data".v1', 'the post has the data of the first failure');
select results_eq(
    $$ select also ->> 'matview', (also ->> 'id')::bigint, also ->> 'started_at' is not null
         from posts
        cross join json_array_elements(body -> 'also_failed') as also $$,
    $$ select matview, id, true
         from tinydevcrm.matview_refresh_events
        where outcome = 'failed' and matview ~ 'v[23]$'
        order by id $$,
    'and lists the other views that failed');
select is_empty(
    $$ select pg_temp.posts('hook') $$, 'what another delivery carries is not received itself');

-- a failure that comes later

update tinydevcrm.matviews
   set last_outcome = 'refreshed', is_failure_notified = false
 where relation = 'v3'::regclass;
select tinydevcrm.refresh_matview('v3');
select is(
    pg_temp.deliveries('hook'),
    'v1 failed pending, v2 failed pending with v1, v3 failed pending with v1, other failed pending, v3 failed pending',
    'a failure does not join a delivery that has been received');

-- the states follow

select tinydevcrm.acknowledge_events(array[delivery_id])
  from tinydevcrm.latest_deliveries('hook')
 where event_id = (select (body -> 'data' ->> 'id')::bigint from posts where json_array_length(body -> 'also_failed') > 0);
select is(
    pg_temp.deliveries('hook'),
    'v1 failed acknowledged, v2 failed acknowledged with v1, v3 failed acknowledged with v1, other failed pending, '
    'v3 failed pending',
    'an acknowledged delivery acknowledges those that it carries');
select tinydevcrm.redeliver_event(max(delivery_id))
  from tinydevcrm.latest_deliveries('hook')
 where matview like '%v1';
select is(
    pg_temp.deliveries('hook'),
    'v1 failed pending, v2 failed pending with v1, v3 failed pending with v1, other failed pending, v3 failed pending',
    'and makes them pending again with it');
select is(
    (select json_array_length(body -> 'also_failed') from pg_temp.posts('hook') as body where body -> 'data' ->> 'matview' like '%v1'),
    2, 'it carries them again');
select is_empty($$ select pg_temp.posts('hook') as body $$, 'they are still not received themselves');
update tinydevcrm.deliveries set state = 'parked' where event_id = leader_event_id;
select is(
    (select parked_count from tinydevcrm.subscription_status where subscription = 'hook'), 5::bigint,
    'a delivery that is parked parks those that it carries');
select is(tinydevcrm.redeliver_parked('hook'), 3::bigint, 'redeliver_parked() redelivers those that carry others');
select is(
    (select array_agg(coalesce(json_array_length(body -> 'also_failed'), 0) order by body -> 'data' ->> 'id') from pg_temp.posts('hook') as body),
    array[2, 0], 'with what they carry; a later failure of a view that is carried waits for its turn');
select is(tinydevcrm.replay_events('hook', '-infinity'), 0::bigint, 'replay_events() leaves what is pending');
update tinydevcrm.deliveries set state = 'acknowledged' where event_id = leader_event_id;
select is(tinydevcrm.replay_events('hook', '-infinity'), 5::bigint, 'and replays each event');
select is(
    (select array_agg(coalesce(json_array_length(body -> 'also_failed'), 0)) from pg_temp.posts('hook') as body),
    array[0, 0, 0, 0, 0], 'by itself');

-- recoveries

update tinydevcrm.deliveries set state = 'acknowledged';
update numbers set n = 1;
update others set n = 1;
select tinydevcrm.watch_matview('v3', 'rows_added');
select pg_temp.refresh_all();
select pg_temp.wait_over();
truncate posts;
insert into posts
select body
  from pg_temp.posts('hook') as body;
select is(
    (select array[body ->> 'type', body -> 'data' ->> 'matview', body -> 'also_failed' #>> '{}'] from posts),
    array['matview.recovered', '"My Data".v1', null], 'the recoveries are one post');
select is(
    (select array_agg(also ->> 'matview')
       from posts cross join json_array_elements(body -> 'also_recovered') as also),
    array['"My Data".v2', '"My Data".v3', '"My Data".other'], 'that lists the others');

update tinydevcrm.matviews
   set last_outcome = 'failed', is_failure_notified = true
 where relation in ('v1'::regclass, 'v3'::regclass);
insert into numbers values (2);
select pg_temp.refresh_all();
select ok(
    pg_temp.deliveries('hook') like '%v1 recovered pending, v3 recovered pending',
    'a recovery that finds added rows is a delivery of its own, which carries them');

-- the order of a view

update tinydevcrm.deliveries set state = 'acknowledged';
select tinydevcrm.watch_matview('v3', 'never');
create temporary table seen as
select max(id) as id
  from tinydevcrm.matview_refresh_events;

create function pg_temp.new_deliveries()
    returns text
    language sql
as $$
    select string_agg(
               concat_ws(' ', split_part(events.matview, '.', 2), events.outcome, 'with ' || split_part(leaders.matview, '.', 2)),
               ', ' order by events.id)
      from tinydevcrm.subscriptions
      join tinydevcrm.deliveries
        on deliveries.subscription_id = subscriptions.id
      join tinydevcrm.matview_refresh_events as events
        on events.id = deliveries.event_id
      left join tinydevcrm.matview_refresh_events as leaders
        on leaders.id = deliveries.leader_event_id
       and leaders.id <> events.id
     where subscriptions.name = 'hook'
       and events.id > (select seen.id from seen)
$$;

insert into numbers values (0);
select tinydevcrm.refresh_matview('v1'), tinydevcrm.refresh_matview('v2');
delete from numbers where n = 0;
select tinydevcrm.refresh_matview('v1'), tinydevcrm.refresh_matview('v2');
insert into numbers values (0);
select tinydevcrm.refresh_matview('v1'), tinydevcrm.refresh_matview('v2');
select is(
    pg_temp.new_deliveries(),
    'v1 failed, v2 failed with v1, v1 recovered, v2 recovered with v1, v1 failed, v2 failed with v1',
    'a failure after a recovery does not join the failure before it');

update tinydevcrm.deliveries set state = 'acknowledged';
delete from numbers where n = 0;
select pg_temp.refresh_all();
insert into numbers values (0);
update tinydevcrm.deliveries set state = 'acknowledged';
select tinydevcrm.refresh_matview('v2');
select pg_temp.wait_over();
select tinydevcrm.reject_event(delivery_id, 'not now')
  from tinydevcrm.subscriptions
 cross join lateral tinydevcrm._receive_posts(subscriptions.id, 100, '1 minute')
 where name = 'hook';
update tinydevcrm.matviews
   set last_outcome = 'failed', is_failure_notified = true
 where relation = 'v1'::regclass;
delete from numbers where n = 0;
update seen
   set id = (select max(id) from tinydevcrm.matview_refresh_events);
select tinydevcrm.refresh_matview('v1'), tinydevcrm.refresh_matview('v2');
select is(
    pg_temp.new_deliveries(), 'v1 recovered, v2 recovered',
    'a recovery joins none that overtakes the failure, which waits for its retry');
update tinydevcrm.matviews
   set last_outcome = 'failed', is_failure_notified = true
 where relation = 'v3'::regclass;
select tinydevcrm.refresh_matview('v3');
select is(
    pg_temp.new_deliveries(), 'v1 recovered, v2 recovered, v3 recovered with v1',
    'and none joins it, to wait for that retry');

-- of two owners

update tinydevcrm.deliveries set state = 'acknowledged';
update seen
   set id = (select max(id) from tinydevcrm.matview_refresh_events);
create role "Tap Other" login in role tinydevcrm_user;
create schema "Their Data" authorization "Tap Other";
insert into numbers values (0);
select tinydevcrm.refresh_matview('v1');
set local session authorization "Tap Other";
create materialized view "Their Data".theirs as select 1 / 0 as n with no data;
select tinydevcrm.watch_matview('"Their Data".theirs');
select tinydevcrm.refresh_matview('"Their Data".theirs');
reset session authorization;
select is(
    pg_temp.new_deliveries(), 'v1 failed, theirs failed',
    'failures of two owners are two deliveries: no open transaction of one holds up the other');
delete from numbers where n = 0;
drop materialized view "Their Data".theirs;
select tinydevcrm.refresh_matview('v1');

-- without grouping

update tinydevcrm.deliveries set state = 'acknowledged';
update tinydevcrm.settings set failure_grouping = '0';
insert into numbers values (0);
select pg_temp.refresh_all();
select is(
    (select count(*)::integer from pg_temp.posts('hook')), 3, 'failure_grouping 0 groups none, and nothing waits');
update tinydevcrm.deliveries set state = 'acknowledged';
update tinydevcrm.settings set failure_grouping = '5 seconds';
update tinydevcrm.subscriptions set groups_failures = false;
delete from numbers where n = 0;
select pg_temp.refresh_all();
select is(
    (select count(*)::integer from pg_temp.posts('hook')), 3, 'neither does a subscription that does not group');

-- a muted subscription

update tinydevcrm.deliveries set state = 'acknowledged';
select tinydevcrm.watch_matview('v1', 'always');
select tinydevcrm.refresh_matview('v1');
select tinydevcrm.mute_subscription('reader', now() + interval '1 hour');
select is(
    (select muted_until from tinydevcrm.subscription_status where subscription = 'reader'),
    now() + interval '1 hour', 'the status says until when a subscription is muted');
select tinydevcrm.refresh_matview('v1');
select is(
    (select count(*)::integer from tinydevcrm.receive_events('reader')), 1,
    'a muted subscription gets what it had before');
select is((select count(*)::integer from tinydevcrm.receive_events('worker')), 2, 'another one gets all');
select tinydevcrm.acknowledge_events(array(select id from tinydevcrm.deliveries));
select tinydevcrm.unmute_subscription('reader');
select tinydevcrm.refresh_matview('v1');
select is(
    (select count(*)::integer from tinydevcrm.receive_events('reader')), 1,
    'after the mute it gets what comes then, and nothing of that time');
select throws_ok(
    $$ select tinydevcrm.mute_subscription('reader', now()) $$, 'TD007', null, 'a mute ends in the future');
select throws_ok(
    $$ select tinydevcrm.mute_subscription('nobody', now() + interval '1 hour') $$, 'TD001', null,
    'only a subscription is muted');

select * from finish();

rollback;
