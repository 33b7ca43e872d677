-- What users call to schedule the refreshes of a materialized view, a schedule in words, with which
-- they check what they have written, and which refreshes are late.

create function tinydevcrm._describe_cron(
    minutes   integer[],
    hours     integer[],
    days      integer[],
    months    integer[],
    weekdays  integer[],
    is_either boolean
)
    returns text
    language plpython3u
    immutable
    set search_path = pg_catalog, pg_temp
as $$
global minutes, hours, days, months, weekdays
# A loop in Python cannot be cancelled. A field has at most 60 values; some may be given twice.
if not all(values and len(values) <= 1600 for values in (minutes, hours, days, months, weekdays)):
    plpy.error("a field of a cron expression has 1 to 1600 values", sqlstate="TD003")

minutes, hours, days, months, weekdays = (
    sorted(set(values)) for values in (minutes, hours, days, months, weekdays)
)
MONTHS = (
    "January February March April May June July August September October November December"
).split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def join(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def spoken(numbers, name=str):
    """1, 2, 3, 5 as "1 to 3 and 5"."""
    runs = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    items = []
    for run in runs:
        if len(run) > 2:
            items.append(f"{name(run[0])} to {name(run[-1])}")
        else:
            items.extend(name(number) for number in run)
    return join(items)


def step_of(numbers, size):
    """2 for 0, 2, 4 and so on up to size; None when the steps do not divide size evenly."""
    step = size // len(numbers)
    return step if numbers == list(range(0, size, step)) else None


def time_of_day():
    if len(minutes) * len(hours) <= 4:
        return "at " + join([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes])
    step = step_of(hours, 24)
    if len(minutes) == 1 and step and (step > 1 or minutes == [0]):
        words = "every hour" if step == 1 else f"every {step} hours"
        return words if minutes == [0] else f"{words} at minute {minutes[0]}"
    step = step_of(minutes, 60)
    if len(minutes) == 60:
        words = "every minute"
    elif step and len(minutes) > 1:
        words = f"every {step} minutes"
    else:
        words = f"at minute{'s' if len(minutes) > 1 else ''} {spoken(minutes)} of every hour"
    if len(hours) == 24:
        return words
    return words.replace(" of every hour", "") + f" of hours {spoken(hours)}"


def date():
    in_months = spoken(months, lambda month: MONTHS[month - 1]) if len(months) < 12 else None
    in_month = in_week = None
    numbers = [day for day in days if day > 0]
    if len(numbers) < 31:
        named = [f"day {spoken(numbers)}"] if numbers else []
        # The day -1 is the last one.
        if -1 in days:
            named.append("the last day")
        in_month = f"on {join(named)} of {in_months or 'every month'}"
    # Monday first, as people say it. 0 and 7 are both Sunday.
    week = sorted({(weekday - 1) % 7 for weekday in weekdays})
    if len(week) < 7:
        in_week = spoken(week, lambda weekday: WEEKDAYS[weekday])
    if in_month and in_week:
        return f"{in_month} and on {in_week}" if is_either else f"{in_month}, if it is {in_week}"
    if in_week:
        every = "every " if len(week) == 1 else ""
        return f"{every}{in_week}" + (f" in {in_months}" if in_months else "")
    return in_month or (f"every day of {in_months}" if in_months else None)


words, when = time_of_day(), date()
if when is None:
    return words if "every" in words else f"every day {words}"
return f"{when} {words}" if words.startswith("at") else f"{words}, {when}"
$$;

comment on function tinydevcrm._describe_cron(
    integer[], integer[], integer[], integer[], integer[], boolean
) is
    'The values of the five fields of a cron expression in words; is_either as in '
    'tinydevcrm._cron_fields(). Raises TD003 for a field with no values or with over 1600.';

create function tinydevcrm.describe_schedule(
    inout schedule  text,
    out words       text,
    out time_zone   text,
    out next_due_at timestamptz[]
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parsed record := tinydevcrm._parse_schedule(describe_schedule.schedule);
    v_fields tinydevcrm._cron;
    v_next   timestamptz := now();
begin
    describe_schedule.schedule := v_parsed.schedule;
    if v_parsed.schedule = 'on change' then
        describe_schedule.words := 'when a table that it reads has changed';
        describe_schedule.next_due_at := '{}';
        return;
    end if;

    describe_schedule.time_zone := coalesce(v_parsed.time_zone, tinydevcrm._cron_timezone());
    if v_parsed.seconds is not null then
        describe_schedule.words := 'every ' || regexp_replace(v_parsed.schedule, '^1 (.*)', '\1');
    else
        v_fields := tinydevcrm._cron_fields(v_parsed.schedule);
        describe_schedule.words := tinydevcrm._describe_cron(
            v_fields.minutes, v_fields.hours, v_fields.days, v_fields.months, v_fields.weekdays,
            v_fields.is_either);
    end if;

    for v_count in 1 .. 3 loop
        v_next := tinydevcrm._compute_next_due(
            v_parsed.seconds, v_parsed.schedule, v_parsed.time_zone, v_next);
        describe_schedule.next_due_at := describe_schedule.next_due_at || v_next;
    end loop;
end
$$;

comment on function tinydevcrm.describe_schedule(text) is
    'A schedule in its normal form and in words, the time zone of the words, and the next three '
    'times at which it is due; none for "on change". Raises TD003 when it is not a schedule.';

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

create function tinydevcrm._request_missed_refreshes()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner       regrole;
    v_matview_ids bigint[];
begin
    for v_owner, v_matview_ids in
        with seen as (
            select matviews.id,
                   matviews.owner,
                   matviews.schedule_id,
                   -- Cut to the minute: many views share it, and the next time that is due.
                   date_trunc('minute', greatest(
                       tinydevcrm._find_last_look(matviews), matviews.last_refreshed_at,
                       matviews.schedule_began_at)) as seen_at
              from tinydevcrm.matviews
              join pg_roles
                on pg_roles.oid = matviews.owner
             where matviews.catch_up
               and not matviews.is_paused
        ),
        missed as (
            select rounds.schedule_id,
                   rounds.seen_at
              from (select distinct seen.schedule_id, seen.seen_at from seen) as rounds
              join tinydevcrm.schedules
                on schedules.id = rounds.schedule_id
             where tinydevcrm._compute_next_due(
                       schedules.seconds, schedules.schedule, schedules.time_zone, rounds.seen_at)
                   <= clock_timestamp() - interval '1 minute'
               -- Its job is at work, and comes to the others. A row's xmax is the transaction that
               -- has locked it.
               and not exists (
                   select
                     from pg_locks
                     join tinydevcrm._locks
                       on _locks.xmax = pg_locks.transactionid
                      and _locks.what = 'schedule'
                     join tinydevcrm.schedules as busy
                       on busy.id = _locks.id
                    where pg_locks.locktype = 'transactionid'
                      and pg_locks.granted
                      and busy.job_id = schedules.job_id
               )
        )
        select seen.owner,
               array_agg(seen.id order by seen.id)
          from missed
          join seen
            on seen.schedule_id = missed.schedule_id
           and seen.seen_at = missed.seen_at
         group by seen.owner
    loop
        begin
            insert into tinydevcrm.refresh_requests (matview_id, schedule_id)
            select matviews.id,
                   matviews.schedule_id
              from tinydevcrm.matviews
             where matviews.id = any (v_matview_ids)
            on conflict on constraint refresh_requests_pkey do nothing;
        exception
            -- The owner may be just requesting one, in a transaction that stays open.
            when others then
                raise warning 'TinyDevCRM could not make up for refreshes of %: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._request_missed_refreshes() is
    'Requests a refresh by the owner''s job of each view with catch_up that was due while the '
    'database was down, or whose job has not run: one, however many times were missed. Upkeep '
    'calls it.';

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
        (schedule).schedule,
        (schedule).time_zone,
        greatest(
            tinydevcrm._find_last_look(matview),
            matview.last_refreshed_at
            + tinydevcrm._find_ended_pause(matview.ended_count),
            matview.schedule_began_at));
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
                           tinydevcrm._find_last_look(matviews),
                           matviews.last_refreshed_at,
                           matviews.schedule_began_at) nulls first
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
    tinydevcrm._describe_cron(
        integer[], integer[], integer[], integer[], integer[], boolean),
    tinydevcrm.describe_schedule(text),
    tinydevcrm._request_missed_refreshes(),
    tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules),
    tinydevcrm._is_late(tinydevcrm.schedules, timestamptz),
    tinydevcrm._list_refreshing(),
    tinydevcrm._list_late_matviews(),
    tinydevcrm._assign_schedule(regclass, text, text, boolean),
    tinydevcrm.schedule_matview(regclass, text, text, boolean),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
from public;

grant execute on function
    tinydevcrm._describe_cron(
        integer[], integer[], integer[], integer[], integer[], boolean),
    tinydevcrm.describe_schedule(text),
    tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules),
    tinydevcrm._is_late(tinydevcrm.schedules, timestamptz),
    tinydevcrm._list_refreshing(),
    tinydevcrm._list_late_matviews(),
    tinydevcrm._assign_schedule(regclass, text, text, boolean),
    tinydevcrm.schedule_matview(regclass, text, text, boolean),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
to tinydevcrm_user;
