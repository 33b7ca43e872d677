-- Which materialized views a round refreshes, and in which order.

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

revoke execute on function
    tinydevcrm._list_early(bigint[]),
    tinydevcrm._compute_change_due(tinydevcrm.matviews),
    tinydevcrm._needs_refresh(tinydevcrm.matviews),
    tinydevcrm._plan_round(bigint[], timestamptz),
    tinydevcrm._find_due_matview(bigint, bigint[], timestamptz),
    tinydevcrm._record_ended_rounds(bigint[]),
    tinydevcrm._move_mark(bigint, bigint[], integer, boolean)
from public;

grant execute on function
    tinydevcrm._list_early(bigint[]),
    tinydevcrm._compute_change_due(tinydevcrm.matviews),
    tinydevcrm._needs_refresh(tinydevcrm.matviews),
    tinydevcrm._plan_round(bigint[], timestamptz),
    tinydevcrm._find_due_matview(bigint, bigint[], timestamptz),
    tinydevcrm._record_ended_rounds(bigint[]),
    tinydevcrm._move_mark(bigint, bigint[], integer, boolean)
to tinydevcrm_user;
