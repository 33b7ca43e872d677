-- Which refreshes are late, and which were missed while the database was down.

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
    tinydevcrm._request_missed_refreshes(),
    tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules),
    tinydevcrm._is_late(tinydevcrm.schedules, timestamptz),
    tinydevcrm._list_refreshing(),
    tinydevcrm._list_late_matviews()
from public;

grant execute on function
    tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules),
    tinydevcrm._is_late(tinydevcrm.schedules, timestamptz),
    tinydevcrm._list_refreshing(),
    tinydevcrm._list_late_matviews()
to tinydevcrm_user;
