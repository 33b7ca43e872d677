-- The overview: one row of counts.

create view tinydevcrm.overview
    with (security_barrier)
as
with own_subscriptions as (
    select subscriptions.id,
           tinydevcrm._subscription_state(subscriptions) as state
      from tinydevcrm.subscriptions
     where tinydevcrm._may_see(subscriptions.owner)
)
select watched.view_count,
       watched.failing_count,
       watched.late_count,
       watched.silent_count,
       watched.renamed_count,
       watched.not_populated_count,
       watched.unscheduled_count,
       watched.paused_count,
       subscribed.subscription_count,
       subscribed.troubled_subscription_count,
       fetched.source_count,
       fetched.troubled_source_count,
       pending.pending_count,
       parked.parked_count,
       watched.last_refreshed_at,
       tinydevcrm._cron_is_running() as cron_is_running
  from (
      select count(*) as view_count,
             count(*) filter (where own.state = 'failing') as failing_count,
             count(*) filter (where own.state = 'late') as late_count,
             count(*) filter (where own.state = 'silent') as silent_count,
             count(*) filter (where own.state = 'reads renamed table') as renamed_count,
             count(*) filter (where own.state = 'not populated') as not_populated_count,
             count(*) filter (where own.state = 'not scheduled') as unscheduled_count,
             count(*) filter (where own.state = 'paused') as paused_count,
             max(own.last_refreshed_at) as last_refreshed_at
        from (
          select matviews.last_refreshed_at,
                 tinydevcrm._matview_state(matviews, late.matview_id is not null) as state
            from tinydevcrm.matviews
            left join tinydevcrm._list_late_matviews() as late
              on late.matview_id = matviews.id
           where matviews.owner = any (
                     array(
                         select pg_roles.oid
                           from pg_catalog.pg_roles
                          where tinydevcrm._may_see(pg_roles.oid)
                     ))
           -- Keeps the state from being computed for each of the counts.
          offset 0
        ) as own
  ) as watched
 cross join (
      select count(*) as subscription_count,
             count(*) filter (
                 where tinydevcrm._needs_attention(own_subscriptions.state)
             ) as troubled_subscription_count
        from own_subscriptions
  ) as subscribed
 cross join (
      select count(*) as source_count,
             count(*) filter (
                 where tinydevcrm._needs_attention(tinydevcrm._source_state(sources))
             ) as troubled_source_count
        from tinydevcrm.sources
       where tinydevcrm._may_see(sources.owner)
  ) as fetched
 -- A count stops at 10000, because a million would take long. The order is that of an index which
 -- has only these deliveries, by subscription.
 cross join (
      select count(*) as pending_count
        from (
          select
            from own_subscriptions
           cross join lateral (
               select
                 from tinydevcrm.pending_deliveries as queue
                where queue.subscription_id = own_subscriptions.id
                order by queue.matview_id, queue.event_id, queue.row_number
                limit 10000
           ) as of_one
           limit 10000
        ) as of_all
  ) as pending
 cross join (
      select count(*) as parked_count
        from (
          select
            from own_subscriptions
           cross join lateral (
               select
                 from tinydevcrm.deliveries
                where deliveries.subscription_id = own_subscriptions.id
                  and deliveries.parked_at is not null
                order by deliveries.id
                limit 10000
           ) as of_one
           limit 10000
        ) as of_all
  ) as parked;

comment on view tinydevcrm.overview is
    'One row of counts: the views, sources, subscriptions and deliveries that you may see, and which of '
    'them need attention.';
comment on column tinydevcrm.overview.view_count is
    'Watched materialized views.';
comment on column tinydevcrm.overview.failing_count is
    'Those of them in state failing: see tinydevcrm._matview_state(). Each counts in one state.';
comment on column tinydevcrm.overview.late_count is
    'Those in state late.';
comment on column tinydevcrm.overview.silent_count is
    'Those in state silent.';
comment on column tinydevcrm.overview.renamed_count is
    'Those in state reads renamed table.';
comment on column tinydevcrm.overview.not_populated_count is
    'Those in state not populated.';
comment on column tinydevcrm.overview.unscheduled_count is
    'Those in state not scheduled.';
comment on column tinydevcrm.overview.paused_count is
    'Those in state paused.';
comment on column tinydevcrm.overview.subscription_count is
    'Subscriptions.';
comment on column tinydevcrm.overview.troubled_subscription_count is
    'Those of them that need attention: see tinydevcrm._needs_attention().';
comment on column tinydevcrm.overview.source_count is
    'Sources of files.';
comment on column tinydevcrm.overview.troubled_source_count is
    'Those of them that need attention: see tinydevcrm._source_state().';
comment on column tinydevcrm.overview.pending_count is
    'Deliveries of the subscriptions that are neither acknowledged nor parked; 10000 when there are as many or '
    'more.';
comment on column tinydevcrm.overview.parked_count is
    'Their parked deliveries; 10000 when there are as many or more.';
comment on column tinydevcrm.overview.last_refreshed_at is
    'When the last refresh of any of the materialized views began.';
comment on column tinydevcrm.overview.cron_is_running is
    'Whether pg_cron runs, or an orchestrator with --clock. Without it no schedule is served.';

grant select on tinydevcrm.overview to tinydevcrm_user;
