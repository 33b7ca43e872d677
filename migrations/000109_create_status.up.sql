-- The state of everything, as views. They run with the rights of their owner, who sees all
-- (Postgres 12 has no others), so each view itself selects the rows that the caller may see.

create function tinydevcrm._find_clock()
    returns integer
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select _locks.pid
      from tinydevcrm._locks
     where _locks.what = 'clock'
       and not tinydevcrm._is_left_mark(_locks)
       and _locks.marked_at > clock_timestamp() - interval '8 seconds'
$$;

comment on function tinydevcrm._find_clock() is
    'The session of the orchestrator that runs the jobs, in a database without pg_cron. It marks '
    'its lock every two seconds. Null when there is none, or it has not done so for eight seconds.';

create function tinydevcrm._cron_is_running()
    returns boolean
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when tinydevcrm._has_clock() then tinydevcrm._find_clock() is not null
               when pg_has_role('pg_read_all_stats', 'usage') then exists (
                   select
                     from pg_stat_activity
                    where backend_type = 'pg_cron launcher'
               )
               -- Upkeep runs each minute. Before its first run nothing is known.
               else pg_postmaster_start_time() > now() - interval '3 minutes'
                   or coalesce(
                       (
                           select coalesce(
                                      _job_runs.end_time, _job_runs.start_time, now())
                             from tinydevcrm._job_runs
                            where _job_runs.jobid in (
                                      select job.jobid
                                        from cron.job
                                       where job.jobname = 'tinydevcrm upkeep'
                                  )
                            order by _job_runs.runid desc
                            limit 1
                       ) > now() - interval '3 minutes',
                       true)
           end
$$;

comment on function tinydevcrm._cron_is_running() is
    'Whether pg_cron''s launcher runs on this server, or, where its process cannot be seen, whether '
    'upkeep has run within 3 minutes; without pg_cron, whether a clock of ours runs. Security '
    'definer: lends the right to see processes of others and the history of upkeep, for this one '
    'fact.';

create view tinydevcrm.matview_status
    with (security_barrier)
as
select matviews.relation,
       matviews.owner,
       matviews.notify_when,
       case when matviews.muted_until > now() then matviews.muted_until end as muted_until,
       matviews.schedule,
       case
           when due.since_at > now() then due.since_at
           when due.since_at is not null then
               tinydevcrm._compute_next_due(
                   schedules.seconds, schedules.schedule, schedules.time_zone, now())
       end as next_due_at,
       matviews.last_refreshed_at,
       tinydevcrm._find_last_look(matviews) as last_checked_at,
       tinydevcrm._find_last_change(matviews.id) as last_changed_at,
       nullif(matviews.notify_deadline, '0') as notify_deadline,
       matviews.is_tracked,
       matviews.untracked_reason,
       last_event.outcome,
       last_event.suppressed_by,
       last_event.method,
       matviews.plain_reason,
       last_event.row_count,
       last_event.duration,
       last_event.error_code,
       last_event.error_message,
       matviews.failing_since,
       tinydevcrm._list_read_relations(matviews.relation) as reads,
       tinydevcrm._find_renamed_read(matviews.id) as renamed_read,
       case
           when not judged.is_late then null
           -- A subselect, here and below, is run once for all rows.
           when not (select tinydevcrm._cron_is_running()) then
               case
                   when tinydevcrm._has_clock() then 'no clock is running'
                   else 'pg_cron is not running'
               end
           -- A row's xmax is the transaction that has locked it; the job works while that one runs.
           when schedules.job_id in (
               select busy.job_id
                 from pg_catalog.pg_locks
                 join tinydevcrm._locks
                   on _locks.xmax = pg_locks.transactionid
                  and _locks.what = 'schedule'
                 join tinydevcrm.schedules as busy
                   on busy.id = _locks.id
                where pg_locks.locktype = 'transactionid'
                  and pg_locks.granted
           ) then 'its job is refreshing others'
           else coalesce(
               (
                   select 'its job fails: ' || last_run.return_message
                     from (
                       select _job_runs.status,
                              _job_runs.return_message
                         from tinydevcrm._job_runs
                        where _job_runs.jobid = schedules.job_id
                        order by _job_runs.runid desc
                        limit 1
                     ) as last_run
                    where last_run.status = 'failed'
               ),
               'its job has not run')
       end as late_reason,
       case when judged.is_late then due.since_at end as late_since,
       judged.status,
       tinydevcrm._needs_attention(judged.status) as is_troubled,
       matviews.is_managed
  from tinydevcrm.matviews
  join pg_catalog.pg_class
    on pg_class.oid = matviews.relation
  left join tinydevcrm.schedules
    on schedules.id = matviews.schedule_id
  left join lateral (
      select tinydevcrm._compute_due_at(matviews, schedules) as since_at
  ) as due
    on true
  left join lateral (
      select late.is_late,
             tinydevcrm._matview_state(matviews, late.is_late) as status
        from (
          select case
                     when tinydevcrm._is_late(schedules, due.since_at) then
                         matviews.relation::oid
                         <> all ((select tinydevcrm._list_refreshing())::oid[])
                     else false
                 end as is_late
          offset 0
        ) as late
      offset 0
  ) as judged
    on true
  left join lateral (
      select events.outcome,
             events.suppressed_by,
             events.method,
             events.row_count,
             events.duration,
             events.error_code,
             events.error_message
        from tinydevcrm.matview_refresh_events as events
       where events.matview_id = matviews.id
         and events.owner = matviews.owner
         and events.outcome in ('refreshed', 'recovered', 'failed')
       order by events.id desc
       limit 1
  ) as last_event
    on true
 where pg_has_role(matviews.owner, 'usage')
    or pg_has_role('tinydevcrm_admin', 'usage');

