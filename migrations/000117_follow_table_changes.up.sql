-- Tracking follows what users do by hand: a new partition, a disabled or dropped trigger, a view with
-- another query, another body of a function, other labels of a type, a refresh without TinyDevCRM.

create function tinydevcrm._follow_relations(relations oid[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relations oid[];
    v_ids       bigint[];
begin
    select array_agg(distinct matview_sources.relation),
           array_agg(distinct matview_sources.matview_id)
      into v_relations,
           v_ids
      from (
        select parts.oid
          from unnest(_follow_relations.relations) as named (oid)
         cross join lateral tinydevcrm._list_with_children(named.oid) as parts (oid)
         union all
        select pg_inherits.inhparent
          from pg_inherits
         where pg_inherits.inhrelid = any (_follow_relations.relations)
      ) as touched
      join tinydevcrm.matview_sources
        on matview_sources.relation = touched.oid;

    if v_ids is null then
        return;
    end if;

    -- The command may have changed the rows, and a trigger may have been off until now.
    perform tinydevcrm._record_change(changed.relation)
       from unnest(v_relations) as changed (relation);

    perform tinydevcrm._analyze_again(v_ids);
end
$$;

comment on function tinydevcrm._follow_relations(oid[]) is
    'Makes the views stale that read one of these relations, a part of one, or a table of which one '
    'of them is a part, and analyzes them again.';

create function tinydevcrm._follow_definitions(class_ids oid[], object_ids oid[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relations constant oid[] := array(
        select tinydevcrm._list_dependents(
                   _follow_definitions.class_ids, _follow_definitions.object_ids)
    );
    v_ids       constant bigint[] := array(
        select matviews.id
          from tinydevcrm.matviews
         where matviews.relation = any (v_relations)
         union
        select matview_sources.matview_id
          from tinydevcrm.matview_sources
         where matview_sources.relation = any (v_relations)
    );
begin
    if v_ids <> '{}' then
        perform tinydevcrm._analyze_again(v_ids);
        perform tinydevcrm._notify_change();
    end if;
end
$$;

comment on function tinydevcrm._follow_definitions(oid[], oid[]) is
    'Makes the views stale whose rows depend on these types, functions or text search '
    'configurations, and analyzes them again.';

create function tinydevcrm._track_partitions(relations oid[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._create_change_trigger(children.oid)
       from unnest(_track_partitions.relations) as touched (oid)
      cross join lateral tinydevcrm._list_with_children(touched.oid) as children (oid)
       join pg_inherits
         on pg_inherits.inhrelid = children.oid
       join pg_class
         on pg_class.oid = children.oid
       join pg_class as parent
         on parent.oid = pg_inherits.inhparent
        and parent.relowner = pg_class.relowner
      where pg_class.relkind in ('r', 'p')
        and not tinydevcrm._is_table_tracked(children.oid)
        and tinydevcrm._is_table_tracked(parent.oid);
end
$$;

comment on function tinydevcrm._track_partitions(oid[]) is
    'Tracks partitions and inheriting tables that have just become part of a tracked table. Runs '
    'no code of the owner: it only creates a trigger, in the command that has locked the table.';

create function tinydevcrm._keep_triggers_always(relations oid[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._create_change_trigger(pg_trigger.tgrelid)
       from pg_trigger
      where pg_trigger.tgrelid = any (_keep_triggers_always.relations)
        and pg_trigger.tgfoid = 'tinydevcrm._table_changes_record()'::regprocedure
        and pg_trigger.tgenabled = 'O';
end
$$;

comment on function tinydevcrm._keep_triggers_always(oid[]) is
    'Enables our trigger for every session after "enable trigger all", which pg_restore '
    '--disable-triggers ends with, has enabled it for most.';

create function tinydevcrm._settle_definitions()
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
    if tinydevcrm._follows_at_once() then
        return;
    end if;

    for v_changed in
        select matviews.id,
               matviews.relation,
               matview_definitions.fingerprint is null as is_new
          from tinydevcrm.matview_definitions
          join tinydevcrm.matviews
            on matviews.id = matview_definitions.matview_id
           and exists (select from pg_class where pg_class.oid = matviews.relation)
         where matview_definitions.fingerprint
               is distinct from tinydevcrm._find_fingerprint(matviews.relation)
           for no key update of matview_definitions skip locked
    loop
        begin
            if not v_changed.is_new then
                perform tinydevcrm._track_partitions(array(
                    select matview_sources.relation
                      from tinydevcrm.matview_sources
                     where matview_sources.matview_id = v_changed.id
                ));
                perform tinydevcrm._analyze_again(array[v_changed.id]);
                perform tinydevcrm._notify_change();
            end if;

            update tinydevcrm.matview_definitions
               set fingerprint = tinydevcrm._find_fingerprint(v_changed.relation)
             where matview_definitions.matview_id = v_changed.id;
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not follow a change of what % reads: % (SQLSTATE %)',
                    v_changed.relation, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._settle_definitions() is
    'Where there are no event triggers: makes the views stale that depend on a definition which has '
    'changed, analyzes them again, and prints their queries again. It does not see "refresh '
    'materialized view" by hand.';

create function tinydevcrm._follow_commands()
    returns event_trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relations oid[] := array(
        select coalesce(pg_trigger.tgrelid, pg_rewrite.ev_class, commands.objid)
          from pg_event_trigger_ddl_commands() as commands
          left join pg_trigger
            on commands.classid = 'pg_trigger'::regclass
           and pg_trigger.oid = commands.objid
          left join pg_rewrite
            on commands.classid = 'pg_rewrite'::regclass
           and pg_rewrite.oid = commands.objid
         where commands.classid in (
               'pg_class'::regclass, 'pg_trigger'::regclass, 'pg_rewrite'::regclass)
    );
begin
    if tg_tag = 'REFRESH MATERIALIZED VIEW' then
        -- Our own refreshes know what they have seen, and whether the rows have changed. This one may
        -- have an old snapshot, or leave the view without rows.
        if coalesce(current_setting('tinydevcrm_own.refresh', true), '') = '' then
            perform tinydevcrm._analyze_again(array(
                select matviews.id
                  from tinydevcrm.matviews
                 where matviews.relation = any (v_relations)
            ));
            perform tinydevcrm._record_change(matview_sources.relation)
               from tinydevcrm.matview_sources
              where matview_sources.relation = any (v_relations);
        end if;
    elsif tg_tag ~ '(FUNCTION|ROUTINE|AGGREGATE|TYPE|SEARCH (CONFIGURATION|DICTIONARY))$' then
        perform tinydevcrm._follow_definitions(array_agg(classid), array_agg(objid))
           from pg_event_trigger_ddl_commands();
    else
        perform tinydevcrm._track_partitions(v_relations);
        perform tinydevcrm._keep_triggers_always(v_relations);
        perform tinydevcrm._follow_relations(v_relations);
    end if;
exception
    -- The statement is the user's: no error here may stop it.
    when others then
        raise warning 'TinyDevCRM could not follow a command: % (SQLSTATE %)', sqlerrm, sqlstate
            using hint = 'Refresh the views that read the table.';
end
$$;

comment on function tinydevcrm._follow_commands() is
    'Follows a command on a table, trigger, view, function, type or text search configuration. '
    'Security definer: a role that may change one may not see the views that read it. It lends the '
    'trigger on new partitions, the record of a change, and the analysis of views that depend on '
    'what the command has changed.';

create function tinydevcrm._follow_dropped_parts()
    returns event_trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._follow_relations(array(
        select case dropped.object_type
                   when 'trigger' then
                       to_regclass(
                           format('%I.%I', dropped.address_names[1], dropped.address_names[2]))
                   else dropped.objid
               end
          from pg_event_trigger_dropped_objects() as dropped
         where dropped.classid in ('pg_class'::regclass, 'pg_trigger'::regclass)
           and dropped.objsubid = 0
    ));
exception
    -- As in _follow_commands().
    when others then
        raise warning 'TinyDevCRM could not follow a drop: % (SQLSTATE %)', sqlerrm, sqlstate
            using hint = 'Refresh the views that read the table.';
end
$$;

comment on function tinydevcrm._follow_dropped_parts() is
    'Follows a partition or trigger that is dropped. Security definer: as _follow_commands().';

revoke execute on function
    tinydevcrm._follow_relations(oid[]),
    tinydevcrm._follow_definitions(oid[], oid[]),
    tinydevcrm._track_partitions(oid[]),
    tinydevcrm._keep_triggers_always(oid[]),
    tinydevcrm._settle_definitions(),
    tinydevcrm._follow_commands(),
    tinydevcrm._follow_dropped_parts()
from public;

select tinydevcrm._create_event_trigger(
    'tinydevcrm_follow_commands', 'ddl_command_end',
    array[
        'CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER',
        'CREATE VIEW', 'ALTER VIEW', 'CREATE RULE', 'REFRESH MATERIALIZED VIEW',
        'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'CREATE AGGREGATE', 'ALTER TYPE',
        'ALTER TEXT SEARCH CONFIGURATION', 'ALTER TEXT SEARCH DICTIONARY'
    ],
    '_follow_commands',
    'Keeps the tracking of changes true when tables, triggers, views, functions and types change.');

select tinydevcrm._create_event_trigger(
    'tinydevcrm_follow_dropped_parts', 'sql_drop', null, '_follow_dropped_parts',
    'Keeps the tracking of changes true when a partition or a trigger is dropped.');
