-- The watchdog: what the orchestrator calls each second, so that no session of a user blocks
-- everyone.

create function tinydevcrm._end_blocking_sessions(
        queue_usage double precision default pg_notification_queue_usage())
    returns table (pid integer, role_name name, reason text)
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- What it calls looks roles and relations up, and may find their catalogs locked.
    set lock_timeout = '500ms'
as $$
begin
    -- It reads no table and no view, not even pg_locks: an open session that has run it before then
    -- takes no lock that somebody could make it wait for. It looks the role of every session up, so
    -- that the roles are in the session's cache before they are needed.
    return query
    with sessions as materialized (
        select activity.pid,
               activity.usesysid,
               activity.state,
               clock_timestamp() - activity.xact_start as age,
               tinydevcrm._may_signal(activity.usesysid) as may_end
          from pg_stat_get_activity(null) as activity
         where pg_has_role(activity.usesysid, 'tinydevcrm_user', 'member')
           and not pg_has_role(activity.usesysid, 'tinydevcrm_admin', 'member')
           and not pg_has_role(activity.usesysid, 'tinydevcrm_orchestrator', 'member')
           -- The owner of this function, and superusers.
           and not pg_has_role(activity.usesysid, current_user, 'member')
    ), blocking as (
        select sessions.pid,
               locks.relation,
               case
                   when locks.granted then 'kept others waiting by a lock on '
                   else 'waited for a lock on '
               end as what
          from pg_lock_status() as locks
          join sessions
            on sessions.pid = locks.pid
         where locks.locktype = 'relation'
           and locks.database in (
               0, (select datid from pg_stat_get_activity(pg_backend_pid())))
           and case
                   -- Who may delete from pg_cron's history may also lock it, or one of its runs.
                   -- pg_cron then waits, and with it all jobs.
                   when locks.granted then
                       case
                           when locks.relation >= 16384
                                and locks.mode not in ('AccessShareLock', 'RowShareLock')
                                and locks.relation::regclass::text ~ '^cron\.'
                           then exists (
                               select
                                 from pg_lock_status() as waiting
                                where not waiting.granted
                                  and waiting.pid not in (select users.pid from sessions as users)
                                  and sessions.pid = any (pg_blocking_pids(waiting.pid))
                           )
                       end
                   -- No statement of a user needs such a lock, and everyone queues behind who waits
                   -- for it.
                   when locks.mode in (
                       'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                       'ExclusiveLock', 'AccessExclusiveLock')
                   then
                       case
                           -- The server's own catalogs. Those of extensions, as of Citus, have
                           -- higher numbers.
                           when locks.relation < 16384 then true
                           else locks.relation::regclass::text ~ '^(tinydevcrm|cron)\.'
                       end
               end
        union
        select sessions.pid,
               null,
               null
          from sessions
         where _end_blocking_sessions.queue_usage > 0.1
               and sessions.state like 'idle in transaction%'
               and sessions.age > interval '10 seconds'
            or _end_blocking_sessions.queue_usage > 0.25
               and sessions.age > interval '1 minute'
    ), ended as materialized (
        select sessions.pid,
               sessions.usesysid,
               max(blocking.relation) as relation,
               max(blocking.what) as what
          from blocking
          join sessions
            on sessions.pid = blocking.pid
         group by sessions.pid,
                  sessions.usesysid,
                  sessions.may_end
        having case
                   when sessions.may_end or tinydevcrm._join_user(sessions.usesysid)
                   then pg_terminate_backend(sessions.pid)
               end
    )
    -- The name of a relation is looked up after its lock is free.
    select ended.pid,
           pg_get_userbyid(ended.usesysid),
           coalesce(
               ended.what || ended.relation::regclass::text,
               format(
                   'kept the queue of notifications, %s %% full, from being emptied',
                   round((_end_blocking_sessions.queue_usage * 100)::numeric)))
      from ended;
end
$$;

comment on function tinydevcrm._end_blocking_sessions(double precision) is
    'Ends the sessions of users that block everyone, and returns them. A user is a member of '
    'tinydevcrm_user who is no administrator, orchestrator or superuser. A session blocks when it '
    'waits for a lock on a table of ours, of pg_cron or of the server that no statement of a user '
    'needs: Postgres queues it, and everyone behind it, before it checks its rights; and when it has '
    'changed or locked a table of pg_cron for which pg_cron or another who is no user waits. A session '
    'that listens in an open transaction keeps the queue of notifications from being emptied, and '
    'does not show that it listens. So while the queue (queue_usage, from 0 to 1) is more than a '
    'tenth full, each session that is idle in a transaction for 10 seconds blocks too; more than '
    'a quarter full, each one in a transaction for a minute. The orchestrator calls this each '
    'second. Security definer: lends the right to end sessions of users.';

revoke execute on function tinydevcrm._end_blocking_sessions(double precision) from public;

grant execute on function tinydevcrm._end_blocking_sessions(double precision)
to tinydevcrm_orchestrator;
