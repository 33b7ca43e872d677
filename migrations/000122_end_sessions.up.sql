-- Ends the sessions of users who are locked or gone, and cancels refreshes that take too long.

create function tinydevcrm._end_locked_sessions()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select pg_terminate_backend(pid)
      from pg_stat_activity
      left join pg_roles
        on pg_roles.oid = usesysid
     where usesysid is not null
       and tinydevcrm._may_signal(usesysid)
       and (
           pg_roles.oid is null
           or not rolcanlogin
              and shobj_description(usesysid, 'pg_authid') = 'Created by tinydevcrm.create_user().'
       )
$$;

comment on function tinydevcrm._end_locked_sessions() is
    'Ends the sessions of users who have been dropped, or locked by "alter role … nologin", which '
    'itself ends no session.';

create function tinydevcrm._cancel_overdue_refreshes()
    returns table (pid integer, role_name name, reason text)
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
    with overdue as materialized (
        select activity.pid,
               activity.usesysid,
               clock_timestamp() - activity.xact_start as age,
               least(
                   nullif(_locks.statement_timeout, interval '0'),
                   settings.refresh_timeout) as timeout
          from tinydevcrm._locks
         cross join tinydevcrm.settings
          join pg_stat_get_activity(null) as activity
            on activity.pid = _locks.pid
           and activity.backend_start = _locks.backend_start
           -- A session of psql may do something else after a call that was canceled.
           and activity.query ~* 'call\s+tinydevcrm\.refresh_'
         where _locks.matview_ids is not null
    )
    select overdue.pid,
           pg_get_userbyid(overdue.usesysid),
           format(
               'its refresh took %s s, longer than %s',
               round(extract(epoch from overdue.age)), overdue.timeout)
      from overdue
     where overdue.age > overdue.timeout
       and tinydevcrm._may_signal(overdue.usesysid)
       and pg_cancel_backend(overdue.pid)
$$;

comment on function tinydevcrm._cancel_overdue_refreshes() is
    'Cancels each refresh of a job that takes longer than the statement_timeout of its session, or '
    'than tinydevcrm.settings.refresh_timeout, and returns the sessions. The refresh then fails, '
    'and its job goes on. The orchestrator calls it each second, upkeep each minute: Postgres '
    'itself counts a statement_timeout from the call of a job on, over all of its refreshes. Each '
    'has a transaction of its own, whose age this is. Security definer: lends the right to cancel '
    'statements of users.';

revoke execute on function
    tinydevcrm._end_locked_sessions(),
    tinydevcrm._cancel_overdue_refreshes()
from public;

grant execute on function tinydevcrm._cancel_overdue_refreshes() to tinydevcrm_orchestrator;
