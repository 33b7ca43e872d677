-- Numbers that a reader would round are had as text.

begin;

select plan(9);

create schema "My Data";
set local search_path = "My Data", public;

create function pg_temp.quoted(document jsonb)
    returns text
    language sql
as $$
    select tinydevcrm._quote_numbers(document::text);
$$;

select is(
    pg_temp.quoted('{"b": [9007199254740993, -0.10, {"c": 1e400}], "1": null, "d": true}')::jsonb,
    jsonb_build_object(
        'b', jsonb_build_array('9007199254740993', '-0.10', jsonb_build_object('c', '1' || repeat('0', 400))),
        '1', null, 'd', true),
    'numbers at each level are texts with all their digits, and nothing else is');
select is(
    pg_temp.quoted(document), document::text, format('there is no number in %s', left(document::text, 50)))
  from unnest(array[
           '"a 1, 2: 3"', '{"12": "\"4, 5\" \\"}', '[]', 'null',
           (repeat('[', 3000) || repeat(']', 3000))
       ]::jsonb[]) as document;

select tinydevcrm.create_matview(
    'v', $$ select 9007199254740993::bigint as id, 12345678901234567890.10 as amount, '7' as "text" $$,
    'always');
select tinydevcrm.create_subscription('exact', numbers_as_text => true);
select tinydevcrm.create_subscription('plain');
select tinydevcrm.create_webhook('hook', 'https://example.com/', numbers_as_text => true);
select tinydevcrm.refresh_matview('v');

select results_eq(
    $$ select (event).rows::text from tinydevcrm.receive_events('exact')
       union all
       select (event).rows::text from tinydevcrm.receive_events('plain') $$,
    $$ values ('[{"id": "9007199254740993", "text": "7", "amount": "12345678901234567890.10"}]'),
              ('[{"id": 9007199254740993, "text": "7", "amount": 12345678901234567890.10}]') $$,
    'a subscription receives texts if it is to');
select is(
    (select posts.body -> 'data' ->> 'rows'
       from tinydevcrm.subscriptions
      cross join lateral tinydevcrm._receive_posts(subscriptions.id, 1, '1 minute') as posts
      where subscriptions.name = 'hook'),
    '[{"id": "9007199254740993", "amount": "12345678901234567890.10", "text": "7"}]',
    'so does a webhook, with the columns in their order');
select results_eq(
    $$ select tinydevcrm.event_json(events, numbers_as_text => true) ->> 'rows',
              tinydevcrm.event_json(events, numbers_as_text => true) ->> 'row_count',
              json_typeof(tinydevcrm.event_json(events, numbers_as_text => true) -> 'row_count')
         from tinydevcrm.matview_refresh_events as events
        where events.matview = '"My Data".v' $$,
    $$ values ('[{"id": "9007199254740993", "amount": "12345678901234567890.10", "text": "7"}]', '1', 'number') $$,
    'event_json() has texts on request, in the rows only');

select * from finish();

rollback;