comment on view tinydevcrm.matview_status is
    'The watched materialized views that you may see, each with its schedule and its last refresh.';
comment on column tinydevcrm.matview_status.relation is
    'The materialized view.';
comment on column tinydevcrm.matview_status.owner is
    'Its owner. Scheduled refreshes run as this role.';
comment on column tinydevcrm.matview_status.notify_when is
    'Which refreshes notify: see tinydevcrm.matviews.';
comment on column tinydevcrm.matview_status.muted_until is
    'Until when nothing notifies: see tinydevcrm.mute_matview(). Null when it is not muted.';
comment on column tinydevcrm.matview_status.schedule is
    'Its schedule, as it was typed; null when it has none.';
comment on column tinydevcrm.matview_status.next_due_at is
    'When it is due next; null when it has no schedule or is paused.';
comment on column tinydevcrm.matview_status.late_reason is
    'Why a refresh that was due has not happened; null when none is late.';
comment on column tinydevcrm.matview_status.late_since is
    'When that refresh was due.';
comment on column tinydevcrm.matview_status.last_refreshed_at is
    'When the last refresh that was not skipped began.';
comment on column tinydevcrm.matview_status.last_checked_at is
    'When its schedule last came to it. A tracked view that had not changed was not refreshed then.';
comment on column tinydevcrm.matview_status.last_changed_at is
    'When one of the tables that it reads last changed or was imported, to about a minute; null when '
    'that is not known.';
comment on column tinydevcrm.matview_status.notify_deadline is
    'When its tables have not changed for so long, it is silent: see tinydevcrm.matviews. Null for '
    'none.';
comment on column tinydevcrm.matview_status.is_tracked is
    'Whether its schedule refreshes it only after a table that it reads has changed.';
comment on column tinydevcrm.matview_status.untracked_reason is
    'Why it is not tracked.';
comment on column tinydevcrm.matview_status.outcome is
    'How it ended: refreshed, recovered or failed.';
comment on column tinydevcrm.matview_status.suppressed_by is
    'Why it did not notify: see tinydevcrm.matview_refresh_events. Null when it did.';
comment on column tinydevcrm.matview_status.method is
    'plain or concurrently: see tinydevcrm._begin_refresh().';
comment on column tinydevcrm.matview_status.plain_reason is
    'Why it was plain, so that readers had to wait.';
comment on column tinydevcrm.matview_status.row_count is
    'Rows after that refresh; null when it failed.';
comment on column tinydevcrm.matview_status.duration is
    'How long it took.';
comment on column tinydevcrm.matview_status.error_code is
    'SQLSTATE, when it failed.';
comment on column tinydevcrm.matview_status.error_message is
    'Message, when it failed.';
comment on column tinydevcrm.matview_status.failing_since is
    'When the first refresh began that has failed without a success since.';
comment on column tinydevcrm.matview_status.reads is
    'The tables and materialized views that its query reads, also through views, by their present '
    'names. A query goes on reading a table that is renamed.';
comment on column tinydevcrm.matview_status.renamed_read is
    'Which table it reads that has been renamed while another one has its old name; null when there '
    'is none. tinydevcrm.accept_tables() accepts it.';
comment on column tinydevcrm.matview_status.status is
    'Its state: see tinydevcrm._matview_state().';
comment on column tinydevcrm.matview_status.is_troubled is
    'Whether that needs attention: see tinydevcrm._needs_attention().';
