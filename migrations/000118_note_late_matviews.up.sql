-- Writes an event when a view is late.

create function tinydevcrm._note_late(start_wait interval default interval '2 minutes')
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
    -- After a start, jobs need a moment to do what was due meanwhile.
    if pg_postmaster_start_time() > now() - _note_late.start_wait then
        return;
    end if;

    for v_owner in
        select distinct matviews.owner
          from tinydevcrm._list_late_matviews() as late
          join tinydevcrm.matviews
            on matviews.id = late.matview_id
         where matviews.late_noted_at is null
    loop
        begin
            perform tinydevcrm._note_late_of(v_owner);
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not note what is late of %: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._note_late(interval) is
    'Writes an event for each materialized view that has been late for over a minute, unless there '
    'has been one since its last refresh. Upkeep calls it each minute, and so does the '
    'orchestrator, because upkeep does not run without pg_cron. Does nothing for a time after the '
    'start of the server. Security definer: it works for all users, and takes only that time from '
    'its caller.';

create function tinydevcrm._note_late_of(owner regrole)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    insert into tinydevcrm.matview_refresh_events (
               owner, matview_id, matview, outcome, is_notified, reason, started_at, duration)
    select unnoted.owner,
           unnoted.id,
           unnoted.relation::text,
           'late',
           true,
           format(
               'its schedule %s was due at %s: %s',
               unnoted.schedule,
               to_char(late.due_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
               (
                   select matview_status.late_reason
                     from tinydevcrm.matview_status
                    where matview_status.relation = unnoted.relation
               )),
           clock_timestamp(),
           '0'
      from tinydevcrm._list_late_matviews() as late
      join (
        select matviews.*
          from tinydevcrm.matviews
         where matviews.owner = _note_late_of.owner
           and matviews.late_noted_at is null
           -- One that is late for longer than its mute notifies then.
           and (matviews.muted_until is null or matviews.muted_until <= clock_timestamp())
           for no key update skip locked
      ) as unnoted
        on unnoted.id = late.matview_id
      join tinydevcrm.schedules
        on schedules.id = late.schedule_id
     where tinydevcrm._is_late(schedules, late.due_at + interval '1 minute')
     order by unnoted.id
$$;

comment on function tinydevcrm._note_late_of(regrole) is
    'As tinydevcrm._note_late(), for the views of one owner. Leaves out what is muted, and what a '
    'session has locked.';

revoke execute on function
    tinydevcrm._note_late(interval),
    tinydevcrm._note_late_of(regrole)
from public;
