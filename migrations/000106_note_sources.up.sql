-- A source that fails, recovers, or has nothing new for its deadline writes an event, as a view does.
-- And the state of the sources.

create function tinydevcrm._sources_note()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_run tinydevcrm.source_runs;
begin
    select source_runs.*
      into v_run
      from tinydevcrm.source_runs
     where source_runs.source_id = new.id
       and source_runs.finished_at is not null
     order by source_runs.id desc
     limit 1;

    insert into tinydevcrm.matview_refresh_events (
               owner, source_id, matview, outcome, is_notified, row_count, error_code, error_message,
               reason, started_at, duration)
    select new.owner,
           new.id,
           format('source %I', new.name),
           noted.outcome,
           true,
           case when noted.outcome = 'recovered' then coalesce(v_run.row_count, new.row_count, 0) end,
           case when noted.outcome = 'failed' then coalesce(v_run.error_code, 'TD013') end,
           case when noted.outcome = 'failed' then v_run.error_message end,
           noted.reason,
           clock_timestamp(),
           '0'
      from (
        values ('failed', old.failing_since is null and new.failing_since is not null, null),
               ('recovered', old.failing_since is not null and new.failing_since is null, null),
               (
                   'silent',
                   old.silent_since is null and new.silent_since is not null,
                   format(
                       'nothing new has come since %s',
                       to_char(
                           coalesce(new.imported_at, new.created_at) at time zone 'UTC',
                           'YYYY-MM-DD HH24:MI:SS "UTC"'))
               ),
               (
                   'resumed',
                   old.silent_since is not null and new.silent_since is null
                   and new.imported_at is distinct from old.imported_at,
                   format('%s new rows have come', new.row_count)
               )
      ) as noted (outcome, is_now, reason)
     where noted.is_now;

    return null;
end
$$;

comment on function tinydevcrm._sources_note() is
    'Writes an event when a source begins to fail, recovers, becomes silent or has something new again. '
    'Security definer: users cannot write events of sources. As a trigger it runs only for what the '
    'triggers of runs and upkeep write.';

create trigger _900_note
    after update of failing_since, silent_since on tinydevcrm.sources
    for each row
    when (old.failing_since is distinct from new.failing_since
          or old.silent_since is distinct from new.silent_since)
    execute function tinydevcrm._sources_note();

create function tinydevcrm._is_silent(source tinydevcrm.sources)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select source.notify_deadline > interval '0'
       and source.silent_since is null
       and coalesce(source.imported_at, source.created_at) + source.notify_deadline < clock_timestamp()
$$;

comment on function tinydevcrm._is_silent(tinydevcrm.sources) is
    'Whether a source has had nothing new within its deadline, and no event has said so.';

create function tinydevcrm._note_silent_sources()
    returns void
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row of theirs. The next run tries again.
    set lock_timeout = '100ms'
as $$
declare
    v_owner regrole;
begin
    for v_owner in
        select distinct sources.owner
          from tinydevcrm.sources
         where tinydevcrm._is_silent(sources)
    loop
        begin
            update tinydevcrm.sources
               set silent_since = clock_timestamp()
             where sources.id in (
                 select silent.id
                   from tinydevcrm.sources as silent
                  where silent.owner = v_owner
                    and tinydevcrm._is_silent(silent)
                    for no key update skip locked
             );
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not note which sources of % are silent: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._note_silent_sources() is
    'Notes which sources have had nothing new within their deadline, which writes an event for each. '
    'Upkeep calls it each minute, and so does the orchestrator. Security definer: it works for all '
    'users, and takes nothing from its caller.';

create function tinydevcrm._is_run_late(run tinydevcrm.source_runs)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select run.finished_at is null
       and run.visible_at < clock_timestamp() - interval '5 minutes'
$$;

comment on function tinydevcrm._is_run_late(tinydevcrm.source_runs) is
    'Whether a run has waited for over five minutes: for an orchestrator, or, staged, for the job of its '
    'owner.';

create function tinydevcrm._source_state(source tinydevcrm.sources)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when source.failing_since is not null then 'failing'
               when source.next_due_at < clock_timestamp() - interval '5 minutes'
                    or exists (
                        select
                          from tinydevcrm.source_runs
                         where source_runs.source_id = source.id
                           and source_runs.finished_at is null
                           and tinydevcrm._is_run_late(source_runs)
                    )
               then 'late'
               when source.silent_since is not null then 'silent'
               when source.is_paused then 'paused'
               else 'ok'
           end
