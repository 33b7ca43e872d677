-- Several webhooks receive by one statement, and their accepted posts are recorded by one.

begin;

select plan(14);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v1', 'select 1 as one', 'always');
select tinydevcrm.create_matview('v2', 'select repeat(''x'', 2000) as long', 'always');
select tinydevcrm.create_webhook('plain ' || i, 'https://example.com/in', 'v1') from generate_series(1, 3) as i;
select tinydevcrm.create_webhook('chat', 'https://example.com/chat', 'v1', format => 'json');
select tinydevcrm.create_webhook('long', 'https://example.com/long', 'v2');
update tinydevcrm.subscriptions set numbers_as_text = true where name = 'plain 3';

create function pg_temp.receive(
    names text[], max_length integer default 1000000, max_bytes integer default 1000000, max_count integer default 100
)
    returns table (name text, delivery_id bigint, message_id text, body json, is_too_long boolean)
    language sql
as $$
    select asked.name, posts.delivery_id, posts.message_id, posts.body, posts.is_too_long
      from (
        select array_agg(subscriptions.id order by names.place) as ids
          from unnest(receive.names) with ordinality as names (name, place)
          join tinydevcrm.subscriptions on subscriptions.name = names.name
      ) as all_of
     cross join lateral tinydevcrm._receive_posts_of(
         ids, array_fill(10, array[cardinality(ids)]), array_fill(10, array[cardinality(ids)]), '1 minute',
         receive.max_length, receive.max_bytes, receive.max_count) as posts
      join tinydevcrm.subscriptions as asked on asked.id = posts.subscription_id
$$;
create function pg_temp.pending()
    returns bigint
    language sql
as $$
    select count(*) from tinydevcrm.deliveries where acknowledged_at is null
$$;
create function pg_temp.accept(names text[])
    returns setof record
    language sql
as $$
    select accepted.*
      from (
        select array_agg(deliveries.subscription_id) as subscriptions, array_agg(deliveries.id) as ids
          from tinydevcrm.deliveries
          join tinydevcrm.subscriptions on subscriptions.id = deliveries.subscription_id
         where subscriptions.name = any (accept.names)
           and deliveries.acknowledged_at is null
      ) as answered
     cross join lateral tinydevcrm._accept_posts(subscriptions, ids) as accepted
$$;

select tinydevcrm.refresh_matview('v1') from generate_series(1, 2);
create temporary table one as
select * from pg_temp.receive('{plain 1,plain 2,plain 3,chat}');
select is((select array_agg(distinct name) from one), '{chat,plain 1,plain 2,plain 3}', 'each gets its own');
select is((select count(delivery_id) from one), 8::bigint, 'all of them');
select is((select array_agg(message_id order by delivery_id) from one where name = 'plain 1'),
    (select array_agg('event_' || id order by id) from tinydevcrm.matview_refresh_events), 'in order');
select is(
    (select count(distinct body::text) from one where name in ('plain 1', 'plain 2')), 2::bigint,
    'those of one event have the same body');
select results_eq(
    $$ select distinct name, body::text from one where name = 'plain 1' order by 2 $$,
    $$ select 'plain 1'::text, tinydevcrm._build_webhook_body(events)::text
         from tinydevcrm.matview_refresh_events as events order by 2 $$,
    'which is that of the event');
select isnt(
    (select min(body::text) from one where name = 'plain 3'), (select min(body::text) from one where name = 'plain 1'),
    'a webhook that wants numbers as texts gets a body of its own');
select is(
    (select array_agg(distinct body ->> 'message_id' order by body ->> 'message_id') from one where name = 'chat'),
    (select array_agg('event_' || id order by id) from tinydevcrm.matview_refresh_events), 'and so does another format');

update tinydevcrm.webhooks
   set failure_count = 5
 where subscription_id = (select id from tinydevcrm.subscriptions where name = 'plain 2');
select results_eq(
    $$ select name, waiting_count
         from pg_temp.accept('{plain 1,plain 2}')
           as accepted (subscription_id bigint, delivery_id bigint, down_since timestamptz, waiting_count bigint)
         join tinydevcrm.subscriptions on id = subscription_id $$,
    $$ values ('plain 2'::text, 0::bigint) $$, 'who was down is back');
select is(pg_temp.pending(), 4::bigint, 'all that is accepted is acknowledged, and nothing else');
select is_empty(
    $$ select from tinydevcrm._accept_posts('{}', '{}') $$, 'nothing is nothing');

select tinydevcrm.refresh_matview('v1');
select tinydevcrm.refresh_matview('v2');
select results_eq(
    $$ select name, delivery_id is null from pg_temp.receive('{plain 1,plain 2}', max_count => 1) $$,
    $$ values ('plain 1'::text, false), ('plain 2', true) $$, 'what is beyond the count is said to be left out');
select results_eq(
    $$ select name, delivery_id is null from pg_temp.receive('{plain 2,long}', max_bytes => 10) $$,
    $$ values ('plain 2'::text, false), ('long', true) $$, 'and so is what is beyond the bytes');
select results_eq(
    $$ select name, body is null, is_too_long from pg_temp.receive('{long}', max_length => 1000) $$,
    $$ values ('long'::text, true, true) $$, 'a message that is too long has no body');
select tinydevcrm.refresh_matview('v2') from generate_series(1, 3);
select pg_temp.accept('{long}');
select is(pg_temp.pending(), 8::bigint, 'what is not posted stays');

select * from finish();

rollback;
