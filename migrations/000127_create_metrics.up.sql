-- The metrics that Prometheus reads: one row for each value, with the values of its labels.

create function tinydevcrm._sees_all(relation regclass)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select not row_security_active(_sees_all.relation)
        or exists (
            select
              from pg_policy
             where pg_policy.polrelid = _sees_all.relation
               and pg_policy.polcmd in ('r', '*')
               and pg_get_expr(pg_policy.polqual, pg_policy.polrelid) = 'true'
               and exists (
                   select
                     from unnest(pg_policy.polroles) as role (oid)
                    where role.oid = 0
                       or pg_has_role(role.oid, 'usage')
               )
        )
$$;

comment on function tinydevcrm._sees_all(regclass) is
    'Whether row-level security shows the caller every row of a table. Without this check, counts '
    'of some rows would look like counts of all.';

create function tinydevcrm._matview_metrics()
    returns table (name text, labels text[], value double precision)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not tinydevcrm._sees_all('tinydevcrm.matviews')
       or not tinydevcrm._sees_all('tinydevcrm.schedules')
    then
        return;
    end if;

    return query
        with views as (
            select matviews.schedule_id,
                   matviews.is_paused,
                   matviews.failing_since,
                   late.matview_id is not null as is_late,
                   tinydevcrm._matview_state(matviews, late.matview_id is not null) as state
              from tinydevcrm.matviews
              left join tinydevcrm._list_late_matviews() as late
                on late.matview_id = matviews.id
        ),
        rounds as (
            select case
                       when bool_and(views.is_paused) then 'paused'
                       when bool_or(views.is_late) then 'late'
                       else 'ok'
                   end as state
              from tinydevcrm.schedules
              join views
                on views.schedule_id = schedules.id
             group by schedules.id
        )
        select 'tinydevcrm_matviews',
               array[replace(known.state, ' ', '_')],
               count(views.state)::double precision
          from unnest(
                   array[
                       'ok', 'failing', 'late', 'silent', 'reads renamed table',
                       'not populated', 'not scheduled', 'paused'
                   ]) as known (state)
          left join views
            on views.state = known.state
         group by known.state
        union all
        select 'tinydevcrm_matview_failing_since_timestamp_seconds',
               '{}',
               extract(epoch from min(views.failing_since))
          from views
        having min(views.failing_since) is not null
        union all
        select 'tinydevcrm_schedules',
               array[known.state],
               count(rounds.state)
          from unnest(array['ok', 'late', 'paused']) as known (state)
          left join rounds
            on rounds.state = known.state
         group by known.state;
end
$$;

comment on function tinydevcrm._matview_metrics() is
    'Views and schedules by state; nothing for a role that does not see them all.';

create function tinydevcrm._subscription_kind(subscription tinydevcrm.subscriptions)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when exists (
                   select
                     from tinydevcrm.webhooks
                    where webhooks.subscription_id = subscription.id
               ) then 'webhook'
               when subscription.name = 'log'
                    and pg_has_role(subscription.owner, 'tinydevcrm_orchestrator', 'usage')
               then 'log'
               else 'worker'
           end
$$;

comment on function tinydevcrm._subscription_kind(tinydevcrm.subscriptions) is
    'What receives the deliveries of a subscription: webhook, log (the orchestrator''s own), or '
    'worker (a program that calls receive_events()).';

