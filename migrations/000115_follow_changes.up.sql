-- The registry follows what users do by hand. Dropping a view also drops its schedule and its job,
-- and is an event for the subscriptions to it, which stay. A new owner of a view gets its
-- registration, schedule and job; subscriptions to it keep their owners. A view that is renamed or
-- moved stays registered. A view goes on reading a table that is renamed, and an import adds a notice
-- about that.

create function tinydevcrm._record_drop(
    matview     tinydevcrm.matviews,
    schema_name text,
    name        text,
    reason      text default null,
    is_seen     boolean default true
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a subscription. The drop does not wait for it.
    set lock_timeout = '1s'
as $$
begin
    insert into tinydevcrm.dropped_matviews (
               id, owner, schema_name, name, query, registration, dropped_by)
    select (matview).id,
           (matview).owner,
           _record_drop.schema_name,
           _record_drop.name,
           matview_definitions.query,
           to_jsonb(matview) - '{id,owner,relation}'::text[],
           case when _record_drop.is_seen then session_user::text end
      from tinydevcrm.matview_definitions
     where matview_definitions.matview_id = (matview).id;

    insert into tinydevcrm.matview_refresh_events (
               owner, matview_id, matview, outcome, is_notified, reason, started_at, duration)
    values (
               (matview).owner,
               (matview).id,
               format('%I.%I', _record_drop.schema_name, _record_drop.name),
               'dropped',
               true,
               coalesce(_record_drop.reason, format('%s dropped it', session_user)),
               clock_timestamp(),
               '0');
exception
    -- The statement is the user's: no error here may stop it.
    when others then
        raise warning 'TinyDevCRM could not record the drop of %.%: % (SQLSTATE %)',
            _record_drop.schema_name, _record_drop.name, sqlerrm, sqlstate
            using hint = 'Its subscriptions get no event of it.';
end
$$;

comment on function tinydevcrm._record_drop(tinydevcrm.matviews, text, text, text, boolean) is
    'Keeps the definition of a materialized view that is just being dropped, and writes the event '
    'of that, which notifies. Without a reason, the event says which role the session has logged '
    'in as, and so does tinydevcrm.dropped_matviews, unless it is not seen who did it. Warns when it '
    'fails.';

create function tinydevcrm._follow_drops()
    returns event_trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._record_drop(
                matviews, dropped.schema_name, dropped.object_name)
       from pg_event_trigger_dropped_objects() as dropped
       join tinydevcrm.matviews
         on matviews.relation = dropped.objid
      where dropped.classid = 'pg_class'::regclass
        and dropped.objsubid = 0
      order by matviews.id;

    delete
      from tinydevcrm.matviews
     using pg_event_trigger_dropped_objects() as dropped
     where dropped.classid = 'pg_class'::regclass
       and dropped.objsubid = 0
       and matviews.relation = dropped.objid;
exception
    -- The statement is the user's: no error here may stop it.
    when others then
        raise warning 'TinyDevCRM could not follow a drop: % (SQLSTATE %)', sqlerrm, sqlstate
            using hint = 'Look for views that are gone: select * from tinydevcrm.matviews.';
end
$$;

comment on function tinydevcrm._follow_drops() is
    'Removes the registrations of dropped materialized views, and writes an event for each. '
    'Security definer: a role that may drop a view, such as the owner of its schema, may not see '
    'the registration. It lends delete on the registrations of what that statement dropped, and '
    'what tinydevcrm._record_drop() writes of them.';

create function tinydevcrm._remove_gone(relation oid default null)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone record;
begin
    for v_gone in
        select matviews.id,
               matviews as registration,
               matview_definitions.schema_name,
               matview_definitions.name
          from tinydevcrm.matviews
          join tinydevcrm.matview_definitions
            on matview_definitions.matview_id = matviews.id
         where not exists (select from pg_class where pg_class.oid = matviews.relation)
           and matviews.relation = coalesce(_remove_gone.relation, matviews.relation)
         order by matviews.id
           for update of matviews skip locked
    loop
        perform tinydevcrm._record_drop(
            v_gone.registration, v_gone.schema_name, v_gone.name,
            case when _remove_gone.relation is null then 'somebody dropped it' end,
            _remove_gone.relation is not null);
        delete from tinydevcrm.matviews
         where matviews.id = v_gone.id;
    end loop;
end
$$;

comment on function tinydevcrm._remove_gone(oid) is
    'Removes the registration of a materialized view that the session has just dropped, or those of '
    'all that are gone, and writes an event for each, under the last name that it had. Upkeep calls '
    'it: without event triggers nobody else sees a drop by hand, or who did it.';

create function tinydevcrm._follow_own_drop(relation oid)
    returns void
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._remove_gone(_follow_own_drop.relation)
$$;

comment on function tinydevcrm._follow_own_drop(oid) is
    'Removes the registration of a materialized view that the session has just dropped, where no '
    'event trigger has done it. Security definer: users cannot delete registrations. It lends that '
    'for a view that is gone.';

create function tinydevcrm.drop_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(drop_matview.relation);
begin
    -- The registration is removed after the view, as by the event trigger. So this takes its locks in
    -- the same order as a refresh, and the two wait for each other and cannot deadlock.
    execute format('drop materialized view %s', v_matview.relation);
    perform tinydevcrm._follow_own_drop(v_matview.relation);
end
$$;

comment on function tinydevcrm.drop_matview(regclass) is
    'Drops a materialized view with its registration and schedule. Its subscriptions get an event '
    'of the outcome dropped, and stay. tinydevcrm.restore_matview() makes it again. Raises TD001 when it is not watched, 2BP01 when another object depends on it.';

revoke execute on function
    tinydevcrm._record_drop(tinydevcrm.matviews, text, text, text, boolean),
    tinydevcrm._follow_drops(),
    tinydevcrm._remove_gone(oid),
    tinydevcrm._follow_own_drop(oid),
    tinydevcrm.drop_matview(regclass)
from public;

grant execute on function
    tinydevcrm._follow_own_drop(oid),
    tinydevcrm.drop_matview(regclass)
to tinydevcrm_user;

select tinydevcrm._create_event_trigger(
    'tinydevcrm_follow_drops', 'sql_drop', null, '_follow_drops',
    'Removes materialized views that are dropped by hand, also by cascade, from TinyDevCRM''s '
    'registry.');

create function tinydevcrm._settle_owners(relations oid[] default null)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row. Upkeep tries again the next minute.
    set lock_timeout = '100ms'
as $$
declare
    v_changed record;
begin
    for v_changed in
        select matviews.id,
               matviews.schedule_id,
               matviews.relation,
               matviews as registration,
               pg_namespace.nspname::text as schema_name,
               pg_class.relname::text as name,
               pg_class.relowner::regrole as owner
          from tinydevcrm.matviews
          join pg_class
            on pg_class.oid = matviews.relation
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where pg_class.relowner <> matviews.owner
           and (
               _settle_owners.relations is null
               or matviews.relation = any (_settle_owners.relations)
           )
           -- Upkeep follows one that its owner is just changing the next minute.
           for no key update of matviews skip locked
    loop
        begin
            perform
               from tinydevcrm.schedules
              where schedules.id = v_changed.schedule_id
                for update skip locked;
            -- Another view is just being put on the schedule: the trigger would wait for that.
            continue when v_changed.schedule_id is not null and not found;

            if tinydevcrm._is_group(v_changed.owner) then
                perform tinydevcrm._record_drop(
                    v_changed.registration, v_changed.schema_name, v_changed.name,
                    format('it belongs to the group %s now', v_changed.owner));
                delete from tinydevcrm.matviews
                 where matviews.id = v_changed.id;
                raise warning 'materialized view % is no longer watched', v_changed.relation
                    using hint = 'It belongs to a group now. Give it to a role that can log in.';
                continue;
            end if;

            update tinydevcrm.matviews
               set owner = v_changed.owner
             where matviews.id = v_changed.id;
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not follow a new owner: % (SQLSTATE %)',
                    sqlerrm, sqlstate
                    using hint = 'Watch and schedule the materialized view again, as its owner.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._settle_owners(oid[]) is
    'Gives the registrations and schedules of materialized views whose owner has changed to the '
    'new owner: of all views, or of these. Removes the registration of a view that belongs to one '
    'of our groups: see tinydevcrm._is_group(). Leaves out what a session has locked.';

revoke execute on function tinydevcrm._settle_owners(oid[]) from public;

create function tinydevcrm._follow_owners()
    returns event_trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._settle_owners(array(
        select commands.objid
          from pg_event_trigger_ddl_commands() as commands
         where commands.classid = 'pg_class'::regclass
    ));
exception
    -- As in _follow_drops().
    when others then
        raise warning 'TinyDevCRM could not follow a new owner: % (SQLSTATE %)', sqlerrm, sqlstate
            using hint = 'Watch and schedule the materialized view again, as its owner.';
end
$$;

comment on function tinydevcrm._follow_owners() is
    'Gives the registration and the schedule of a materialized view to its new owner. Security '
    'definer: the role that gives a view away may see neither the registration nor the schedules '
    'of the new owner. It lends update, and delete when the new owner is a group, on the '
    'registrations of views whose owner that statement has changed.';

revoke execute on function tinydevcrm._follow_owners() from public;

select tinydevcrm._create_event_trigger(
    'tinydevcrm_follow_owners', 'ddl_command_end', '{ALTER MATERIALIZED VIEW, ALTER TABLE}',
    '_follow_owners',
    'Makes TinyDevCRM''s registry follow a change of owner. Postgres has no such trigger for '
    'reassign owned, which upkeep follows within a minute.');

create function tinydevcrm._imports_note_renamed()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Only the first import of a table adds the notice.
    if not exists (
        select
          from tinydevcrm.imports
         where imports.relation = new.relation
           and imports.id <> new.id
    ) then
        new.notices := new.notices || array(
            select format(
                       'view %s reads %s, which was called %s before, and not this table',
                       matviews.relation, former.relation, tinydevcrm._target(new))
              from (
                select distinct imports.relation
                  from tinydevcrm.imports
                  join pg_class
                    on pg_class.oid = imports.relation
                 where imports.schema_name = new.schema_name
                   and imports.table_name = new.table_name
                   and imports.relation <> new.relation
              ) as former
              join tinydevcrm.matviews
                on former.relation = any (tinydevcrm._list_read_relations(matviews.relation))
             order by matviews.id
        );
    end if;

    return new;
end
$$;

comment on function tinydevcrm._imports_note_renamed() is
    'Adds a notice when an import has created a table: which watched views still read an older '
    'table of this name, which an earlier import created and which has been renamed since.';

revoke execute on function tinydevcrm._imports_note_renamed() from public;

create trigger _100_note_renamed
    before update on tinydevcrm.imports
    for each row
    when (old.finished_at is null and new.finished_at is not null)
    execute function tinydevcrm._imports_note_renamed();