comment on column tinydevcrm.matview_status.is_managed is
    'Whether files define it: see tinydevcrm.matviews.';

create view tinydevcrm.job_runs
    with (security_barrier)
as
select _job_runs.runid as run_id,
       schedules.id as schedule_id,
       schedules.owner,
       concat_ws(' ', schedules.schedule, schedules.time_zone) as schedule,
       array(
           select matviews.relation
             from tinydevcrm.matviews
            where matviews.schedule_id = schedules.id
            order by matviews.id
       ) as matviews,
       _job_runs.status,
       _job_runs.return_message,
       _job_runs.start_time as started_at,
       _job_runs.end_time as ended_at
  from tinydevcrm.schedules
  join tinydevcrm._job_runs
    on _job_runs.jobid = schedules.job_id
   and _job_runs.username = pg_get_userbyid(schedules.owner)
 where pg_has_role(schedules.owner, 'usage')
    or pg_has_role('tinydevcrm_admin', 'usage');

comment on view tinydevcrm.job_runs is
    'pg_cron''s history of the schedules that you may see. It shows a job that could not even '
    'start. A refresh that fails is an event instead, and its job succeeds.';
comment on column tinydevcrm.job_runs.run_id is
    'Number of the run: cron.job_run_details.runid.';
comment on column tinydevcrm.job_runs.schedule_id is
    'The schedule.';
comment on column tinydevcrm.job_runs.owner is
    'Its owner.';
comment on column tinydevcrm.job_runs.schedule is
    'The schedule in normal form, with its time zone.';
comment on column tinydevcrm.job_runs.matviews is
    'The materialized views that are on it now.';
comment on column tinydevcrm.job_runs.status is
    'starting, running, sending, connecting, succeeded or failed.';
comment on column tinydevcrm.job_runs.return_message is
    'What the server said at the end.';
comment on column tinydevcrm.job_runs.started_at is
    'When it started; null when it has not started.';
comment on column tinydevcrm.job_runs.ended_at is
    'When it ended.';

create view tinydevcrm.subscription_status
    with (security_barrier)
as
select subscriptions.name as subscription,
       subscriptions.owner,
       matviews.relation as matview,
       case
           when judged.status = 'view dropped' then coalesce(
               format('%I.%I', dropped_matviews.schema_name, dropped_matviews.name), 'unknown')
       end as dropped_matview,
       tinydevcrm._show_url(webhooks.url, webhooks.format) as url,
       webhooks.format,
       counted.pending_count,
       counted.in_flight_count,
       parked.parked_count,
       subscriptions.expired_count,
       counted.oldest_pending_at,
       date_trunc('seconds', now() - counted.oldest_pending_at) as oldest_pending_age,
       last_acknowledged.acknowledged_at as last_acknowledged_at,
       tinydevcrm._find_next_attempt(subscriptions) as next_attempt_at,
       troubled.last_error,
       subscriptions.pause_reason,
       subscriptions.is_paused,
       case
           when subscriptions.muted_until > now() then subscriptions.muted_until
       end as muted_until,
       subscriptions.title,
       subscriptions.message,
       judged.status,
       tinydevcrm._needs_attention(judged.status) as is_troubled,
       array_to_string(subscriptions.notify_when, ', ') as notify_when,
       subscriptions.each_row,
       subscriptions.to_column
  from tinydevcrm.subscriptions
  left join tinydevcrm.matviews
    on matviews.id = subscriptions.matview_id
  left join tinydevcrm.dropped_matviews
    on dropped_matviews.id = subscriptions.matview_id
  left join tinydevcrm.webhooks
    on webhooks.subscription_id = subscriptions.id
 cross join lateral (
      select count(*) as pending_count,
             -- The state is computed only for those that a worker has had, because most wait.
             count(*) filter (
                 where case
                           when pending.is_in_flight then
                               tinydevcrm._delivery_state(pending) = 'in flight'
                       end
             ) as in_flight_count,
             min(pending.created_at) as oldest_pending_at
        from (
          select deliveries.*
            from tinydevcrm.pending_deliveries as queue
            join tinydevcrm.deliveries
              on deliveries.id = queue.delivery_id
           where queue.subscription_id = subscriptions.id
           order by queue.matview_id, queue.event_id, queue.row_number
           limit 10000
        ) as pending
  ) as counted
 cross join lateral (
      select count(*) as parked_count
        from (
          select
            from tinydevcrm.deliveries
           where deliveries.subscription_id = subscriptions.id
             and deliveries.parked_at is not null
           limit 10000
        ) as parked
  ) as parked
  left join lateral (
      select deliveries.last_error
        from tinydevcrm.deliveries
       where deliveries.subscription_id = subscriptions.id
         and deliveries.has_failed
       order by deliveries.id desc
       limit 1
  ) as troubled
    on true
  left join lateral (
      select newest.acknowledged_at
        from (
          select deliveries.id,
                 deliveries.acknowledged_at
            from tinydevcrm.deliveries
           where deliveries.subscription_id = subscriptions.id
           order by deliveries.id desc
           limit 10000
        ) as newest
       where newest.acknowledged_at is not null
       order by newest.id desc
       limit 1
  ) as last_acknowledged
    on true
 cross join lateral (
      select tinydevcrm._subscription_state(subscriptions) as status
  ) as judged
 where pg_has_role(subscriptions.owner, 'usage')
    or pg_has_role('tinydevcrm_admin', 'usage');

