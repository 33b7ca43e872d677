-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own. Where pg_cron has no seconds, it loops over them. A round is a time at
-- which a schedule is due.

create function tinydevcrm._compute_change_due(matview tinydevcrm.matviews)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_last constant timestamptz := greatest((matview).last_refreshed_at, (matview).last_scheduled_at);
begin
    if not tinydevcrm._is_stale(matview)
       and (matview).last_outcome is distinct from 'failed'
    then
        return null;
    end if;

    return case
        when v_last is null then to_timestamp(0)
        else greatest(
            v_last + (matview).refresh_interval,
            case
                when (matview).ended_count > 0 then
                    v_last + tinydevcrm._find_ended_pause((matview).ended_count)
                -- Soon, and then less often.
                when (matview).blocked_since is not null then
                    v_last + least(interval '1 minute', v_last - (matview).blocked_since)
                -- It failed, or could not notify, or nothing says when it changes.
                when not (matview).is_tracked
                     or not tinydevcrm._has_changed_since(
                         (matview).id, (matview).tried_snapshot)
                then v_last + interval '1 minute'
            end)
    end;
end
$$;

comment on function tinydevcrm._compute_change_due(tinydevcrm.matviews) is
    'When a view is to be refreshed on change: refresh_interval after its last refresh; a minute '
    'after it if that failed or could not notify, and nothing has changed since; likewise while '
    'the view is not tracked. Null when it is not stale and its last refresh has succeeded.';

create function tinydevcrm._needs_refresh(matview tinydevcrm.matviews)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (matview).is_on_change then
        return coalesce(tinydevcrm._compute_change_due(matview) <= clock_timestamp(), false);
    end if;

    return (matview).notify_when = 'always'
        -- Until a refresh by its schedule has succeeded, the view is failing.
        or (matview).last_outcome is not distinct from 'failed'
        or tinydevcrm._is_stale(matview);
end
$$;

comment on function tinydevcrm._needs_refresh(tinydevcrm.matviews) is
    'Whether a schedule that is due refreshes a view: when it is stale or its last refresh failed, '
    'and always by the rule always. On change: see tinydevcrm._compute_change_due().';

