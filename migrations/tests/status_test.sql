-- The overview and the states of subscriptions.

begin;

select plan(13);

-- Without pg_cron, this session is the clock.
select tinydevcrm._keep_clock() where tinydevcrm._has_clock();

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Two" login in role tinydevcrm_user;
create role "Tap Boss" in role tinydevcrm_admin;
create schema tap authorization "Tap One";
set local search_path = tap, public;
set local session authorization "Tap One";

create function pg_temp.overview(variadic names text[])
    returns text
    language sql
as $$
    select string_agg(to_jsonb(overview) ->> name, ' ' order by ordinal)
      from tinydevcrm.overview
     cross join unnest(names) with ordinality as given (name, ordinal)
$$;

select is(
    (select string_agg(value, ' ' order by key)
       from tinydevcrm.overview
      cross join lateral jsonb_each_text(to_jsonb(overview) - '{cron_is_running}'::text[])),
    '0 0 0 0 0 0 0 0 0 0 0 0 0 0', 'a user without anything sees one row of zeros');

create table numbers as
select 1 as n;
select tinydevcrm.create_matview('a', 'select n from numbers', 'always');
select tinydevcrm.create_matview('b', 'select n from numbers');
select tinydevcrm.create_matview('c', 'select 1 / n as n from numbers');
select tinydevcrm.schedule_matview('a', '5 seconds');
select tinydevcrm.schedule_matview('b', '0 7 * * 1');
select tinydevcrm.pause_matview('b');
select tinydevcrm.pause_matview('c');

select is(
    pg_temp.overview('view_count', 'failing_count', 'unscheduled_count', 'paused_count'), '3 0 1 1',
    'views are counted by state; one without a schedule does not count as paused');
select is(
    (select last_refreshed_at from tinydevcrm.overview),
    (select max(last_refreshed_at) from tinydevcrm.matviews),
    'the overview has the time of the last refresh');
select is(
    (select cron_is_running from tinydevcrm.overview), true, 'the overview says whether pg_cron runs');

update numbers
   set n = 0;
select tinydevcrm.refresh_matview('c');

select is(pg_temp.overview('view_count', 'failing_count'), '3 1', 'a failing view is counted');

-- deliveries

select tinydevcrm.create_subscription('ok');
select tinydevcrm.create_subscription('failing', 'a', max_attempts => 1);
select tinydevcrm.create_subscription('paused', 'b');
select tinydevcrm.pause_subscription('paused', 'deploying');
select tinydevcrm.refresh_matview('a');
select tinydevcrm.reject_event(delivery_id, 'no room')
  from tinydevcrm.receive_events('failing');

select is(
    pg_temp.overview(
        'subscription_count', 'troubled_subscription_count', 'pending_count', 'parked_count'),
    '3 1 1 1', 'subscriptions and their deliveries are counted');
select is(
    (select array[status, pause_reason, is_troubled::text]
       from tinydevcrm.subscription_status where subscription = 'paused'),
    array['paused', 'deploying', 'false'], 'a paused subscription needs no attention, whatever the reason');
select tinydevcrm._disable_webhook(id, 'gone')
  from tinydevcrm.subscriptions
 where name = 'paused';
select is(
    (select status from tinydevcrm.subscription_status where subscription = 'paused'),
    'switched off', 'a subscription that the orchestrator has paused is switched off');
select is(
    (select troubled_subscription_count from tinydevcrm.overview), 2::bigint,
    'a subscription that is switched off counts as troubled');
select is(
    (select troubled_subscription_count from tinydevcrm.overview),
    (select count(*) from tinydevcrm.subscription_status where is_troubled),
    'overview and subscription_status count the same troubled subscriptions');

set local session authorization "Tap Two";

select is(
    pg_temp.overview('view_count', 'subscription_count', 'pending_count', 'parked_count'), '0 0 0 0',
    'another user sees nothing of them');

set local session authorization "Tap Boss";

select is(
    pg_temp.overview('view_count', 'subscription_count', 'pending_count', 'parked_count'), '3 3 1 1',
    'an administrator sees everything');

reset session authorization;
reset role;

select is(
    pg_temp.overview('view_count'),
    (select count(*)::text from tinydevcrm.matviews where owner = quote_ident(current_user)::regrole),
    'a superuser, who has the rights of all, sees the superuser''s own views only');

select * from finish();

rollback;