comment on view tinydevcrm.subscription_status is
    'The subscriptions that you may see, each with its state and its pending deliveries. It reads '
    'at most 10000 deliveries for each count.';
comment on column tinydevcrm.subscription_status.subscription is
    'Its name.';
comment on column tinydevcrm.subscription_status.owner is
    'Its owner.';
comment on column tinydevcrm.subscription_status.matview is
    'The materialized view whose events it gets; null for all, and when it has been dropped.';
comment on column tinydevcrm.subscription_status.dropped_matview is
    'Name of its materialized view when that has been dropped. tinydevcrm.restore_matview() makes '
    'the view again.';
comment on column tinydevcrm.subscription_status.url is
    'Where its deliveries are posted; null when it is no webhook. A URL that is a secret is '
    'shortened: tinydevcrm.webhooks has it.';
comment on column tinydevcrm.subscription_status.format is
    'The shape of its posts; null when it is no webhook. See tinydevcrm.webhook_formats.';
comment on column tinydevcrm.subscription_status.pending_count is
    'Deliveries that are neither acknowledged nor parked; 10000 when there are as many or more.';
comment on column tinydevcrm.subscription_status.in_flight_count is
    'Those of them in state in flight: see tinydevcrm._delivery_state().';
comment on column tinydevcrm.subscription_status.parked_count is
    'Its parked deliveries; 10000 when there are as many or more. See '
    'tinydevcrm.redeliver_parked().';
comment on column tinydevcrm.subscription_status.expired_count is
    'Deliveries that were removed without having been acknowledged.';
comment on column tinydevcrm.subscription_status.oldest_pending_at is
    'Since when the oldest pending delivery is pending.';
comment on column tinydevcrm.subscription_status.oldest_pending_age is
    'How long that is.';
comment on column tinydevcrm.subscription_status.last_acknowledged_at is
    'When the newest acknowledged delivery, among the last 10000, was acknowledged.';
comment on column tinydevcrm.subscription_status.next_attempt_at is
    'When the next delivery is tried: see tinydevcrm._find_next_attempt().';
comment on column tinydevcrm.subscription_status.last_error is
    'Why the last attempt failed, of the newest delivery that is not acknowledged and has an '
    'error.';
comment on column tinydevcrm.subscription_status.pause_reason is
    'Why it is paused or switched off.';
comment on column tinydevcrm.subscription_status.is_paused is
    'Whether it is paused or switched off.';
comment on column tinydevcrm.subscription_status.muted_until is
    'Until when it gets no events: see tinydevcrm.mute_subscription(). Null when it is not muted.';
comment on column tinydevcrm.subscription_status.title is
    'Template of the title of its messages; null for the default.';
comment on column tinydevcrm.subscription_status.message is
    'Template of the text of its messages; null for the default.';
comment on column tinydevcrm.subscription_status.status is
    'Its state: see tinydevcrm._subscription_state().';
comment on column tinydevcrm.subscription_status.is_troubled is
    'Whether that needs attention: see tinydevcrm._needs_attention().';
comment on column tinydevcrm.subscription_status.notify_when is
    'Its own rules: see tinydevcrm.subscription_rules(). Null when it gets what notifies.';
comment on column tinydevcrm.subscription_status.each_row is
    'Whether each row is a delivery of its own.';
comment on column tinydevcrm.subscription_status.to_column is
    'The column with the address of who gets a row; null when there is none.';

revoke execute on function tinydevcrm._find_clock(), tinydevcrm._cron_is_running() from public;

grant execute on function tinydevcrm._cron_is_running() to tinydevcrm_user;
grant select
   on tinydevcrm.matview_status, tinydevcrm.job_runs, tinydevcrm.subscription_status
   to tinydevcrm_user;
