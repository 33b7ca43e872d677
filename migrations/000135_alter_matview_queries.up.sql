-- Another query for a watched view. Postgres cannot replace the query of a materialized view. So a
-- new one is filled beside the old one, which readers go on reading. Then it takes the old one's
-- name, its place in the registry, its indexes and its grants. What is built on it is built again.

create function tinydevcrm._clear_names_and_grants(old regclass, new regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_statement text;
begin
    for v_statement in
        select format('drop index %s', indexrelid::regclass)
          from pg_index
         where indrelid = _clear_names_and_grants.old
         union all
        select format('drop statistics %s.%I', stxnamespace::regnamespace, stxname)
          from pg_statistic_ext
         where stxrelid = _clear_names_and_grants.old
         union all
        -- Default privileges may have granted more than the old one had.
        select distinct
               format(
                   'revoke all on table %s from %s',
                   _clear_names_and_grants.new,
                   case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end)
          from pg_class as old_class
          join pg_class as new_class
            on new_class.oid = _clear_names_and_grants.new
         cross join lateral aclexplode(
                   coalesce(new_class.relacl, acldefault('r', new_class.relowner))) as acl
         where old_class.oid = _clear_names_and_grants.old
           and (acl.grantee <> new_class.relowner or old_class.relacl is not null)
    loop
        execute v_statement;
    end loop;
end
$$;

comment on function tinydevcrm._clear_names_and_grants(regclass, regclass) is
    'Drops the indexes and extended statistics of a materialized view, whose names another one is '
    'about to take, and revokes what that one has been granted by default.';

create function tinydevcrm._swap_matview(
    old          regclass,
    new          regclass,
    out kept     text[],
    out warnings text[]
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name       constant text := _swap_matview.old;
    v_schema     name;
    v_relname    text;
    v_what       text[];
    v_statements text[];
    v_applied    record;
begin
    -- Creating an index runs the owner's functions.
    perform tinydevcrm._check_session_of(_swap_matview.old);
    perform tinydevcrm._check_session_of(_swap_matview.new);

    select nspname,
           relname
      into v_schema,
           v_relname
      from pg_class
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where pg_class.oid = _swap_matview.old;

    select array_agg(settings.what),
           array_agg(settings.statement)
      into v_what,
           v_statements
      from tinydevcrm._list_settings(_swap_matview.old) as settings;

    perform tinydevcrm._clear_names_and_grants(_swap_matview.old, _swap_matview.new);
    execute format(
        'alter materialized view %s rename to %I',
        _swap_matview.old,
        tinydevcrm._find_unused_name('_before_' || v_relname, v_schema));
    execute format(
        'alter materialized view %s rename to %I', _swap_matview.new, v_relname);

    -- The owner of the schema may have given its name to another one.
    if to_regclass(v_name) is distinct from _swap_matview.new then
        raise exception using
            errcode = '55000',
            message = format('%s is not the materialized view that it was', v_name),
            hint    = 'Try again.';
    end if;

    v_applied := tinydevcrm._apply_settings(v_what, v_statements);
    kept := array(select distinct unnest(v_applied.kept) order by 1);
    warnings := v_applied.lost;
end
$$;

comment on function tinydevcrm._swap_matview(regclass, regclass) is
    'Gives a materialized view the name of another one, and what that one has: indexes, grants, '
    'comments and the like. Returns what the new one has kept, and what it cannot have. Raises '
    '42501 when the session has not logged in as the owner.';

create function tinydevcrm._create_copy(reader tinydevcrm._built_on)
    returns regclass
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_copy record;
begin
    if (reader).kind = 'v' then
        execute format(
            'create or replace view %s%s as %s',
            (reader).relation,
            (
                select ' with (' || array_to_string(reloptions, ', ') || ')'
                  from pg_class
                 where pg_class.oid = (reader).relation
            ),
            (reader).definition);
        return (reader).relation;
    end if;

    v_copy := tinydevcrm._plan_copy((reader).relation);
    execute v_copy.statement || (reader).definition || ' with no data';
    return v_copy.name::regclass;
end
$$;

comment on function tinydevcrm._create_copy(tinydevcrm._built_on) is
    'Builds a view, or an empty copy of a materialized view, on what has the names now that its '
    'query reads. Returns the view or the copy.';

-- Fills a view, whose functions may rely on the caller's search_path. So it sets no search_path and
-- qualifies all names.
create function tinydevcrm._rebuild_reader(
    reader       tinydevcrm._built_on,
    out copy     regclass,
    out warnings text[]
)
    language plpgsql
    volatile
as $$
begin
    perform tinydevcrm._check_session_of((reader).relation);
    copy := tinydevcrm._create_copy(reader);

    if (reader).kind operator(pg_catalog.=) 'm' then
        if (reader).is_filled then
            execute pg_catalog.format('refresh materialized view %s', copy);
        end if;
        select swapped.warnings
          into _rebuild_reader.warnings
          from tinydevcrm._swap_matview((reader).relation, copy) as swapped;
    end if;
exception
    when others then
        raise exception using
            errcode = sqlstate,
            message = pg_catalog.format(
                '%s, which is built on it, cannot be built again: %s', (reader).relation, sqlerrm),
            hint    = 'Drop it first, or write a query that it can read.';
end
$$;

comment on function tinydevcrm._rebuild_reader(tinydevcrm._built_on) is
    'Builds a view or materialized view anew on one that has got another query. Returns the new '
    'one, which is the same for a view, and what it cannot keep. Raises the error that stops it, '
    'with its name.';

create function tinydevcrm._drop_replaced(relations regclass[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_detail text;
begin
    execute 'drop materialized view ' || array_to_string(_drop_replaced.relations, ', ');
exception
    when dependent_objects_still_exist then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception using
            errcode = '2BP01',
            message = 'objects other than views depend on it',
            detail  = v_detail,
            hint    = 'Drop them first.';
end
$$;

comment on function tinydevcrm._drop_replaced(regclass[]) is
    'Drops materialized views that have been replaced. Raises 2BP01 when a function, a rule or a '
    'policy depends on one.';

-- Runs the caller's query, so it sets no search_path and qualifies all names.
create function tinydevcrm.alter_matview_query(
    relation     regclass,
    query        text,
    out matview  regclass,
    out kept     text[],
    out rebuilt  text[],
    out warnings text[]
)
    language plpgsql
    volatile
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(alter_matview_query.relation);
    v_readers tinydevcrm._built_on[];
    v_reader  tinydevcrm._built_on;
    v_plan    record;
    v_rebuilt record;
    v_old     pg_catalog.regclass[];
    v_new     pg_catalog.regclass[];
    v_moved   record;
begin
    perform tinydevcrm._check_session_of(v_matview.relation);
    perform tinydevcrm._check_query(alter_matview_query.query);

    v_matview := tinydevcrm._lock_for_change(v_matview);
    perform tinydevcrm._check_built_on(v_matview.relation);
    v_plan := tinydevcrm._plan_copy(v_matview.relation);
    perform tinydevcrm._make_view(v_plan.statement, alter_matview_query.query);
    matview := v_plan.name::pg_catalog.regclass;
    perform tinydevcrm._check_not_read(v_matview.relation, matview);
    perform tinydevcrm._track_reads(matview);

    v_readers := tinydevcrm._lock_against_readers(v_matview.relation);
    select swapped.kept,
           swapped.warnings
      into alter_matview_query.kept,
           alter_matview_query.warnings
      from tinydevcrm._swap_matview(v_matview.relation, matview) as swapped;
    v_old := array[v_matview.relation];
    v_new := array[matview];

    rebuilt := '{}';
    foreach v_reader in array v_readers loop
        rebuilt := pg_catalog.array_append(rebuilt, v_reader.relation::pg_catalog.text);
        v_rebuilt := tinydevcrm._rebuild_reader(v_reader);
        warnings := pg_catalog.array_cat(warnings, v_rebuilt.warnings);
        if v_reader.kind operator(pg_catalog.=) 'm' then
            v_old := pg_catalog.array_append(v_old, v_reader.relation);
            v_new := pg_catalog.array_append(v_new, v_rebuilt.copy);
        end if;
    end loop;

    v_moved := tinydevcrm._move_registrations(v_old, v_new);
    kept := pg_catalog.array_cat(kept, v_moved.kept);
    warnings := pg_catalog.array_cat(warnings, v_moved.warnings);
    perform tinydevcrm._drop_replaced(v_old);
    perform tinydevcrm._keep_written(matview, alter_matview_query.query);
end
$$;

comment on function tinydevcrm.alter_matview_query(regclass, text) is
    'Gives a watched materialized view another query, and fills it. Its registration stays, with '
    'schedule, rule, subscriptions, deliveries and widget; so do grants, comments, options, '
    'indexes and key, as far as the columns are there: kept names what it has kept, warnings what '
    'it could not keep. The baseline stays when the compared columns are the same, so the next '
    'refresh reports what the new query has added and removed; else it is made anew. The edit '
    'itself notifies of nothing. Views built on it are built again: rebuilt names them. Readers '
    'wait at the end only, while indexes and such views are built. Waits for a refresh that runs. '
    'An error changes nothing: TD001 when it is not watched, TD002 when the query is not exactly '
    'one that returns rows or reads the view itself, 42501 when the session has not logged in as '
    'the owner, 2BP01 when views of other owners or other objects depend on it, and the errors of '
    'the queries.';

revoke execute on function
    tinydevcrm._clear_names_and_grants(regclass, regclass),
    tinydevcrm._swap_matview(regclass, regclass),
    tinydevcrm._create_copy(tinydevcrm._built_on),
    tinydevcrm._rebuild_reader(tinydevcrm._built_on),
    tinydevcrm._drop_replaced(regclass[]),
    tinydevcrm.alter_matview_query(regclass, text)
from public;

grant execute on function
    tinydevcrm._clear_names_and_grants(regclass, regclass),
    tinydevcrm._swap_matview(regclass, regclass),
    tinydevcrm._create_copy(tinydevcrm._built_on),
    tinydevcrm._rebuild_reader(tinydevcrm._built_on),
    tinydevcrm._drop_replaced(regclass[]),
    tinydevcrm.alter_matview_query(regclass, text)
to tinydevcrm_user;
