-- What the pages of views read, and the form that makes a view with its schedule and subscription.

begin;

select plan(18);

create schema "My Data";
set local search_path = "My Data", public;
create table "my orders" (id integer, "the customer" text);
insert into "my orders" values (1, 'Ada');
create view plain as select * from "my orders";

-- _set_up_matview

select is(
    (made - 'secret' - 'row_count')::text,
    jsonb_build_object(
        'relation', '"Dear"', 'notify_when', 'changed', 'reason', made -> 'reason', 'subscription', 'mine', 'schedule', '0 * * * *',
        'seconds', null, 'time_zone', null, 'catch_up', made -> 'catch_up', 'is_slow', made -> 'is_slow',
        'outcome', 'refreshed', 'error_code', null, 'error_message', null)::text,
    'a view is made with schedule and webhook, and says why it has its rule')
  from (
    select tinydevcrm._set_up_matview('Dear', 'select id from plain', '', 'hourly', 'mine', 'https://example.com/in')::jsonb
  ) as called (made);
select is((select count(*) from "Dear"), 1::bigint, 'it has its rows');
select is(
    (select url from tinydevcrm.subscription_status where subscription = 'mine' and matview = '"Dear"'::regclass),
    'https://example.com/in', 'its webhook gets its events');
select is(
    (select tinydevcrm._set_up_matview('bare', 'select 1 as one', 'always', '', '', '')::jsonb),
    '{"relation": "bare", "notify_when": "always"}'::jsonb, 'what is empty is left out');
select tinydevcrm._set_up_matview('worked', 'select id from "Dear"', 'always', null, 'worker', null) \g /dev/null
select is(
    (select url from tinydevcrm.subscription_status where subscription = 'worker'), null, 'without a URL a worker is subscribed');
select tinydevcrm._set_up_matview('Only URL', 'select 1 as one', 'always', '', '', 'https://example.com/in') \g /dev/null
select is(
    (select url from tinydevcrm.subscription_status where subscription = 'Only URL' and matview = '"Only URL"'::regclass),
    'https://example.com/in', 'a URL without a name is subscribed under the name of the view');
select throws_ok(
    $$ select tinydevcrm._set_up_matview('never', 'select 1 as one', '', 'whenever', 'other', '') $$, 'TD003', null,
    'a bad schedule is an error');
select is(
    (select count(*) from tinydevcrm.subscriptions where name = 'other') + (select count(*) from pg_class where relname = 'never'),
    0::bigint, 'then nothing is made');
select throws_ok(
    $$ select tinydevcrm._set_up_matview('dear2', 'select 1 as one', '', '', 'mine', 'https://example.com/in') $$, 'TD004', null,
    'a name in use is an error');

-- _describe_reads, _list_subscribed, _list_names

select results_eq(
    $$ select kind, key, relation::text from tinydevcrm._describe_reads('worked') $$,
    $$ values ('view', '"My Data"."Dear"', '"Dear"'), ('table', '"My Data"."my orders"', '"my orders"') $$,
    'a view reads another one, and what that reads');
select results_eq(
    $$ select kind, key from tinydevcrm._describe_reads('"Dear"') $$,
    $$ values ('table', '"My Data"."my orders"') $$, 'a table is found through a view');
select tinydevcrm.create_subscription('all of them') \g /dev/null
select tinydevcrm.pause_subscription('mine') \g /dev/null
select results_eq(
    $$ select name, status, gets_all from tinydevcrm._list_subscribed('"Dear"', 10) $$,
    $$ values ('mine', 'paused', false), ('all of them', 'ok', true) $$, 'subscriptions to it come first');
select is(
    (select count(*) from tinydevcrm._list_subscribed('"Dear"', 1)), 1::bigint, 'row_limit is the limit');
select results_eq(
    $$ select relation::text, columns, types from tinydevcrm._list_names(2000, 9) where relation::text like '%orders%' $$,
    $$ values ('"my orders"', array['id', '"the customer"'], array['integer', 'text']) $$, 'names are as a query writes them');
select is(
    (select columns from tinydevcrm._list_names(2000, 1) where relation = 'plain'::regclass), array['id'],
    'column_limit is the limit');
select is_empty(
    $$ select from tinydevcrm._list_names(2000, 1) where relation::text ~ '^(cron|tinydevcrm)\.|schema_migrations' $$,
    'nothing of extensions, nothing of ours');

-- _try_rule

update "my orders" set id = 2;
select tinydevcrm.refresh_matview('"Dear"') \g /dev/null
select is(
    tinydevcrm._try_rule('"Dear"', 'always', null, null)::jsonb -> 'count',
    (select to_jsonb(count(*)) from tinydevcrm.matview_refresh_events where matview = '"My Data"."Dear"'), 'a rule is tried');
select is(
    (tinydevcrm._try_rule('"Dear"', 'always', null, null, event_limit => 1)::jsonb ->> 'since')::timestamptz,
    (select min(started_at) from tinydevcrm.matview_refresh_events where matview = '"My Data"."Dear"'),
    'not on more events than event_limit');

select * from finish();
rollback;
