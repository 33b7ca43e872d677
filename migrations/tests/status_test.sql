-- How it goes, at a glance.

begin;

select plan(13);

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
    select string_agg(to_jsonb(overview) ->> name, ' ' order by place)
      from tinydevcrm.overview
     cross join unnest(names) with ordinality as given (name, place)
$$;

select is(
    (select string_agg(value, ' ' order by key)
       from tinydevcrm.overview
      cross join lateral jsonb_each_text(to_jsonb(overview) - '{cron_is_running}'::text[])),
    '0 0 0 0 0 0 0 0 0', 'who has nothing sees one row of zeros');

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
    'views are counted; what has no schedule is not paused');
select is(
    (select last_refreshed_at from tinydevcrm.overview),
    (select max(last_refreshed_at) from tinydevcrm.matviews), 'with the last refresh of any');
select is(
    (select cron_is_running from tinydevcrm.overview), true, 'and whether there will be another');

update numbers
   set n = 0;
select tinydevcrm.refresh_matview('c');

select is(pg_temp.overview('view_count', 'failing_count'), '3 1', 'one that fails is counted');

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
    '3 1 1 1', 'subscriptions and what they wait for are counted');
select is(
    (select array[status, pause_reason, is_troubled::text]
       from tinydevcrm.subscription_status where subscription = 'paused'),
    array['paused', 'deploying', 'false'], 'one that is paused by hand is no trouble, whatever the reason');
select tinydevcrm._disable_webhook(id, 'gone')
  from tinydevcrm.subscriptions
 where name = 'paused';
select is(
    (select status from tinydevcrm.subscription_status where subscription = 'paused'),
    'switched off', 'one that is switched off is');
select is(
    (select troubled_subscription_count from tinydevcrm.overview), 2::bigint, 'and is counted');
select is(
    (select troubled_subscription_count from tinydevcrm.overview),
    (select count(*) from tinydevcrm.subscription_status where is_troubled),
    'as all those that are in trouble');

set local session authorization "Tap Two";

select is(
    pg_temp.overview('view_count', 'subscription_count', 'pending_count', 'parked_count'), '0 0 0 0',
    'of which another user sees nothing');

set local session authorization "Tap Boss";

select is(
    pg_temp.overview('view_count', 'subscription_count', 'pending_count', 'parked_count'), '3 3 1 1',
    'and an administrator all');

reset session authorization;
reset role;

select is(
    pg_temp.overview('view_count'),
    (select count(*)::text from tinydevcrm.matviews where owner = quote_ident(current_user)::regrole),
    'and a superuser, who has the rights of all, what is the superuser''s own');

select * from finish();

rollback;
