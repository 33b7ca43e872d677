-- The SQL of webhooks; the posts are tested in Go.

begin;

select plan(29);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v', 'select 1 as one');

select matches(
    tinydevcrm.create_webhook('hook', 'https://example.com/in?a=b', 'v', 3),
    '^whsec_[A-Za-z0-9+/]{43}=$', 'create_webhook() returns a secret of 32 bytes');
select is(
    (select array[url, matview::text, status] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['https://example.com/in?a=b', 'v', 'ok'], 'create_webhook() creates a subscription with a URL');
select throws_ok(
    $$ select tinydevcrm.create_webhook('hook', 'https://example.com/') $$, 'TD004',
    'subscription ''hook'' is there already', 'a webhook cannot have the name of another subscription');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', 'gopher://example.com/') $$, 'TD007', null,
    'a URL that is not http or https is refused');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', 'https://example.com/a b') $$, 'TD007', null,
    'a URL with spaces is refused');
select is_empty(
    $$ select from tinydevcrm.subscriptions where name = 'other' $$,
    'a refused webhook leaves no subscription');

select is_empty('select * from tinydevcrm._list_due_webhooks()', 'without an event no webhook is due');
select tinydevcrm.refresh_matview('v');
select is(
    (select array[name, has_refused::text] from tinydevcrm._list_due_webhooks()), '{hook,false}',
    'with an event a webhook is due');
select throws_ok(
    $$ select tinydevcrm.create_webhook('other', null) $$, 'TD007', null,
    'a webhook without a URL is refused');

create role "Tap Watcher" in role tinydevcrm_admin;
set local role "Tap Watcher";
select isnt_empty('select from tinydevcrm.webhooks', 'an administrator sees webhooks');
select is_empty(
    'select * from tinydevcrm._list_due_webhooks()',
    'for an administrator, who may not post, none is due');
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
    tinydevcrm.rotate_webhook_secret('hook'), (select secret from secrets), 'rotation returns a new secret');
select is(
    (pg_temp.secrets())[2], (select secret from secrets), 'after a rotation the previous secret signs too');
update tinydevcrm.webhooks
   set previous_secret_until = clock_timestamp();
select is(cardinality(pg_temp.secrets()), 1, 'after the grace period only the new secret signs');
select tinydevcrm.create_subscription('plain');
select throws_ok(
    $$ select tinydevcrm.rotate_webhook_secret('plain') $$, 'TD001', null,
    'a subscription without a webhook has no secret to rotate');

update tinydevcrm.subscriptions
   set max_attempts = 100;
update tinydevcrm.deliveries
   set visible_at = clock_timestamp();
select tinydevcrm._limit_webhook_rate(subscription_id, '1 hour')
  from tinydevcrm._list_due_webhooks();
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'a rate limited webhook is not due');
update tinydevcrm.webhooks
   set rate_limited_until = clock_timestamp();
select ok((select has_refused from tinydevcrm._list_due_webhooks()), 'later it is due, and has refused lately');

select tinydevcrm._disable_webhook(subscription_id, 'it is gone')
  from tinydevcrm._list_due_webhooks();
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'a webhook that is switched off is not due');
select is(
    (select array[status, pause_reason, is_troubled::text]
       from tinydevcrm.subscription_status where subscription = 'hook'),
    array['switched off', 'it is gone', 'true'], 'the owner sees why a webhook is switched off');
select tinydevcrm.resume_subscription('hook');
select is(
    (select array[status, pause_reason] from tinydevcrm.subscription_status where subscription = 'hook'),
    array['ok', null], 'resume_subscription() switches it on again');

-- What a refused post changes.

create function pg_temp.refuse(status integer, reason text, retry_after interval default null)
    returns void
    language sql
as $$
    update tinydevcrm.webhooks
       set rate_limited_until = null;
    update tinydevcrm.deliveries
       set state = 'pending',
           attempts = 1,
           visible_at = clock_timestamp(),
           last_error = null;
    select tinydevcrm._refuse_post(subscriptions.id, max(deliveries.id), status, reason, retry_after)
      from tinydevcrm.subscriptions
      join tinydevcrm.deliveries
        on deliveries.subscription_id = subscriptions.id
     where subscriptions.name = 'hook'
     group by subscriptions.id;
$$;

create function pg_temp.refused()
    returns table (state text, last_error text, again_in interval, limited_for interval)
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
    'select state, last_error, again_in < ''10 s'', limited_for is null from pg_temp.refused()',
    $$ values ('failing', '500 boom', true, true) $$, 'a refused post is retried with exponential backoff');
select pg_temp.refuse(429, 'slowly', '1 hour');
select results_eq(
    'select state, again_in > ''59 min'', limited_for between ''59 min'' and ''1 hour'' from pg_temp.refused()',
    $$ values ('failing', true, true) $$, 'Retry-After limits the rate for that long');
select pg_temp.refuse(503, 'much later', '10 years');
select results_eq(
    'select again_in between ''23 h'' and ''1 day'', limited_for between ''23 h'' and ''1 day'' from pg_temp.refused()',
    $$ values (true, true) $$, 'Retry-After counts up to a day');
select pg_temp.refuse(null, 'no answer', '0');
select results_eq(
    'select state, last_error, limited_for is null from pg_temp.refused()',
    $$ values ('failing', 'no answer', true) $$, 'a post without an answer counts as refused');
select pg_temp.refuse(410, 'it is gone');
select results_eq(
    'select state, last_error from pg_temp.refused()',
    $$ values ('switched off', 'it is gone') $$, 'a webhook whose endpoint is gone is switched off');
select tinydevcrm.resume_subscription('hook');
select lives_ok(
    $$ select tinydevcrm._refuse_post(id, -1, 410, 'it is gone') from tinydevcrm.subscriptions where name = 'hook' $$,
    '_refuse_post() raises nothing for a delivery that was dropped meanwhile');
select is(
    (select distinct state from pg_temp.refused()), 'switched off',
    'the webhook is switched off all the same');
select throws_ok(
    $$ select tinydevcrm.reject_event(-1) $$, 'TD001', null, 'reject_event() does raise TD001 for it');

-- A few webhooks have very much to post, and most nothing.
select tinydevcrm.create_webhook('busy', 'https://example.com/busy');
insert into tinydevcrm.matview_refresh_events (
           owner, matview_id, matview, outcome, is_notified, method, row_count, started_at, duration)
select owner, id, relation::text, 'refreshed', true, 'plain', 1, clock_timestamp(), '0 s'
  from tinydevcrm.matviews, generate_series(1, 5000)
 where relation = 'v'::regclass;
select tinydevcrm.create_webhook('idle ' || i, 'https://example.com/') from generate_series(1, 10) as i;
analyze tinydevcrm.pending_deliveries;
create temporary view queue as
select seq_tup_read
  from pg_stat_xact_user_tables
 where relid = 'tinydevcrm.pending_deliveries'::regclass;
create temporary table before as
select seq_tup_read
  from queue;
select count(*) from tinydevcrm._list_due_webhooks();
select is(
    (select queue.seq_tup_read - before.seq_tup_read from queue, before), 0::bigint,
    'to find out what is due does not read the whole queue');

select * from finish();

rollback;
