-- Renames and drops a user's own tables, and finds what is dropped with one.

create function tinydevcrm._list_cascaded(relation regclass)
    returns table (classid oid, objid oid, objsubid integer)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive dropped (classid, objid, objsubid, is_cascaded) as (
        select 'pg_class'::regclass::oid,
               _list_cascaded.relation::oid,
               0,
               false
         union
        select step.*
          from dropped
         cross join lateral (
             select pg_depend.classid,
                    pg_depend.objid,
                    pg_depend.objsubid,
                    pg_depend.deptype = 'n' as is_cascaded
               from pg_depend
              where pg_depend.refclassid = dropped.classid
                and pg_depend.refobjid = dropped.objid
                and (dropped.objsubid = 0 or pg_depend.refobjsubid = dropped.objsubid)
             union all
             -- With a part goes the whole, such as a view with the rule that is its query.
             select pg_depend.refclassid,
                    pg_depend.refobjid,
                    pg_depend.refobjsubid,
                    true
               from pg_depend
              where pg_depend.classid = dropped.classid
                and pg_depend.objid = dropped.objid
                and pg_depend.deptype = 'i'
         ) as step
    )
    select dropped.classid,
           dropped.objid,
           dropped.objsubid
      from dropped
     where (dropped.classid, dropped.objid) <> ('pg_class'::regclass, _list_cascaded.relation::oid)
     group by dropped.classid, dropped.objid, dropped.objsubid
    having bool_and(dropped.is_cascaded)
$$;

comment on function tinydevcrm._list_cascaded(regclass) is
    'What "drop … cascade" of a relation drops too, without the parts of these objects, which go '
    'with them anyway: addresses as in pg_depend.';

create function tinydevcrm._list_dropped_with(relation regclass)
    returns table (
        kind               text,
        relation           regclass,
        constraint_name    text,
        key                text,
        subscription_count bigint
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when matviews.id is not null then 'watched view'
               when built_on.kind = 'm' then 'materialized view'
               else 'view'
           end,
           built_on.relation,
           null,
           case
               when matviews.id is not null
                   then format('%I.%I', pg_namespace.nspname, pg_class.relname)
           end,
           (
               select count(*)
                 from tinydevcrm.subscriptions
                where subscriptions.matview_id = matviews.id
           )
      from unnest(tinydevcrm._list_built_on(_list_dropped_with.relation)) as built_on
      join pg_class
        on pg_class.oid = built_on.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
      left join tinydevcrm.matviews
        on matviews.relation = built_on.relation
    union all
    select case when pg_constraint.conname is not null then 'foreign key' else identified.type end,
           coalesce(
               pg_constraint.conrelid::regclass,
               case
                   when others.classid = 'pg_class'::regclass and others.objsubid = 0
                       then others.objid
               end),
           case
               when pg_constraint.conname is not null then pg_constraint.conname::text
               when others.classid <> 'pg_class'::regclass or others.objsubid > 0
                   then identified.identity
           end,
           null,
           0
      from tinydevcrm._list_cascaded(_list_dropped_with.relation) as others
     cross join pg_identify_object(others.classid, others.objid, others.objsubid) as identified
      left join pg_constraint
        on others.classid = 'pg_constraint'::regclass
       and pg_constraint.oid = others.objid
       and pg_constraint.contype = 'f'
     where (others.classid, others.objid) <> all (
               select 'pg_class'::regclass, built_on.relation::oid
                 from unnest(
                          tinydevcrm._list_built_on(_list_dropped_with.relation)) as built_on
           )
$$;

comment on function tinydevcrm._list_dropped_with(regclass) is
    'What is dropped together with a table: the views that read it, directly or through others, '
    'the foreign keys that refer to it, and all else that "drop … cascade" drops, such as tables that '
    'inherit from it. constraint_name is the name of a foreign key, or of what is no relation. key '
    'is the name with schema of a watched materialized view, as in events; null for what is not '
    'watched.';

create function tinydevcrm._rename_table(relation regclass, name text)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_oid constant oid := _rename_table.relation;
begin
    perform tinydevcrm._check_session_of(_rename_table.relation);
    perform tinydevcrm._check_table_name(_rename_table.name);
    execute format('alter table %s rename to %I', _rename_table.relation, _rename_table.name);

    return (
        select format('%I.%I', pg_namespace.nspname, pg_class.relname)
          from pg_class
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where pg_class.oid = v_oid
    );
end
$$;

comment on function tinydevcrm._rename_table(regclass, text) is
    'Renames a table and returns its new name with schema. Views go on reading it. Raises TD007 '
    'for a name that no table can have, 42501 when the session has not logged in as the owner, '
    '42P07 when there is a relation of that name.';

create function tinydevcrm._drop_table(relation regclass, with_dependents boolean)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matviews oid[];
begin
    perform tinydevcrm._check_session_of(_drop_table.relation);
    v_matviews := array(
        select others.objid
          from tinydevcrm._list_cascaded(_drop_table.relation) as others
         where others.classid = 'pg_class'::regclass
    );
    execute format(
        'drop table %s%s',
        _drop_table.relation,
        case when _drop_table.with_dependents then ' cascade' else '' end);
    perform tinydevcrm._follow_own_drop(dropped.oid)
       from unnest(v_matviews) as dropped (oid);
end
$$;

comment on function tinydevcrm._drop_table(regclass, boolean) is
    'Drops a table, with what tinydevcrm._list_dropped_with() lists if that is wanted. Raises 42501 '
    'when the session has not logged in as the owner, 2BP01 when something depends on the table.';

revoke execute on function
    tinydevcrm._list_cascaded(regclass),
    tinydevcrm._list_dropped_with(regclass),
    tinydevcrm._rename_table(regclass, text),
    tinydevcrm._drop_table(regclass, boolean)
from public;

grant execute on function
    tinydevcrm._list_cascaded(regclass),
    tinydevcrm._list_dropped_with(regclass),
    tinydevcrm._rename_table(regclass, text),
    tinydevcrm._drop_table(regclass, boolean)
to tinydevcrm_user;