$$;

comment on function tinydevcrm._source_state(tinydevcrm.sources) is
    'The state of a source, the first that applies: failing: its last run failed; late: it was due over '
    'five minutes ago and nothing has fetched it, or nothing has imported what was fetched; silent: '
    'nothing new has come within notify_deadline; paused; ok. The first three need attention.';

create view tinydevcrm.source_status
    with (security_barrier)
as
select sources.name,
       sources.owner,
       -- Path and query may hold a token.
       case
           when sources.url ~ '^file:' then sources.url
           else substring(sources.url from '^[a-z]+://[^/?#]*') || '/…'
       end as url,
       format('%I.%I', sources.schema_name, sources.table_name) as table_name,
       sources.mode,
       sources.schedule,
       judged.status,
       sources.next_due_at,
       sources.checked_at,
       sources.imported_at,
       sources.import_number,
       sources.row_count,
       nullif(sources.notify_deadline, '0') as notify_deadline,
       sources.failing_since,
       last_run.status as last_run,
       last_run.attempts,
       last_run.error_code,
       last_run.error_message,
       case when last_run.status = 'waiting' then last_run.visible_at end as next_attempt_at,
       judged.status in ('failing', 'late', 'silent') as is_troubled
  from tinydevcrm.sources
 cross join lateral (
     select tinydevcrm._source_state(sources) as status
     offset 0
 ) as judged
  left join lateral (
      select source_runs.status,
             source_runs.attempts,
             source_runs.error_code,
             source_runs.error_message,
             source_runs.visible_at
        from tinydevcrm.source_runs
       where source_runs.source_id = sources.id
       order by source_runs.id desc
       limit 1
  ) as last_run
    on true
 where pg_has_role(sources.owner, 'usage')
    or pg_has_role('tinydevcrm_admin', 'usage');

comment on view tinydevcrm.source_status is
    'The sources that you may see, each with its state and its last run.';
comment on column tinydevcrm.source_status.name is
    'Name of the source.';
comment on column tinydevcrm.source_status.owner is
    'Its owner.';
comment on column tinydevcrm.source_status.url is
    'Its URL, without what may be a secret.';
comment on column tinydevcrm.source_status.table_name is
    'The table that it fills.';
comment on column tinydevcrm.source_status.mode is
    'What an import does with the rows that are there.';
comment on column tinydevcrm.source_status.schedule is
    'Its schedule, as it was typed; null for on request only.';
comment on column tinydevcrm.source_status.status is
    'Its state: see tinydevcrm._source_state().';
comment on column tinydevcrm.source_status.next_due_at is
    'When it is fetched next; null when it is paused or has no schedule.';
comment on column tinydevcrm.source_status.checked_at is
    'When a run last ended.';
comment on column tinydevcrm.source_status.imported_at is
    'When something new was last imported.';
comment on column tinydevcrm.source_status.import_number is
    'Number of that import.';
comment on column tinydevcrm.source_status.row_count is
    'How many rows it had.';
comment on column tinydevcrm.source_status.notify_deadline is
    'When nothing new has come for so long, it is silent; null for never.';
comment on column tinydevcrm.source_status.failing_since is
    'When the first of the runs ended that have failed since the last success.';
comment on column tinydevcrm.source_status.last_run is
    'Status of the last run: see tinydevcrm.source_runs.';
comment on column tinydevcrm.source_status.attempts is
    'How many attempts it has had.';
comment on column tinydevcrm.source_status.error_code is
    'SQLSTATE of its last failure.';
comment on column tinydevcrm.source_status.error_message is
    'What its last failure was.';
comment on column tinydevcrm.source_status.next_attempt_at is
    'When its next attempt is; null when it waits for none.';
comment on column tinydevcrm.source_status.is_troubled is
    'Whether the state needs attention.';

grant select on tinydevcrm.source_status to tinydevcrm_user;

revoke execute on function
    tinydevcrm._sources_note(),
    tinydevcrm._is_silent(tinydevcrm.sources),
    tinydevcrm._note_silent_sources(),
    tinydevcrm._is_run_late(tinydevcrm.source_runs),
    tinydevcrm._source_state(tinydevcrm.sources)
from public;

grant execute on function
    tinydevcrm._is_run_late(tinydevcrm.source_runs),
    tinydevcrm._source_state(tinydevcrm.sources)
to tinydevcrm_user;

grant execute on function tinydevcrm._note_silent_sources() to tinydevcrm_orchestrator;