create function tinydevcrm._record_ended_rounds(schedule_ids bigint[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews;
begin
    for v_matview in
        select ended.*
          from tinydevcrm._take_ended_refreshes(
              'schedule', _record_ended_rounds.schedule_ids) as ended
    loop
        perform tinydevcrm._record_ended_refresh(v_matview, v_matview.schedule_id);
        -- In the job for slow ones it takes no more sessions from those that are not.
        perform tinydevcrm._assign_lane(v_matview.id, interval '7 days');
    end loop;
end
$$;

comment on function tinydevcrm._record_ended_rounds(bigint[]) is
    'Records the refreshes that have ended the session of an earlier round of these schedules, and '
    'moves their materialized views to the job for slow ones.';

create function tinydevcrm._move_mark(
    lock_id       bigint,
    matview_ids   bigint[],
    place         integer,
    was_refreshed boolean
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not _move_mark.was_refreshed
       or _move_mark.place = cardinality(_move_mark.matview_ids)
    then
        perform tinydevcrm._mark_lock(
            'schedule',
            _move_mark.lock_id,
            _move_mark.matview_ids[_move_mark.place + 1:]);
    end if;
end
$$;

comment on function tinydevcrm._move_mark(bigint, bigint[], integer, boolean) is
    'Takes the registrations of a round up to this place out of its mark, when the last of them '
    'was passed over, and when it is the last of all. A refresh shows in the registry, so that '
    'most need no statement here.';

create function tinydevcrm._list_early(matview_ids bigint[])
    returns setof bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive above (id) as (
        select matview_sources.matview_id
          from tinydevcrm.matviews
          join tinydevcrm.matview_sources
            on matview_sources.relation = matviews.relation
         where matviews.id = any (_list_early.matview_ids)
         union
        select matview_sources.matview_id
          from above
          join tinydevcrm.matviews
            on matviews.id = above.id
          join tinydevcrm.matview_sources
            on matview_sources.relation = matviews.relation
    )
    select readers.id
      from above
      join tinydevcrm.matviews
        on matviews.id = above.id
      join tinydevcrm.matview_sources
        on matview_sources.relation = matviews.relation
      join tinydevcrm.matviews as readers
        on readers.id = matview_sources.matview_id
     where above.id <> all (_list_early.matview_ids)
       and readers.id = any (_list_early.matview_ids)
       and matviews.schedule_id = readers.schedule_id
       and not matviews.is_paused;
end
$$;

comment on function tinydevcrm._list_early(bigint[]) is
    'Those of the views to refresh that should wait for the next step of the round: they read a '
    'view of their schedule that is not stale, but may become so when the others are refreshed.';

create function tinydevcrm._plan_round(
    schedule_ids     bigint[],
    called_at        timestamptz,
    out matview_ids  bigint[],
    out matview_dues timestamptz[],
    out ends_at      timestamptz,
    out wait         double precision,
    out lock_id      bigint,
    out lock_wait    interval
)
    returns record
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_now     timestamptz := clock_timestamp();
    v_is_loop boolean;
    v_next_at timestamptz;
    v_lock_ids bigint[];
begin
    perform tinydevcrm._record_ended_rounds(_plan_round.schedule_ids);

    -- The latest round of each schedule. Rounds below a minute are at multiples of their seconds
    -- since the epoch, whichever run of the job refreshes: they do not drift, and none is refreshed
    -- twice. pg_cron queues runs behind a slow one; a queued run finds that its round is done.
    with taken as (
        select schedules.*,
               tinydevcrm._is_loop(schedules) as is_loop
          from tinydevcrm._locks
          join tinydevcrm.schedules
            on schedules.id = _locks.id
         where _locks.what = 'schedule'
           and _locks.id = any (_plan_round.schedule_ids)
           and tinydevcrm._is_session_of(schedules.owner)
           for update of _locks skip locked
    ),
    rounds as (
        select taken.*,
               case
                   when schedule = 'on change' then v_now
                   when seconds is null then tinydevcrm._find_round(
                       schedule, time_zone, cron_schedule, _plan_round.called_at)
                   else to_timestamp(
                       floor(
                           extract(epoch from case
                               when is_loop then v_now
                               else _plan_round.called_at
                           end) / seconds)
                       * seconds)
               end as due_at
          from taken
    ),
    due as (
        select matviews.id,
               row_number() over (
                   order by matviews.ended_count,
                            matviews.blocked_since is not null,
                            matviews.depth,
                            matviews.last_refreshed_at nulls first,
                            matviews.id
               ) as place,
               rounds.due_at
          from rounds
          join tinydevcrm.matviews
            on matviews.schedule_id = rounds.id
          -- A view whose owner has just changed waits for settle_jobs().
          join pg_class
            on pg_class.oid = matviews.relation
           and pg_class.relowner = matviews.owner
         where not matviews.is_paused
           and coalesce(matviews.last_scheduled_at, '-infinity') < rounds.due_at
           and (matviews.ended_count = 0
                or matviews.last_refreshed_at
                   + tinydevcrm._find_ended_pause(matviews.ended_count) <= v_now)
           and tinydevcrm._needs_refresh(matviews)
    ),
    step as (
        select due.*
          from due
         where due.id not in (
            select tinydevcrm._list_early(array(select due.id from due))
         )
    )
    select (select array_agg(id order by place) from step),
           (select array_agg(due_at order by place) from step),
           bool_or(is_loop),
           min(due_at + seconds * interval '1 second'),
           min(id),
           array_agg(id),
           min(seconds) * interval '1 second' / 4
      into _plan_round.matview_ids,
           _plan_round.matview_dues,
           v_is_loop,
           v_next_at,
           _plan_round.lock_id,
           v_lock_ids,
           _plan_round.lock_wait
      from rounds;

    _plan_round.ends_at := case
        when v_is_loop then date_trunc('minute', _plan_round.called_at) + interval '1 minute'
        else 'infinity'
    end;

    if v_now >= _plan_round.ends_at then
        _plan_round.matview_ids := null;
    elsif _plan_round.matview_ids is null and v_is_loop and v_next_at < _plan_round.ends_at then
        _plan_round.wait := extract(epoch from v_next_at - v_now);
    end if;

    perform tinydevcrm._mark_lock(
                'schedule',
                looked.id,
                case when looked.id = _plan_round.lock_id then _plan_round.matview_ids end)
       from unnest(v_lock_ids) as looked (id);
end
$$;

comment on function tinydevcrm._plan_round(bigint[], timestamptz) is
    'Returns the next step of a job for these schedules: to refresh matview_ids, which are due '
    'since matview_dues, until ends_at; or to wait so many seconds; or, when both are null, to '
    'end. Leaves out views that are tracked and not stale, and those of tinydevcrm._list_early(). '
    'First come those that read no other '
    'view, then those that read these, and so on; among them those that were unrefreshed the '
    'longest. Last come those that were blocked, then those that have ended sessions, until their '
    'pause is over left out. It marks lock_id with '
    'them: see tinydevcrm._locks. A refresh may wait lock_wait for a lock. Leaves out schedules '
    'that another session has locked, and those of other roles than the one that has logged in.';

create function tinydevcrm._find_due_matview(
    matview_id   bigint,
    schedule_ids bigint[],
    due_at       timestamptz
)
    returns tinydevcrm.matviews
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule_id bigint;
    v_matview     tinydevcrm.matviews;
begin
    select matviews.schedule_id
      into v_schedule_id
      from tinydevcrm.matviews
     where matviews.id = _find_due_matview.matview_id
       and matviews.schedule_id = any (_find_due_matview.schedule_ids);

    -- Another session may have locked the schedule since the last commit.
    if tinydevcrm._take_lock('schedule', v_schedule_id) then
        select matviews.*
          into v_matview
          from tinydevcrm.matviews
         where matviews.id = _find_due_matview.matview_id
           and matviews.schedule_id = v_schedule_id
           and not matviews.is_paused
           and (matviews.last_scheduled_at is null
                or matviews.last_scheduled_at < _find_due_matview.due_at)
           and tinydevcrm._needs_refresh(matviews);
    end if;

    return v_matview;
end
$$;

comment on function tinydevcrm._find_due_matview(bigint, bigint[], timestamptz) is
    'The registration of a materialized view if it is still due. Null when it has meanwhile been '
    'dropped, paused, rescheduled or refreshed by its schedule, or when another session has locked '
    'the schedule.';

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm._refresh_due_matview(
    matview_id   bigint,
    schedule_ids bigint[],
    due_at       timestamptz,
    lock_wait    interval,
    looks_first  boolean
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_due_matview(
        _refresh_due_matview.matview_id,
        _refresh_due_matview.schedule_ids,
        _refresh_due_matview.due_at);
    v_event   tinydevcrm.matview_refresh_events;
begin
    if v_matview.id is null then
        return null;
    end if;

    v_event := tinydevcrm._refresh_matview(
        v_matview,
        v_matview.schedule_id,
        is_job => true,
        lock_wait => _refresh_due_matview.lock_wait,
        looks_first => _refresh_due_matview.looks_first or v_matview.blocked_since is not null);

    -- The shortest period is a second, so less than half a second is never slow.
    if v_matview.is_slow
       or v_event.duration operator(pg_catalog.>) '0.5 seconds'::pg_catalog.interval
    then
        perform tinydevcrm._assign_lane(v_matview.id, v_event.duration);
    end if;

    return v_event;
end
$$;

comment on function tinydevcrm._refresh_due_matview(
    bigint, bigint[], timestamptz, interval, boolean
) is
    'Refreshes a materialized view by its schedule if it is still due, and moves it to the job '
    'that fits how long that took. Null when it is not due: see tinydevcrm._find_due_matview(). '
    'For the last two arguments see tinydevcrm._refresh_matview().';

-- It commits, as its callers do, so it cannot set a search_path: all of its names are qualified.
create procedure tinydevcrm._refresh_round(
    schedule_ids  bigint[],
    called_at     timestamptz,
    inout is_over boolean
)
    language plpgsql
as $$
declare
    v_round      record;
    v_event      tinydevcrm.matview_refresh_events;
    v_event_id   bigint;
    v_began_at   timestamptz := pg_catalog.clock_timestamp();
    v_is_done    boolean;
    v_is_blocked boolean := false;
begin
    begin
        v_round := tinydevcrm._plan_round(
            _refresh_round.schedule_ids, _refresh_round.called_at);
        if v_round.wait is not null then
            perform pg_catalog.pg_sleep(v_round.wait);
        end if;
    exception
        -- statement_timeout cancels a call once, wherever it is: the caller takes this step again.
        when query_canceled then
            if not tinydevcrm._is_round_timeout(v_began_at) then
                raise;
            end if;
            return;
    end;
    commit;

    if v_round.wait is not null then
        return;
    end if;

    for v_index in 1 .. coalesce(pg_catalog.cardinality(v_round.matview_ids), 0) loop
        if pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_round.ends_at then
            perform tinydevcrm._mark_lock('schedule', v_round.lock_id, null);
            commit;
            exit;
        end if;

        v_is_done := false;
        while not v_is_done loop
            v_began_at := pg_catalog.clock_timestamp();
            v_event := null;
            begin
                v_event := tinydevcrm._refresh_due_matview(
                    v_round.matview_ids[v_index],
                    _refresh_round.schedule_ids,
                    v_round.matview_dues[v_index],
                    v_round.lock_wait,
                    v_is_blocked);
                perform tinydevcrm._move_mark(
                    v_round.lock_id, v_round.matview_ids, v_index, v_event.id is not null);
                v_is_done := true;
            exception
                -- Or the refresh was canceled again while its failure was recorded.
                when query_canceled then
                    if not tinydevcrm._is_round_timeout(v_began_at)
                       and not tinydevcrm._is_overdue(v_began_at)
                    then
                        raise;
                    end if;
            end;
            commit;
        end loop;

        v_event_id := coalesce(v_event.id, v_event_id);
        -- One wait is enough for a round: what else is blocked for so long does not wait.
        if v_event.error_code operator(pg_catalog.=) '55P03' then
            v_is_blocked := true;
        end if;
    end loop;

    -- A step that writes no event is the last one. Otherwise the same step could repeat without
    -- end.
    _refresh_round.is_over := v_event_id is null;
end
$$;

comment on procedure tinydevcrm._refresh_round(bigint[], timestamptz, boolean) is
    'Does the step that tinydevcrm._plan_round() returns, each refresh in a transaction of its '
    'own. Sets is_over when it refreshed nothing.';

create procedure tinydevcrm.refresh_scheduled(schedule_id bigint)
    language plpgsql
as $$
declare
    v_called_at timestamptz := pg_catalog.clock_timestamp();
    v_is_over   boolean := false;
begin
    perform tinydevcrm._check_schedule(refresh_scheduled.schedule_id);

    while not v_is_over loop
        call tinydevcrm._refresh_round(
            array[refresh_scheduled.schedule_id], v_called_at, v_is_over);
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_scheduled(bigint) is
    'Refreshes the materialized views of a schedule that are due, each in a transaction of its '
    'own. The pg_cron job of the schedule calls it. Does nothing while another session does the '
    'same. To refresh one materialized view at once: tinydevcrm.refresh_matview(). Raises TD001 '
    'when you have no such schedule, 42501 in a session that has not logged in as its owner.';

create function tinydevcrm._check_schedule(schedule_id bigint)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
begin
    select schedules.owner
      into v_owner
      from tinydevcrm.schedules
     where schedules.id = _check_schedule.schedule_id;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format(
                'there is no schedule %s', coalesce(_check_schedule.schedule_id::text, 'null')),
            hint    = 'tinydevcrm.schedules lists them.';
    end if;

    if not tinydevcrm._is_session_of(v_owner) then
        raise exception using
            errcode = '42501',
            message = format(
                'schedule %s belongs to %s, and this session has not logged in as that role',
                _check_schedule.schedule_id, v_owner),
            hint    = 'The job of the schedule refreshes by it. To refresh one materialized view: '
                      'tinydevcrm.refresh_matview().';
    end if;
end
$$;

comment on function tinydevcrm._check_schedule(bigint) is
    'Raises TD001 when the caller has no such schedule, 42501 when the session has not logged in '
    'as its owner.';

create procedure tinydevcrm.refresh_by_seconds(is_slow boolean)
    language plpgsql
as $$
declare
    v_called_at timestamptz := pg_catalog.clock_timestamp();
    v_is_over   boolean := false;
begin
    -- The list is read in each step, so that a new schedule starts at once.
    while not v_is_over loop
        call tinydevcrm._refresh_round(
            tinydevcrm._list_loop_schedules(refresh_by_seconds.is_slow), v_called_at, v_is_over);
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_by_seconds(boolean) is
    'Serves all schedules below a minute of the role that has logged in, either those for slow '
    'materialized views or the others, until the minute is over. Where pg_cron has no seconds, a '
    'job of each owner calls it.';

create function tinydevcrm._list_loop_schedules(is_slow boolean)
    returns bigint[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array_agg(schedules.id)
      from tinydevcrm.schedules
     where schedules.is_slow = _list_loop_schedules.is_slow
       and tinydevcrm._is_loop(schedules)
       and tinydevcrm._is_session_of(schedules.owner)
$$;

comment on function tinydevcrm._list_loop_schedules(boolean) is
    'The schedules that a loop serves for the role that has logged in, either those for slow '
    'materialized views or the others; null when there are none.';

revoke execute on function
    tinydevcrm._list_early(bigint[]),
    tinydevcrm._compute_change_due(tinydevcrm.matviews),
    tinydevcrm._needs_refresh(tinydevcrm.matviews),
    tinydevcrm._plan_round(bigint[], timestamptz),
    tinydevcrm._find_due_matview(bigint, bigint[], timestamptz),
    tinydevcrm._refresh_due_matview(bigint, bigint[], timestamptz, interval, boolean),
    tinydevcrm._check_schedule(bigint),
    tinydevcrm._list_loop_schedules(boolean),
    tinydevcrm._record_ended_rounds(bigint[]),
    tinydevcrm._move_mark(bigint, bigint[], integer, boolean)
from public;

revoke execute on procedure
    tinydevcrm._refresh_round(bigint[], timestamptz, boolean),
    tinydevcrm.refresh_scheduled(bigint),
    tinydevcrm.refresh_by_seconds(boolean)
from public;

grant execute on function
    tinydevcrm._list_early(bigint[]),
    tinydevcrm._compute_change_due(tinydevcrm.matviews),
    tinydevcrm._needs_refresh(tinydevcrm.matviews),
    tinydevcrm._plan_round(bigint[], timestamptz),
    tinydevcrm._find_due_matview(bigint, bigint[], timestamptz),
    tinydevcrm._refresh_due_matview(bigint, bigint[], timestamptz, interval, boolean),
    tinydevcrm._check_schedule(bigint),
    tinydevcrm._list_loop_schedules(boolean),
    tinydevcrm._record_ended_rounds(bigint[]),
    tinydevcrm._move_mark(bigint, bigint[], integer, boolean)
to tinydevcrm_user;

grant execute on procedure
    tinydevcrm._refresh_round(bigint[], timestamptz, boolean),
    tinydevcrm.refresh_scheduled(bigint),
    tinydevcrm.refresh_by_seconds(boolean)
to tinydevcrm_user;
