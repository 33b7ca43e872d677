-- What a scrape reads: name of the metric, values of its labels, value. It runs as the role of
-- DATABASE_URL. Of a table of which that role does not see every row there is nothing: numbers of a part
-- would look like those of the whole.
with sees as (
    select bool_or(complete.is_complete) filter (where name = 'imports') as imports,
           bool_or(complete.is_complete) filter (where name = 'matview_refresh_events') as events,
           bool_and(complete.is_complete) filter (where name in ('matviews', 'schedules')) as views,
           bool_and(complete.is_complete) filter (
               where name in ('subscriptions', 'webhooks', 'deliveries')) as deliveries
      from (
        values ('tinydevcrm', 'imports'),
               ('tinydevcrm', 'matview_refresh_events'),
               ('tinydevcrm', 'matviews'),
               ('tinydevcrm', 'schedules'),
               ('tinydevcrm', 'subscriptions'),
               ('tinydevcrm', 'webhooks'),
               ('tinydevcrm', 'deliveries')
      ) as tables (schema_name, name)
     cross join lateral (
         select format('%I.%I', schema_name, name)::regclass::oid as relation
     ) as found
     cross join lateral (
         select not row_security_active(found.relation)
                or exists (
                    select
                      from pg_catalog.pg_policy
                     where pg_policy.polrelid = found.relation
                       and pg_policy.polcmd in ('r', '*')
                       and pg_get_expr(pg_policy.polqual, pg_policy.polrelid) = 'true'
                       and exists (
                           select
                             from unnest(pg_policy.polroles) as role (oid)
                            where role.oid = 0
                               or pg_has_role(role.oid, 'usage')
                       )
                ) as is_complete
     ) as complete
),
views as (
    select matviews.id,
           matviews.schedule_id,
           matviews.is_paused,
           matviews.failing_since,
           greatest(matviews.last_scheduled_at, matviews.last_refreshed_at) as last_seen_at,
           case
               when matviews.last_outcome = 'failed' then 'failing'
               when matviews.schedule_id is null then 'unscheduled'
               when matviews.is_paused then 'paused'
               else 'ok'
           end as state
      from tinydevcrm.matviews
     where (select sees.views from sees)
),
-- As matview_status says which views are late, but asked once a schedule: its slowest view counts.
rounds as (
    select schedules.id,
           case
               when active.last_seen_at is null then 'paused'
               when tinydevcrm._next_due(schedules.seconds, schedules.cron_schedule, active.last_seen_at)
                    < now() - tinydevcrm._round_grace(schedules.seconds, schedules.cron_schedule)
               then 'late'
               else 'ok'
           end as state
      from tinydevcrm.schedules
     cross join lateral (
         select min(greatest(views.last_seen_at, schedules.created_at)) as last_seen_at
           from views
          where views.schedule_id = schedules.id
            and not views.is_paused
     ) as active
     where (select sees.views from sees)
),
-- However much waits, 1000 deliveries of each subscription are looked at.
queues as (
    select subscriptions.expired_count,
           case
               when webhooks.subscription_id is not null then 'webhook'
               when subscriptions.name = 'log'
                    and pg_has_role(subscriptions.owner, 'tinydevcrm_orchestrator', 'usage') then 'log'
               else 'worker'
           end as kind,
           case
               when subscriptions.paused_by = 'orchestrator' then 'switched_off'
               when subscriptions.is_paused then 'paused'
               when exists (
                   select
                     from tinydevcrm.deliveries
                    where deliveries.subscription_id = subscriptions.id
                      and deliveries.acknowledged_at is null
                      and deliveries.last_error is not null
               ) then 'failing'
               else 'ok'
           end as state,
           pending.count as pending_count,
           case when not subscriptions.is_paused then pending.oldest_at end as oldest_at,
           parked.count as parked_count
      from tinydevcrm.subscriptions
      left join tinydevcrm.webhooks
        on webhooks.subscription_id = subscriptions.id
     cross join lateral (
         select count(*),
                min(first.created_at) as oldest_at
           from (
             select deliveries.created_at
               from tinydevcrm.deliveries
              where deliveries.subscription_id = subscriptions.id
                and deliveries.acknowledged_at is null
                and deliveries.parked_at is null
              order by deliveries.visible_at, deliveries.id
              limit 1000
           ) as first
     ) as pending
     cross join lateral (
         select count(*)
           from (
             select
               from tinydevcrm.deliveries
              where deliveries.subscription_id = subscriptions.id
                and deliveries.parked_at is not null
              order by deliveries.id
              limit 1000
           ) as first
     ) as parked
     where (select sees.deliveries from sees)
),
kinds as (
    select kind.name,
           coalesce(sum(queues.pending_count), 0) as pending_count,
           coalesce(sum(queues.parked_count), 0) as parked_count,
           coalesce(sum(queues.expired_count), 0) as expired_count,
           coalesce(extract(epoch from clock_timestamp() - min(queues.oldest_at)), 0) as lag
      from unnest(array['log', 'webhook', 'worker']) as kind (name)
      left join queues
        on queues.kind = kind.name
     where (select sees.deliveries from sees)
     group by kind.name
)
select 'sees' as name, array['imports'] as labels, sees.imports::integer::double precision as value
  from sees
