-- A drop is an event, what was dropped can be read, and one call makes it again.

begin;

select plan(33);

create role "Tap Owner" login in role tinydevcrm_user;
create role "Tap Landlord" login in role tinydevcrm_user;
create role "Tap Stranger" login in role tinydevcrm_user;
create schema "My Data" authorization "Tap Owner";
grant usage on schema "My Data" to "Tap Stranger";
set local search_path = "My Data", public;
set local session authorization "Tap Owner";

create table orders as
select 1 as id, 2000 as total;
select tinydevcrm.create_matview(
    'Big', 'select id, total from orders where total > 1000', 'never', key => '{id}',
    ignored_columns => '{total}', notify_interval => '1 hour', notify_after => 3);
select tinydevcrm.schedule_matview('"Big"', '10 minutes', catch_up => true);
select tinydevcrm.pause_matview('"Big"');
select tinydevcrm.create_matview('other', 'select 1 as n');
select tinydevcrm.create_subscription('all');
select tinydevcrm.create_subscription('other', 'other');
create temporary table secrets as
select tinydevcrm.create_webhook('hook', 'https://example.com/', '"Big"') as secret;

-- The recorded query

select is(
    (select query ~ 'FROM "My Data".orders' from tinydevcrm.matview_definitions
       join tinydevcrm.matviews on id = matview_id
      where relation = '"Big"'::regclass),
    true, 'the query of a view is recorded with qualified names');
alter table orders rename column total to "the sum";
alter table orders rename to "Sales";
reset session authorization;
alter schema "My Data" rename to "Our Data";
set local search_path = "Our Data", public;
set local session authorization "Tap Owner";
select is(
    (select query ~ '"the sum".*FROM "Our Data"."Sales"' from tinydevcrm.matview_definitions
       join tinydevcrm.matviews on id = matview_id
      where relation = '"Big"'::regclass),
    true, 'and follows new names of columns, tables and schemas');
select throws_ok(
    $$ update tinydevcrm.matview_definitions set query = 'select 1' $$, '42501', null,
    'nobody writes it by hand');

-- The drop

reset session authorization;
alter schema "Our Data" owner to "Tap Landlord";
grant create, usage on schema "Our Data" to "Tap Owner";
set local session authorization "Tap Landlord";
set local client_min_messages = warning;
drop materialized view "Big";
reset client_min_messages;
set local session authorization "Tap Owner";

select is(
    (select array[outcome, matview, reason, is_notified::text, matview_id::text]
       from tinydevcrm.matview_refresh_events order by id desc limit 1),
    array['dropped', '"Our Data"."Big"', 'Tap Landlord dropped it', 'true', null],
    'a drop by another role notifies, whatever the rule, and names who did it');
select results_eq(
    $$ select name
         from tinydevcrm.deliveries
         join tinydevcrm.subscriptions
           on subscriptions.id = subscription_id
         join tinydevcrm.matview_refresh_events as events
           on events.id = event_id
        where outcome = 'dropped'
        order by 1 $$,
    array['all', 'hook'], 'to the subscriptions of that view and of all views');
select results_eq(
    $$ select subscription, status, matview::text, dropped_matview, pending_count, is_paused
         from tinydevcrm.subscription_status where subscription in ('hook', 'other') order by 1 $$,
    $$ values ('hook', 'view dropped', null::text, '"Our Data"."Big"', 1::bigint, false),
              ('other', 'ok', 'other', null, 0, false) $$,
    'a webhook stays with what is pending, and says that its view is dropped');
select is(
    (select webhooks.secret from tinydevcrm.webhooks), (select secret from secrets), 'and with its secret');
select is(
    (select body::jsonb - 'timestamp' #- '{data,id}' #- '{data,started_at}' from tinydevcrm.subscriptions
      cross join lateral tinydevcrm._receive_posts(id, 10, '30 seconds')
      where name = 'hook'),
    jsonb_build_object('type', 'matview.dropped', 'data', (
        select tinydevcrm.event_json(events)::jsonb - '{id,started_at}'::text[]
          from tinydevcrm.matview_refresh_events as events where outcome = 'dropped')),
    'its pending deliveries are still posted');
select results_eq(
    $$ select owner::text, schema_name, name, dropped_by, registration ->> 'schedule',
              registration ->> 'notify_when', registration ->> 'key'
         from tinydevcrm.dropped_matviews $$,
    $$ values ('"Tap Owner"', 'Our Data', 'Big', 'Tap Landlord', '10 minutes', 'never', '["id"]') $$,
    'query, rule, schedule and key can be read');
select tinydevcrm.refresh_matview('other');
select is(
    (select count(*) from tinydevcrm.deliveries join tinydevcrm.subscriptions on subscriptions.id = subscription_id
      where name = 'hook'),
    1::bigint, 'a subscription of a dropped view gets nothing of others');
