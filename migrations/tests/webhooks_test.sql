-- Webhooks as SQL sees them; what is posted is a Go test.

begin;

select plan(19);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v', 'select 1 as one');

select matches(
    tinydevcrm.create_webhook('hook', 'https://example.com/in?a=b', 'v', 3),
    '^whsec_[A-Za-z0-9+/]{43}=$', 'create_webhook() gives a secret of 32 bytes');
select is(
    (select array[url, matview::text, status] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['https://example.com/in?a=b', 'v', 'ok'], 'and a subscription with a URL');
select throws_ok(
    $$ select tinydevcrm.create_webhook('hook', 'https://example.com/') $$, 'TD004',
    'subscription ''hook'' is there already', 'its name cannot be taken twice');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', 'gopher://example.com/') $$, 'TD007', null,
    'a URL is http or https');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', 'https://example.com/a b') $$, 'TD007', null,
    'without spaces');
select is_empty(
    $$ select from tinydevcrm.subscriptions where name = 'other' $$, 'one that is refused leaves nothing');

select is_empty('select * from tinydevcrm._due_webhooks()', 'with nothing to post none is due');
select tinydevcrm.refresh_matview('v');
select is((select name from tinydevcrm._due_webhooks()), 'hook', 'with an event it is');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', null) $$, 'TD007', null, 'a webhook has a URL');

create role "Tap Watcher" in role tinydevcrm_admin;
set local role "Tap Watcher";
select isnt_empty('select from tinydevcrm.webhooks', 'an administrator sees it');
select is_empty('select * from tinydevcrm._due_webhooks()', 'but has nothing to post, and so none is due');
reset role;

create function pg_temp.secrets()
    returns text[]
    language plpgsql
as $$
begin
    update tinydevcrm.deliveries
       set visible_at = clock_timestamp();

    return (
        select posts.secrets
          from tinydevcrm.webhooks
         cross join lateral tinydevcrm._receive_posts(subscription_id, 1, '1 minute') as posts
         where posts.message_id = 'event_' || (select max(id) from tinydevcrm.matview_refresh_events)
           and posts.body ->> 'type' = 'matview.refreshed'
    );
end
$$;

create temporary table secrets as
select secret
  from tinydevcrm.webhooks;
select isnt(
    tinydevcrm.rotate_webhook_secret('hook'), (select secret from secrets), 'rotation gives another secret');
select is(
    (pg_temp.secrets())[2], (select secret from secrets), 'and the one before still signs');
update tinydevcrm.webhooks
   set previous_secret_until = clock_timestamp();
select is(cardinality(pg_temp.secrets()), 1, 'until its time is over');
select tinydevcrm.create_subscription('plain');
select throws_ok(
    $$ select tinydevcrm.rotate_webhook_secret('plain') $$, 'TD001', null, 'others have none to rotate');

update tinydevcrm.subscriptions
   set max_attempts = 100;
update tinydevcrm.deliveries
   set visible_at = clock_timestamp();
select tinydevcrm._rest_webhook(subscription_id, '1 hour')
  from tinydevcrm._due_webhooks();
select is_empty('select * from tinydevcrm._due_webhooks()', 'one that asks for a rest is not due');
update tinydevcrm.webhooks
   set resting_until = clock_timestamp();

select tinydevcrm._switch_off_webhook(subscription_id, 'it is gone')
  from tinydevcrm._due_webhooks();
select is_empty('select * from tinydevcrm._due_webhooks()', 'one that is gone is not due');
select is(
    (select array[status, pause_reason, is_troubled::text]
       from tinydevcrm.subscription_status where subscription = 'hook'),
    array['switched off', 'it is gone', 'true'], 'and its owner sees why');
select tinydevcrm.resume_subscription('hook');
select is(
    (select array[status, pause_reason] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['ok', null], 'until they resume it');

select * from finish();

rollback;
