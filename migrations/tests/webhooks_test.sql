-- Webhooks as SQL sees them; what is posted is a Go test.

begin;

select plan(27);

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

select is_empty('select * from tinydevcrm._list_due_webhooks()', 'with nothing to post none is due');
select tinydevcrm.refresh_matview('v');
select is((select name from tinydevcrm._list_due_webhooks()), 'hook', 'with an event it is');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', null) $$, 'TD007', null, 'a webhook has a URL');

create role "Tap Watcher" in role tinydevcrm_admin;
set local role "Tap Watcher";
select isnt_empty('select from tinydevcrm.webhooks', 'an administrator sees it');
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'but has nothing to post, and so none is due');
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
select tinydevcrm._limit_webhook_rate(subscription_id, '1 hour')
  from tinydevcrm._list_due_webhooks();
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'one that asks for a rest is not due');
update tinydevcrm.webhooks
   set rate_limited_until = clock_timestamp();

select tinydevcrm._disable_webhook(subscription_id, 'it is gone')
  from tinydevcrm._list_due_webhooks();
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'one that is gone is not due');
select is(
    (select array[status, pause_reason, is_troubled::text]
       from tinydevcrm.subscription_status where subscription = 'hook'),
    array['switched off', 'it is gone', 'true'], 'and its owner sees why');
select tinydevcrm.resume_subscription('hook');
select is(
    (select array[status, pause_reason] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['ok', null], 'until they resume it');

-- What follows of a refusal.

create function pg_temp.refuse(status integer, reason text, retry_after interval default null)
    returns void
    language sql
as $$
    update tinydevcrm.webhooks
       set rate_limited_until = null;
    update tinydevcrm.deliveries
       set state = 'pending',
           attempts = 1,
           hidden_for = '0',
           last_error = null;
    select tinydevcrm._refuse_post(subscriptions.id, max(deliveries.id), status, reason, retry_after)
      from tinydevcrm.subscriptions
      join tinydevcrm.deliveries
        on deliveries.subscription_id = subscriptions.id
     where subscriptions.name = 'hook'
     group by subscriptions.id;
$$;

create function pg_temp.refused()
    returns table (state text, last_error text, again_in interval, rests_for interval)
    language sql
as $$
    select tinydevcrm._subscription_state(subscriptions),
           deliveries.last_error,
           deliveries.visible_at - clock_timestamp(),
           webhooks.rate_limited_until - clock_timestamp()
      from tinydevcrm.subscriptions
      join tinydevcrm.webhooks
        on webhooks.subscription_id = subscriptions.id
      join tinydevcrm.deliveries
        on deliveries.subscription_id = subscriptions.id
     where subscriptions.name = 'hook'
     order by deliveries.id desc
     limit 1;
$$;

select pg_temp.refuse(500, '500 boom');
select results_eq(
    'select state, last_error, again_in < ''10 s'', rests_for is null from pg_temp.refused()',
    $$ values ('failing', '500 boom', true, true) $$, 'a refused post is retried with backoff');
select pg_temp.refuse(429, 'slowly', '1 hour');
select results_eq(
    'select state, again_in > ''59 min'', rests_for between ''59 min'' and ''1 hour'' from pg_temp.refused()',
    $$ values ('failing', true, true) $$, 'an endpoint that says for how long is left alone for as long');
select pg_temp.refuse(503, 'much later', '10 years');
select results_eq(
    'select again_in between ''23 h'' and ''1 day'', rests_for between ''23 h'' and ''1 day'' from pg_temp.refused()',
    $$ values (true, true) $$, 'up to a day');
select pg_temp.refuse(null, 'no answer', '0');
select results_eq(
    'select state, last_error, rests_for is null from pg_temp.refused()',
    $$ values ('failing', 'no answer', true) $$, 'no answer is a refusal too');
select pg_temp.refuse(410, 'it is gone');
select results_eq(
    'select state, last_error from pg_temp.refused()',
    $$ values ('switched off', 'it is gone') $$, 'an endpoint that is gone is switched off');
select tinydevcrm.resume_subscription('hook');
select lives_ok(
    $$ select tinydevcrm._refuse_post(id, -1, 410, 'it is gone') from tinydevcrm.subscriptions where name = 'hook' $$,
    'a delivery that was dropped or redelivered meanwhile is no error');
select is(
    (select distinct state from pg_temp.refused()), 'switched off', 'and the answer counts all the same');
select throws_ok(
    $$ select tinydevcrm.reject_event(-1) $$, 'TD001', null, 'though a worker hears of it');

select * from finish();

rollback;
