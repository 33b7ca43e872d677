-- What users call to schedule the refreshes of a materialized view.

create function tinydevcrm._assign_schedule(
    relation  regclass,
    schedule  text,
    time_zone text,
    catch_up  boolean
)
    returns tinydevcrm.schedules
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview  tinydevcrm.matviews := tinydevcrm._find_own_matview(_assign_schedule.relation);
    v_zone     constant text := case
        when _assign_schedule.time_zone is not null then
            tinydevcrm._find_time_zone(_assign_schedule.time_zone, must_exist => true)
    end;
    v_schedule tinydevcrm.schedules;
begin
    update tinydevcrm.matviews
       -- An empty text raises TD003. Null would remove the schedule.
       set schedule = concat_ws(' ', coalesce(_assign_schedule.schedule, ''), v_zone),
           catch_up = _assign_schedule.catch_up
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

comment on function tinydevcrm._assign_schedule(regclass, text, text, boolean) is
    'Puts a watched materialized view on a schedule, which is created if there is none, and '
    'returns it.';

-- The first refresh runs the view's query, so it cannot set a search_path.
create function tinydevcrm.schedule_matview(
    relation          regclass,
    inout schedule    text,
    inout time_zone   text default null,
    inout catch_up    boolean default null,
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
        schedule_matview.relation, schedule_matview.schedule, schedule_matview.time_zone,
        schedule_matview.catch_up);
    v_event    tinydevcrm.matview_refresh_events := tinydevcrm.refresh_matview(
        schedule_matview.relation);
begin
    schedule := v_schedule.schedule;
    time_zone := v_schedule.time_zone;
    catch_up := (tinydevcrm._find_registration(schedule_matview.relation)).catch_up;
    seconds := v_schedule.seconds;
    is_slow := v_schedule.is_slow;
    outcome := v_event.outcome;
    row_count := v_event.row_count;
    error_code := v_event.error_code;
    error_message := v_event.error_message;
end
$$;

comment on function tinydevcrm.schedule_matview(regclass, text, text, boolean) is
    'Refreshes a watched materialized view now, and from now on by a schedule: "5 seconds", "daily '
    'at 7:00", a cron expression, "on change", or another form of tinydevcrm._schedule_hint(). The time zone '
    'may be given, or follow the schedule; without one it is that of pg_cron. catch_up: whether a '
    'time that passes while the database is down is made up for; by default when the schedule is '
    'due at most once an hour. Replaces an earlier schedule. Returns the schedule in normal form '
    'and the outcome of the first refresh: a failure raises nothing, and the schedule stays set. '
    'In a session that has not logged in as the owner, the first refresh is requested: see '
    'tinydevcrm.refresh_matview(). Raises TD001 when it is not watched, TD003 when it is not a '
    'schedule or not a time zone, TD007 when "on change" is not possible for it, 42501 when it is '
    'not yours.';

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
    'Refreshes that it missed meanwhile are not made up for. Raises TD001 when it is not watched.';

revoke execute on function
    tinydevcrm._assign_schedule(regclass, text, text, boolean),
    tinydevcrm.schedule_matview(regclass, text, text, boolean),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
from public;

grant execute on function
    tinydevcrm._assign_schedule(regclass, text, text, boolean),
    tinydevcrm.schedule_matview(regclass, text, text, boolean),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
to tinydevcrm_user;