union all
select 'sees', array['events'], sees.events::integer
  from sees
union all
select 'tinydevcrm_schema_version', '{}', schema_migrations.version
  from public.schema_migrations
union all
select 'tinydevcrm_cron_up', '{}', tinydevcrm._cron_is_running()::integer
union all
select 'tinydevcrm_matviews', array[state.name], count(views.id)
  from unnest(array['ok', 'failing', 'unscheduled', 'paused']) as state (name)
  left join views
    on views.state = state.name
 where (select sees.views from sees)
 group by state.name
union all
select 'tinydevcrm_matview_failing_since_timestamp_seconds', '{}', extract(epoch from min(views.failing_since))
  from views
having min(views.failing_since) is not null
union all
select 'tinydevcrm_schedules', array[state.name], count(rounds.id)
  from unnest(array['ok', 'late', 'paused']) as state (name)
  left join rounds
    on rounds.state = state.name
 where (select sees.views from sees)
 group by state.name
union all
select 'tinydevcrm_subscriptions', array[kind.name, state.name], count(queues.kind)
  from unnest(array['log', 'webhook', 'worker']) as kind (name)
 cross join unnest(array['ok', 'failing', 'paused', 'switched_off']) as state (name)
  left join queues
    on queues.kind = kind.name
   and queues.state = state.name
 where (select sees.deliveries from sees)
 group by kind.name, state.name
union all
select figure.name, array[kinds.name], figure.value
  from kinds
 cross join lateral (
     values ('tinydevcrm_deliveries_pending', kinds.pending_count),
            ('tinydevcrm_deliveries_parked', kinds.parked_count),
            ('tinydevcrm_deliveries_expired', kinds.expired_count),
            ('tinydevcrm_delivery_lag_seconds', kinds.lag)
 ) as figure (name, value)
union all
-- Never is 0, so that whoever watches its age sees that too.
select 'tinydevcrm_upkeep_last_success_timestamp_seconds', '{}',
       coalesce(extract(epoch from tinydevcrm._upkeep_ran_at()), 0)
union all
select 'tinydevcrm_table_size_bytes', array[tables.name], pg_total_relation_size(tables.relation)
  from (
    values ('events', 'tinydevcrm.matview_refresh_events'::regclass),
           ('deliveries', 'tinydevcrm.deliveries'::regclass),
           ('baselines', 'tinydevcrm.matview_baselines'::regclass),
           ('imports', 'tinydevcrm.imports'::regclass),
           ('import_problems', 'tinydevcrm.import_problems'::regclass),
           ('job_runs', 'cron.job_run_details'::regclass)
  ) as tables (name, relation)
