-- Writes an event when the tables of a view have not changed for too long, and when they have again.

create function tinydevcrm._note_silent()
    returns void
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row of theirs. The next run tries again.
    set lock_timeout = '100ms'
as $$
declare
    v_matview tinydevcrm.matviews;
    v_seen    record;
begin
    -- Without the changes of the last minute a view may only look silent.
    if not tinydevcrm._note_changed_tables() then
        return;
    end if;

    for v_matview in
        select matviews.*
          from tinydevcrm.matviews
         where matviews.notify_deadline > interval '0'
           -- A streak that lasts longer than the mute notifies after it, and so does its end.
           and coalesce(matviews.muted_until <= clock_timestamp(), true)
    loop
        select count(*) as count,
               coalesce(
                   max(sources.changed_at), v_matview.deadline_set_at, v_matview.created_at) as at,
               string_agg(sources.relation::text, ', ' order by sources.relation::text)
                   filter (where not pg_class.relispartition) as names
          into v_seen
          from tinydevcrm._list_dated_sources(v_matview.id) as sources
          join pg_class
            on pg_class.oid = sources.relation;

        if v_seen.count = 0
           or (v_seen.at + v_matview.notify_deadline < clock_timestamp())
              = (v_matview.silent_noted_at is not null)
        then
            continue;
        end if;

        -- A user may have locked the row, or another session has just written the event.
        perform
           from tinydevcrm.matviews
          where matviews.id = v_matview.id
            and matviews.silent_noted_at is not distinct from v_matview.silent_noted_at
            for no key update skip locked;
        if not found then
            continue;
        end if;

        begin
            insert into tinydevcrm.matview_refresh_events (
                       owner, matview_id, matview, outcome, is_notified, reason, started_at,
                       duration)
            values (
                       v_matview.owner,
                       v_matview.id,
                       v_matview.relation::text,
                       case
                           when v_matview.silent_noted_at is not null then 'resumed'
                           else 'silent'
                       end,
                       true,
                       left(
                           format(
                               case
                                   when v_matview.silent_noted_at is null then
                                       'nothing new since %s in %s'
                                   else 'new since %s in %s'
                               end,
                               to_char(
                                   v_seen.at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
                               v_seen.names),
                           1000),
                       clock_timestamp(),
                       '0');
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not note that % is silent: % (SQLSTATE %)',
                    v_matview.relation, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._note_silent() is
    'Writes an event, silent, for each view whose tables have not changed, and were not imported, '
    'within its notify_deadline, once, and another, resumed, when they have again. Leaves out muted '
    'views, and those that read no table whose changes we see. Upkeep calls it each minute, and so '
    'does the orchestrator, because upkeep does not run without pg_cron. Security definer: it works '
    'for all users, and takes nothing from its caller.';

revoke execute on function tinydevcrm._note_silent() from public;