create function tinydevcrm._subscription_metrics()
    returns table (name text, labels text[], value double precision)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not tinydevcrm._sees_all('tinydevcrm.subscriptions')
       or not tinydevcrm._sees_all('tinydevcrm.webhooks')
       or not tinydevcrm._sees_all('tinydevcrm.deliveries')
    then
        return;
    end if;

    return query
        -- Reads at most 1000 pending and 1000 parked deliveries of each subscription.
        with queues as (
            select subscriptions.expired_count,
                   tinydevcrm._subscription_kind(subscriptions) as kind,
                   tinydevcrm._subscription_state(subscriptions) as state,
                   pending.count as pending_count,
                   case when not subscriptions.is_paused then pending.oldest_at end as oldest_at,
                   parked.count as parked_count
              from tinydevcrm.subscriptions
             cross join lateral (
                 select count(*),
                        min(first.created_at) as oldest_at
                   from (
                     select deliveries.created_at
                       from tinydevcrm.pending_deliveries as queue
                       join tinydevcrm.deliveries
                         on deliveries.id = queue.delivery_id
                      where queue.subscription_id = subscriptions.id
                      order by queue.matview_id, queue.event_id, queue.row_number
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
        ),
        kinds as (
            select known.kind,
                   coalesce(sum(queues.pending_count), 0) as pending_count,
                   coalesce(sum(queues.parked_count), 0) as parked_count,
                   coalesce(sum(queues.expired_count), 0) as expired_count,
                   coalesce(extract(epoch from clock_timestamp() - min(queues.oldest_at)), 0) as lag
              from unnest(array['log', 'webhook', 'worker']) as known (kind)
              left join queues
                on queues.kind = known.kind
             group by known.kind
        )
        select 'tinydevcrm_subscriptions',
               array[kinds.kind, replace(known.state, ' ', '_')],
               count(queues.state)::double precision
          from kinds
         cross join unnest(
                   array['ok', 'failing', 'paused', 'switched off', 'no mail server', 'view dropped']
               ) as known (state)
          left join queues
            on queues.kind = kinds.kind
           and queues.state = known.state
         group by kinds.kind, known.state
        union all
        select figure.name,
               array[kinds.kind],
               figure.value
          from kinds
         cross join lateral (
             values ('tinydevcrm_deliveries_pending', kinds.pending_count::double precision),
                    ('tinydevcrm_deliveries_parked', kinds.parked_count),
                    ('tinydevcrm_deliveries_expired', kinds.expired_count),
                    ('tinydevcrm_delivery_lag_seconds', kinds.lag)
         ) as figure (name, value);
end
$$;

comment on function tinydevcrm._subscription_metrics() is
    'Subscriptions by kind and state, and the deliveries of each kind that are pending, parked or '
    'expired; nothing for a role that does not see them all.';

create function tinydevcrm._source_metrics()
    returns table (name text, labels text[], value double precision)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not tinydevcrm._sees_all('tinydevcrm.sources')
       or not tinydevcrm._sees_all('tinydevcrm.source_runs')
    then
        return;
    end if;

    return query
        select 'tinydevcrm_sources',
               array[known.state],
               count(judged.state)::double precision
          from unnest(array['ok', 'failing', 'late', 'silent', 'paused']) as known (state)
          left join (
            select tinydevcrm._source_state(sources) as state
              from tinydevcrm.sources
          ) as judged
            on judged.state = known.state
         group by known.state;
end
$$;

comment on function tinydevcrm._source_metrics() is
    'Sources by state; nothing for a role that does not see them all.';

create function tinydevcrm._metrics()
    returns table (name text, labels text[], value double precision)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select 'tinydevcrm_schema_version',
               '{}'::text[],
               schema_migrations.version::double precision
          from public.schema_migrations
        union all
        select 'tinydevcrm_cron_up',
               '{}',
               tinydevcrm._cron_is_running()::integer
        union all
        select matviews.*
          from tinydevcrm._matview_metrics() as matviews
        union all
        select subscriptions.*
          from tinydevcrm._subscription_metrics() as subscriptions
        union all
        select sources.*
          from tinydevcrm._source_metrics() as sources
        union all
        -- 0 means never, so that an alert on the age fires then too.
        select 'tinydevcrm_upkeep_last_success_timestamp_seconds',
               '{}',
               coalesce(extract(epoch from tinydevcrm._find_last_upkeep()), 0)
        union all
        select 'tinydevcrm_table_size_bytes',
               array[sized.name],
               pg_total_relation_size(pg_class.oid)
          from (
            values ('events', 'tinydevcrm', 'matview_refresh_events'),
                   ('deliveries', 'tinydevcrm', 'deliveries'),
                   ('baselines', 'tinydevcrm', 'matview_baselines'),
                   ('imports', 'tinydevcrm', 'imports'),
                   ('import_problems', 'tinydevcrm', 'import_problems'),
                   ('source_rows', 'tinydevcrm', 'source_rows'),
                   ('job_runs', 'cron', 'job_run_details')
          ) as sized (name, schema_name, table_name)
          -- A cast to regclass would need a right on schema cron, which users lack.
          join pg_namespace
            on pg_namespace.nspname = sized.schema_name
          join pg_class
            on pg_class.relnamespace = pg_namespace.oid
           and pg_class.relname = sized.table_name;
end
$$;

comment on function tinydevcrm._metrics() is
    'The gauges of /metrics, as the caller sees them: name, values of the labels, value.';

revoke execute on function
    tinydevcrm._sees_all(regclass),
    tinydevcrm._matview_metrics(),
    tinydevcrm._subscription_kind(tinydevcrm.subscriptions),
    tinydevcrm._subscription_metrics(),
    tinydevcrm._source_metrics(),
    tinydevcrm._metrics()
from public;

grant execute on function
    tinydevcrm._sees_all(regclass),
    tinydevcrm._matview_metrics(),
    tinydevcrm._subscription_kind(tinydevcrm.subscriptions),
    tinydevcrm._subscription_metrics(),
    tinydevcrm._source_metrics(),
    tinydevcrm._metrics()
to tinydevcrm_orchestrator;

grant execute on function tinydevcrm._subscription_kind(tinydevcrm.subscriptions) to tinydevcrm_user;
