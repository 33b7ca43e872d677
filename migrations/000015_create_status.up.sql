-- One place to look. These views run with the rights of their owner, who sees all (Postgres 12 has
-- no others), so each one says itself whose rows the caller may see.

create view tinydevcrm.matview_status
    with (security_barrier)
as
select matviews.relation,
       matviews.owner,
       matviews.notify_when,
       schedules.schedule,
       matviews.last_refreshed_at,
       last_event.outcome,
       last_event.method,
       last_event.row_count,
       last_event.duration,
       last_event.error_code,
       last_event.error_message,
       case
           when matviews.last_outcome = 'failed' then 'failing'
           when not pg_class.relispopulated then 'not populated'
           when schedules.id is null then 'not scheduled'
           else 'ok'
       end as status
  from tinydevcrm.matviews
  join pg_catalog.pg_class
    on pg_class.oid = matviews.relation
  left join tinydevcrm.schedules
    on schedules.id = matviews.schedule_id
  left join lateral (
      select events.outcome,
             events.method,
             events.row_count,
             events.duration,
             events.error_code,
             events.error_message
        from tinydevcrm.matview_refresh_events as events
       where events.matview_id = matviews.id
         and events.owner = matviews.owner
         and events.outcome <> 'skipped'
       order by events.id desc
       limit 1
  ) as last_event
    on true
 where pg_has_role(matviews.owner, 'usage');

comment on view tinydevcrm.matview_status is
    'The watched materialized views that you may see, each with its schedule and its last refresh.';
comment on column tinydevcrm.matview_status.relation is
    'The materialized view.';
comment on column tinydevcrm.matview_status.owner is
    'Its owner, as whom it is refreshed by schedule.';
comment on column tinydevcrm.matview_status.notify_when is
    'Which refreshes are worth telling: see tinydevcrm.matviews.';
comment on column tinydevcrm.matview_status.schedule is
    'Its schedule; null when it has none.';
comment on column tinydevcrm.matview_status.last_refreshed_at is
    'When the last refresh that was not skipped began.';
comment on column tinydevcrm.matview_status.outcome is
    'How it ended: refreshed, recovered or failed.';
comment on column tinydevcrm.matview_status.method is
    'plain or concurrently: see tinydevcrm._refresh_method().';
comment on column tinydevcrm.matview_status.row_count is
    'Rows after that refresh; null when it failed.';
comment on column tinydevcrm.matview_status.duration is
    'How long it took.';
comment on column tinydevcrm.matview_status.error_code is
    'SQLSTATE, when it failed.';
comment on column tinydevcrm.matview_status.error_message is
    'Message, when it failed.';
comment on column tinydevcrm.matview_status.status is
    'ok, failing (the last refresh failed), not populated, or not scheduled.';

create view tinydevcrm.job_runs
    with (security_barrier)
as
select job_run_details.runid as run_id,
       schedules.id as schedule_id,
       schedules.owner,
       schedules.schedule,
       job_run_details.status,
       job_run_details.return_message,
       job_run_details.start_time as started_at,
       job_run_details.end_time as ended_at
  from tinydevcrm.schedules
  join cron.job_run_details
    on job_run_details.jobid = schedules.job_id
   and job_run_details.username = pg_get_userbyid(schedules.owner)
 where pg_has_role(schedules.owner, 'usage');

comment on view tinydevcrm.job_runs is
    'pg_cron''s own history of the schedules that you may see: where a job that could not even '
    'start shows. A refresh that fails is an event instead, and its job succeeds.';
comment on column tinydevcrm.job_runs.run_id is
    'Number of the run: cron.job_run_details.runid.';
comment on column tinydevcrm.job_runs.schedule_id is
    'The schedule.';
comment on column tinydevcrm.job_runs.owner is
    'Its owner.';
comment on column tinydevcrm.job_runs.schedule is
    'The schedule in words.';
comment on column tinydevcrm.job_runs.status is
    'starting, running, sending, connecting, succeeded or failed.';
comment on column tinydevcrm.job_runs.return_message is
    'What the server said at the end.';
comment on column tinydevcrm.job_runs.started_at is
    'When it started; null when it did not get so far.';
comment on column tinydevcrm.job_runs.ended_at is
    'When it ended.';

grant select on tinydevcrm.matview_status, tinydevcrm.job_runs to tinydevcrm_user;
