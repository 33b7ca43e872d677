-- Each state is defined once, and all that counts or shows it agrees.

begin;

select plan(14);

-- The functions that say which state something is in; nothing else may.
select is_empty(
    $$ select p.oid::regprocedure::text
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and p.prosrc ~ 'then ''(failing|switched off|no mail server|view dropped|in flight|silent|reads renamed table|not populated|not scheduled)'''
          and p.proname not in ('_matview_state', '_subscription_state', '_delivery_state', '_source_state')
        union all
       select c.oid::regclass::text
         from pg_class c
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and c.relkind = 'v'
          and pg_get_viewdef(c.oid) ~ 'THEN ''(failing|switched off|no mail server|view dropped|in flight|silent|reads renamed table|not populated|not scheduled)''' $$,
    'a state is defined in one function');
select is(
    count(*), 4::bigint, 'which the pattern above finds')
  from pg_proc p
 where p.pronamespace = 'tinydevcrm'::regnamespace
   and p.prosrc ~ 'then ''(failing|switched off|no mail server|view dropped|in flight|silent|reads renamed table|not populated|not scheduled)''';

create role "Tap One" login in role tinydevcrm_user;
create schema tap authorization "Tap One";
set local search_path = tap, public;
set local session authorization "Tap One";

-- A view and a subscription in each state there is.
create table numbers as
select 1 as n;
select tinydevcrm.create_matview(name, case name when 'failing' then 'select 1 / n as n from numbers' else 'select n from numbers' end, 'always')
  from unnest(array['fine', 'failing', 'empty', 'unscheduled', 'paused', 'late', 'silent', 'gone']) as name;
create table orders as
select 1 as n;
select tinydevcrm.create_matview('renamed', 'select n from orders');
select tinydevcrm.schedule_matview(name::regclass, '0 0 1 1 *')
  from unnest(array['fine', 'failing', 'empty', 'paused', 'late', 'renamed']) as name;
select tinydevcrm.pause_matview('paused');
refresh materialized view empty with no data;
update numbers
   set n = 0;
select tinydevcrm.refresh_matview('failing');
alter table orders rename to orders_2025;
create table orders as
select 2 as n;
reset session authorization;
update tinydevcrm.matviews
   set schedule_began_at = now() - interval '3 years',
       last_refreshed_at = now() - interval '2 years'
 where relation = 'late'::regclass;
update tinydevcrm.matviews
   set notify_deadline = '1 hour'
 where relation = 'silent'::regclass;
update tinydevcrm.matviews
   set deadline_set_at = now() - interval '2 hours'
 where relation = 'silent'::regclass;
-- As if the transactions that have changed the tables had ended long ago.
delete from tinydevcrm.table_changes;
select tinydevcrm._note_silent();
set local session authorization "Tap One";

select tinydevcrm.create_subscription(name, 'fine', 2)
  from unnest(array['fine', 'failing', 'paused', 'off']) as name;
select tinydevcrm.create_subscription('orphan', 'gone');
select tinydevcrm.drop_matview('gone');
select tinydevcrm.refresh_matview('fine') from generate_series(1, 5);
select tinydevcrm.pause_subscription('paused');
select tinydevcrm._disable_webhook(id, 'gone')
  from tinydevcrm.subscriptions
 where name = 'off';

select results_eq(
    $$ select relation::text, status from tinydevcrm.matview_status order by 1 $$,
    $$ values ('empty', 'not populated'),
              ('failing', 'failing'),
              ('fine', 'ok'),
              ('late', 'late'),
              ('paused', 'paused'),
              ('renamed', 'reads renamed table'),
              ('silent', 'silent'),
              ('unscheduled', 'not scheduled') $$,
    'views');
select is(
    (select array[view_count, failing_count, late_count, silent_count, renamed_count, not_populated_count, unscheduled_count, paused_count]
       from tinydevcrm.overview),
    array[8, 1, 1, 1, 1, 1, 1, 1]::bigint[], 'are counted once each');
select results_eq(
    $$ select distinct status from tinydevcrm.matview_status where is_troubled order by 1 $$,
    array['failing', 'late', 'reads renamed table', 'silent'], 'which need attention');
