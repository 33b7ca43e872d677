-- Refreshes that ended their session, and what a failure's message says.

create function tinydevcrm._find_ended_pause(ended_count integer)
    returns interval
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _find_ended_pause.ended_count > 0 then
                   interval '30 seconds' * 2 ^ least(_find_ended_pause.ended_count - 1, 10)
               else interval '0'
           end
$$;

comment on function tinydevcrm._find_ended_pause(integer) is
    'How long a job waits before it refreshes a materialized view again that has ended so many '
    'sessions: 30 s, 1 min, 2 min … 8.5 hours; 0 for none.';

create function tinydevcrm._take_ended_refreshes(what text, ids bigint[])
    returns setof tinydevcrm.matviews
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_lock tinydevcrm._locks;
begin
    for v_lock in
        select _locks.*
          from tinydevcrm._locks
         where _locks.what = _take_ended_refreshes.what
           and _locks.id = any (_take_ended_refreshes.ids)
           and tinydevcrm._is_left_mark(_locks)
           for update skip locked
    loop
        -- The first one that it has not done. Each refresh that it has done is in the registry.
        return query
        select matviews.*
          from unnest(v_lock.matview_ids) with ordinality as marked (id, place)
          join tinydevcrm.matviews
            on matviews.id = marked.id
         where coalesce(
                   case v_lock.what
                       when 'matview' then matviews.last_refreshed_at
                       else matviews.last_scheduled_at
                   end < v_lock.marked_at,
                   true)
           and v_lock.server_id = (pg_control_system()).system_identifier
         order by marked.place
         limit 1;

        perform tinydevcrm._mark_lock(v_lock.what, v_lock.id, null);
    end loop;
end
$$;

comment on function tinydevcrm._take_ended_refreshes(text, bigint[]) is
    'Removes the marks of sessions that are gone from these rows of tinydevcrm._locks, and returns '
    'the registrations during whose refresh they ended. Of each mark that is the first one that '
    'was not done; none when the mark is of another server, from which this one was restored.';

create function tinydevcrm._record_ended_refresh(matview tinydevcrm.matviews, schedule_id bigint)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refresh tinydevcrm._refresh;
begin
    v_refresh.error_code := '57P01';
    v_refresh.error_message := 'the session ended during this refresh; the log of the server says '
                               'why';
    return tinydevcrm._record_refresh(
        matview, _record_ended_refresh.schedule_id, clock_timestamp(), v_refresh);
end
$$;

comment on function tinydevcrm._record_ended_refresh(tinydevcrm.matviews, bigint) is
    'Records the failure of a refresh whose session ended before it could: its query ended it, '
    'somebody else did, or the server crashed.';

create function tinydevcrm._describe_lock_holder(
    relation      regclass,
    is_concurrent boolean,
    older_than    interval default '0'
)
    returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with wanted as (
        -- A concurrent refresh waits for everything but AccessShareLock. SIReadLock blocks nobody.
        select _describe_lock_holder.relation::oid as oid,
               case
                   when _describe_lock_holder.is_concurrent then '^(Row|Share|Ex|AccessEx)'
                   else '^(Row|Share|Ex|Access)'
               end as modes
         union all
        select unnest(tinydevcrm._list_read_relations(_describe_lock_holder.relation)),
               '^AccessEx'
    )
    select format(
               'a lock on %s that %s %s since %s',
               locks.relation::regclass,
               case
                   when locks.pid is null then
                       format('the prepared transaction %L (role %s)', prepared.gid, prepared.owner)
                   else format(
                       'session %s (%s)',
                       locks.pid,
                       concat_ws(
                           ', ',
                           'role ' || activity.usename,
                           'application ' || nullif(activity.application_name, ''),
                           nullif(activity.backend_type, 'client backend')))
               end,
               case when locks.granted then 'holds' else 'waits for' end,
               to_char(held.since_at, 'YYYY-MM-DD HH24:MI:SS TZ'))
      from wanted
      join pg_locks as locks
        on locks.relation = wanted.oid
       and locks.mode ~ wanted.modes
       and locks.pid is distinct from pg_backend_pid()
       and locks.database = (
           select oid from pg_database where datname = current_database()
       )
      left join pg_stat_activity as activity
        on activity.pid = locks.pid
      left join pg_prepared_xacts as prepared
        on locks.virtualtransaction = '-1/' || prepared.transaction
     cross join lateral (
         select coalesce(activity.xact_start, prepared.prepared) as since_at
     ) as held
     where held.since_at <= clock_timestamp() - _describe_lock_holder.older_than
     order by locks.granted desc,
              held.since_at
     limit 1
