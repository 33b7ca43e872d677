-- What users call to schedule the refreshes of a materialized view, and which of these are late.

create function tinydevcrm._assign_schedule(relation regclass, schedule text)
    returns tinydevcrm.schedules
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview  tinydevcrm.matviews := tinydevcrm._find_own_matview(_assign_schedule.relation);
    v_schedule tinydevcrm.schedules;
begin
    update tinydevcrm.matviews
       -- An empty text raises TD003. Null would remove the schedule.
       set schedule = coalesce(_assign_schedule.schedule, '')
     where matviews.id = v_matview.id
    returning matviews.*
         into v_matview;

    select schedules.*
      into v_schedule
      from tinydevcrm.schedules
     where schedules.id = v_matview.schedule_id;

    return v_schedule;
end
$$;

comment on function tinydevcrm._assign_schedule(regclass, text) is
    'Puts a watched materialized view on a schedule, which is created if there is none, and '
    'returns it.';

-- The first refresh runs the view's query, so it cannot set a search_path.
create function tinydevcrm.schedule_matview(
    relation          regclass,
    inout schedule    text,
    out seconds       integer,
    out is_slow       boolean,
    out outcome       text,
    out row_count     bigint,
    out error_code    text,
    out error_message text
)
    returns record
    language plpgsql
    volatile
as $$
declare
    v_schedule tinydevcrm.schedules := tinydevcrm._assign_schedule(
        schedule_matview.relation, schedule_matview.schedule);
    v_event    tinydevcrm.matview_refresh_events := tinydevcrm.refresh_matview(
        schedule_matview.relation);
begin
    schedule := v_schedule.schedule;
    seconds := v_schedule.seconds;
    is_slow := v_schedule.is_slow;
    outcome := v_event.outcome;
    row_count := v_event.row_count;
    error_code := v_event.error_code;
    error_message := v_event.error_message;
end
$$;

comment on function tinydevcrm.schedule_matview(regclass, text) is
    'Refreshes a watched materialized view now, and from now on by a schedule: "5 seconds", "10 '
    'minutes", "1 hour", or a cron expression. Replaces an earlier schedule. Returns the schedule '
    'in normal form and the outcome of the first refresh: a failure raises nothing, and the '
    'schedule stays set. In a session that has not logged in as the owner, the first refresh is '
    'requested: see tinydevcrm.refresh_matview(). Raises TD001 when it is not watched, TD003 when '
    'it is not a schedule, 42501 when it is not yours.';

create function tinydevcrm.unschedule_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(unschedule_matview.relation);
begin
    update tinydevcrm.matviews
       set schedule = null
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.unschedule_matview(regclass) is
    'Stops the scheduled refreshes of a materialized view; harmless when it has none. Raises TD001 '
    'when it is not watched.';

create function tinydevcrm.pause_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(pause_matview.relation);
begin
    update tinydevcrm.matviews
       set is_paused = true
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.pause_matview(regclass) is
    'Pauses the scheduled refreshes of a materialized view until resume_matview(). All else stays '
    'as it is. Raises TD001 when it is not watched.';

create function tinydevcrm.resume_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(resume_matview.relation);
begin
    update tinydevcrm.matviews
       set is_paused = false
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.resume_matview(regclass) is
    'Ends the pause of a materialized view: it is refreshed when its schedule is next due. '
    'Refreshes that it missed are not made up for. Raises TD001 when it is not watched.';

create function tinydevcrm._compute_due_at(
    matview  tinydevcrm.matviews,
    schedule tinydevcrm.schedules
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (schedule).id is null or matview.is_paused then
        return null;
    end if;

    return tinydevcrm._compute_next_due(
        (schedule).seconds,
        (schedule).cron_schedule,
        greatest(matview.last_scheduled_at, matview.last_refreshed_at, matview.scheduled_since));
end
$$;

comment on function tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules) is
    'When the next refresh of a materialized view by its schedule is or was due; null while it is '
    'paused, and without a schedule.';

create function tinydevcrm._is_late(schedule tinydevcrm.schedules, due_at timestamptz)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               _is_late.due_at
               <= now() - tinydevcrm._find_round_grace(schedule.seconds, schedule.cron_schedule),
               false)
$$;

comment on function tinydevcrm._is_late(tinydevcrm.schedules, timestamptz) is
    'Whether a refresh by this schedule that was due at that time, and has not happened, is late.';

create function tinydevcrm._list_refreshing()
    returns oid[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array(
               select pg_locks.relation
                 from pg_locks
                where pg_locks.locktype = 'relation'
                  and pg_locks.database = (
                      select oid
                        from pg_database
                       where datname = current_database()
                  )
                  and pg_locks.mode in ('ExclusiveLock', 'AccessExclusiveLock')
                  and pg_locks.granted
                  and pg_locks.pid <> pg_backend_pid()
           )
$$;

comment on function tinydevcrm._list_refreshing() is
    'The relations on which another session holds the lock that a refresh takes: materialized '
    'views that are just being refreshed, and others.';

create function tinydevcrm._list_late_matviews()
    returns table (matview_id bigint, schedule_id bigint, due_at timestamptz)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- First each schedule, with its view that was refreshed least recently: a computation for each
    -- view would take long, and most schedules have nothing late.
    with behind as materialized (
        select schedules as schedule
          from tinydevcrm.schedules
         cross join lateral (
             select matviews
               from tinydevcrm.matviews
              where matviews.schedule_id = schedules.id
                and not matviews.is_paused
              order by greatest(
                           matviews.last_scheduled_at,
                           matviews.last_refreshed_at,
                           matviews.scheduled_since) nulls first
              limit 1
         ) as oldest (matview)
         where tinydevcrm._is_late(
                   schedules, tinydevcrm._compute_due_at(oldest.matview, schedules))
    ),
    due as materialized (
        select matviews.id,
               matviews.relation,
               behind.schedule,
               tinydevcrm._compute_due_at(matviews, behind.schedule) as due_at
          from behind
          join tinydevcrm.matviews
            on matviews.schedule_id = (behind.schedule).id
    )
    select due.id,
           (due.schedule).id,
           due.due_at
      from due
     where tinydevcrm._is_late(due.schedule, due.due_at)
       and due.relation::oid <> all ((select tinydevcrm._list_refreshing())::oid[])
$$;

comment on function tinydevcrm._list_late_matviews() is
    'The materialized views that you may see and that are late: a refresh by the schedule was due, '
    'and has not begun. due_at is when it was due.';

revoke execute on function
    tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules),
    tinydevcrm._is_late(tinydevcrm.schedules, timestamptz),
    tinydevcrm._list_refreshing(),
    tinydevcrm._list_late_matviews(),
    tinydevcrm._assign_schedule(regclass, text),
    tinydevcrm.schedule_matview(regclass, text),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
from public;

grant execute on function
    tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules),
    tinydevcrm._is_late(tinydevcrm.schedules, timestamptz),
    tinydevcrm._list_refreshing(),
    tinydevcrm._list_late_matviews(),
    tinydevcrm._assign_schedule(regclass, text),
    tinydevcrm.schedule_matview(regclass, text),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
to tinydevcrm_user;