select results_eq(
    $$ select subscription, status, is_troubled from tinydevcrm.subscription_status order by 1 $$,
    $$ values ('failing', 'ok', false), ('fine', 'ok', false), ('off', 'switched off', true),
              ('orphan', 'view dropped', true), ('paused', 'paused', false) $$,
    'subscriptions');

-- Its five deliveries: one in each state.
create temporary table received as
select row_number() over (order by delivery_id) as number,
       delivery_id
  from tinydevcrm.receive_events('failing', 4);
select tinydevcrm.acknowledge_events(array_agg(delivery_id)) from received where number = 1;
select tinydevcrm.reject_event(delivery_id, 'no') from received where number in (2, 3);
reset session authorization;
update tinydevcrm.deliveries
   set attempts = 2
 where id = (select delivery_id from received where number = 3);
set local session authorization "Tap One";
select tinydevcrm.reject_event(delivery_id, 'no again') from received where number = 3;

select is(
    (select array_agg(status order by event_id) from tinydevcrm.latest_deliveries('failing')),
    array['acknowledged', 'failing', 'parked', 'in flight', 'pending'], 'deliveries');
select is(
    (select array[in_flight_count, parked_count, pending_count]
       from tinydevcrm.subscription_status
      where subscription = 'failing'),
    array[1, 1, 3]::bigint[], 'are counted as they are shown');

reset session authorization;
update tinydevcrm.deliveries
   set visible_at = clock_timestamp() - interval '1 second'
 where id = (select delivery_id from received where number = 4);
select is(
    (select tinydevcrm._delivery_state(deliveries) from tinydevcrm.deliveries
      where id = (select delivery_id from received where number = 4)),
    'pending', 'what a worker has let go waits again');

create temporary table metrics as
select *
  from tinydevcrm._metrics();
grant select on metrics to public;
select is(
    (select sum(value)::bigint from metrics where name = 'tinydevcrm_matviews'),
    (select count(*) from tinydevcrm.matviews), 'metrics count each view in one state');
select results_eq(
    $$ select labels[1], value::bigint
         from metrics
        where name = 'tinydevcrm_matviews'
        order by 1 $$,
    $$ select replace(known.state, ' ', '_') as label,
              count(matviews.id)
         from unnest(
                  array['ok', 'failing', 'late', 'silent', 'reads renamed table', 'not populated', 'not scheduled', 'paused']
              ) as known (state)
         left join (
             tinydevcrm.matviews
             left join tinydevcrm._list_late_matviews() as late
               on late.matview_id = matviews.id
         )
           on tinydevcrm._matview_state(matviews, late.matview_id is not null) = known.state
        group by 1
        order by 1 $$, 'the one that its status says');
select results_eq(
    $$ select labels[2], sum(value)::bigint
         from metrics
        where name = 'tinydevcrm_subscriptions'
        group by 1
        order by 1 $$,
    $$ select replace(known.state, ' ', '_') as label,
              count(subscription_status.subscription)
         from unnest(array['ok', 'failing', 'paused', 'switched off', 'no mail server', 'view dropped']) as known (state)
         left join tinydevcrm.subscription_status
           on subscription_status.status = known.state
        group by 1
        order by 1 $$, 'and each subscription');

create role "Tap Orchestrator" in role tinydevcrm_orchestrator;
set local session authorization "Tap Orchestrator";
select is(
    (select jsonb_agg(metrics order by name, labels)
       from tinydevcrm._metrics() as metrics
      where name not like '%\_size\_bytes' and name <> 'tinydevcrm_delivery_lag_seconds'),
    (select jsonb_agg(metrics order by name, labels)
       from metrics
      where name not like '%\_size\_bytes' and name <> 'tinydevcrm_delivery_lag_seconds'),
    'the orchestrator''s role reads the same as a superuser');
reset session authorization;
set local session authorization "Tap One";
select throws_ok(
    $$ select tinydevcrm._metrics() $$, '42501', null, 'users do not read metrics');

select * from finish();

rollback;