$$;

comment on function tinydevcrm._describe_lock_holder(regclass, boolean, interval) is
    'Who keeps a plain or concurrent refresh of a materialized view waiting by a lock on it, or on '
    'a table that it reads, and since when that transaction runs: the oldest one, which is at '
    'least so old. Null when there is none. Security definer: lends the right to see sessions of '
    'others. It shows process, role, application and the start of the transaction, and only of a '
    'session that holds such a lock.';

create function tinydevcrm._find_refresh_timeout(out timeout interval, out name text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select limits.timeout,
           limits.name
      from (
        select nullif(current_setting('statement_timeout')::interval, interval '0'),
               format(
                   'statement_timeout of role %I is %s',
                   current_user, current_setting('statement_timeout'))
         union all
        select settings.refresh_timeout,
               'refresh_timeout of tinydevcrm.settings is ' || settings.refresh_timeout
          from tinydevcrm.settings
      ) as limits (timeout, name)
     where limits.timeout is not null
     order by limits.timeout
     limit 1
$$;

comment on function tinydevcrm._find_refresh_timeout() is
    'How long a refresh of this session''s job may take, and which setting says so. Null when it '
    'may take as long as it does.';

create function tinydevcrm._explain_failure(
    relation regclass,
    refresh  tinydevcrm._refresh,
    took     interval
)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               case (refresh).error_code
                   when '55P03' then
                       case
                           when (refresh).error_message not like 'did not wait for %' then format(
                               'waited %s s for ', extract(epoch from (refresh).lock_timeout)::real)
                       end
                       || tinydevcrm._describe_lock_holder(
                           _explain_failure.relation, (refresh).method = 'concurrently')
                   -- The timer of the first refresh began a little earlier, with its job.
                   when '57014' then (
                       select format(
                                  '%s was canceled after %s s: %s',
                                  _explain_failure.relation,
                                  round(extract(epoch from _explain_failure.took)::numeric, 1),
                                  found.name)
                         from tinydevcrm._find_refresh_timeout() as found
                        where _explain_failure.took >= 0.9 * found.timeout
                   )
               end,
               (refresh).error_message)
$$;

comment on function tinydevcrm._explain_failure(regclass, tinydevcrm._refresh, interval) is
    'The message of a failed refresh. It names the session that held a lock, or the limit after '
    'which the refresh was canceled; else it is the message of the server.';

revoke execute on function
    tinydevcrm._find_ended_pause(integer),
    tinydevcrm._take_ended_refreshes(text, bigint[]),
    tinydevcrm._record_ended_refresh(tinydevcrm.matviews, bigint),
    tinydevcrm._describe_lock_holder(regclass, boolean, interval),
    tinydevcrm._find_refresh_timeout(),
    tinydevcrm._explain_failure(regclass, tinydevcrm._refresh, interval)
from public;

grant execute on function
    tinydevcrm._find_ended_pause(integer),
    tinydevcrm._take_ended_refreshes(text, bigint[]),
    tinydevcrm._record_ended_refresh(tinydevcrm.matviews, bigint),
    tinydevcrm._describe_lock_holder(regclass, boolean, interval),
    tinydevcrm._find_refresh_timeout(),
    tinydevcrm._explain_failure(regclass, tinydevcrm._refresh, interval)
to tinydevcrm_user;