set local session authorization "Tap Stranger";
select is_empty('select from tinydevcrm.dropped_matviews', 'other roles do not see what was dropped');
select throws_ok(
    $$ select tinydevcrm.restore_matview('Big') $$, 'TD001', null, 'and cannot restore it');
set local session authorization "Tap Owner";
select throws_ok(
    $$ delete from tinydevcrm.dropped_matviews $$, '42501', null, 'nobody deletes it by hand');
select is(
    (select count(*) from tinydevcrm._locks, tinydevcrm.dropped_matviews where _locks.id = dropped_matviews.id),
    0::bigint, 'nobody sees the lock of a dropped view');

-- Made again

reset session authorization;
call tinydevcrm.settle_jobs();
set local role "Tap Owner";
select throws_ok(
    $$ select tinydevcrm.restore_matview('Big') $$, '42501', null, '"set role" is not enough to restore');
reset role;
set local session authorization "Tap Owner";
create temporary table former as
select id, registration from tinydevcrm.dropped_matviews;
select is(
    tinydevcrm.restore_matview('Big')::text, '"Big"', 'one call makes it again');
select is(
    (select to_jsonb(matviews) - '{owner,relation,created_at,schedule_began_at,last_outcome,last_row_count,last_refreshed_at,plain_reason,schedule_id}'::text[]
       from tinydevcrm.matviews where relation = '"Big"'::regclass),
    (select (registration || jsonb_build_object('id', id))
         - '{created_at,schedule_began_at,last_outcome,last_row_count,last_refreshed_at,plain_reason,schedule_id}'::text[]
       from former),
    'with its number, rule, ignored columns, interval, key, schedule, pause, catch_up and notify_after');
select isnt(tinydevcrm._key_index(matviews), null, 'and the index on its key')
  from tinydevcrm.matviews
 where relation = '"Big"'::regclass;
select is(
    (select array[status, matview::text] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['ok', '"Big"'], 'its subscriptions go on');
select is_empty('select from tinydevcrm.dropped_matviews', 'and it is no longer among the dropped ones');
select is(
    (tinydevcrm.refresh_matview('"Big"')).outcome, 'refreshed', 'it can be refreshed: it has its lock');
select throws_ok($$ select tinydevcrm.restore_matview('Big') $$, 'TD001', null, 'it is restored once');
select tinydevcrm.mute_matview('"Big"', now() + interval '1 hour');
select tinydevcrm.drop_matview('"Big"');
select is(
    (select is_notified from tinydevcrm.matview_refresh_events where outcome = 'dropped' order by id desc limit 1),
    true, 'the drop of a muted view notifies');
select tinydevcrm.restore_matview('Big');
select is(
    (select muted_until from tinydevcrm.matview_status where relation = '"Big"'::regclass),
    now() + interval '1 hour', 'a muted view is muted again');
select tinydevcrm.unmute_matview('"Big"');

-- By cascade, and made by hand

set local client_min_messages = warning;
drop table "Sales" cascade;
reset client_min_messages;
select is(
    (select array[outcome, matview, reason] from tinydevcrm.matview_refresh_events order by id desc limit 1),
    array['dropped', '"Our Data"."Big"', 'Tap Owner dropped it'], 'a drop by cascade is an event too');
select throws_ok(
    $$ select tinydevcrm.restore_matview('"Our Data"."Big"') $$, '42P01', null,
    'a view is not restored before its tables');
select isnt_empty('select from tinydevcrm.dropped_matviews', 'and stays among the dropped ones');
create materialized view "Big" as
select 1 as id;
select tinydevcrm.watch_matview('"Big"', 'always');
select is(
    (select array[status, matview::text] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['ok', '"Big"'], 'a view of that name that is watched again gets the subscriptions');

-- A failure of ours does not stop the drop.

reset session authorization;
alter table tinydevcrm.dropped_matviews add constraint broken check (false) not valid;
set local session authorization "Tap Owner";
set local client_min_messages = error;
select lives_ok('drop materialized view "Big"', 'an error of ours does not stop a drop');
reset client_min_messages;
select is_empty(
    $$ select from tinydevcrm.matviews where notify_when = 'always' $$, 'which is followed all the same');
select is(
    (select status from tinydevcrm.subscription_status where subscription = 'hook'), 'view dropped',
    'its subscriptions say so');
reset session authorization;
alter table tinydevcrm.dropped_matviews drop constraint broken;

-- Retention

set local session authorization "Tap Owner";
select tinydevcrm.create_subscription('kept', 'other');
select tinydevcrm.drop_matview('other');
select tinydevcrm.create_matview('forgotten', 'select 1 as n');
select tinydevcrm.drop_matview('forgotten');
reset session authorization;
select is(tinydevcrm._remove_expired_drops(10), 0::bigint, 'definitions are kept for a time');
update tinydevcrm.dropped_matviews set dropped_at = now() - interval '31 days';
select tinydevcrm._remove_expired_drops(10);
select results_eq(
    'select name from tinydevcrm.dropped_matviews', array['other'],
    'and after that only those with subscriptions');

select * from finish();

rollback;
