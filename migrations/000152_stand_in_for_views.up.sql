-- Stands in for a view that a check has not made: an empty materialized view with the same columns. The query is read
-- and not run, and nobody waits for a lock.

create function tinydevcrm._list_null_columns(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               string_agg(
                   format('null::%s as %I', format_type(atttypid, atttypmod), attname), ', '
                   order by attnum),
               '')
      from pg_attribute
     where attrelid = _list_null_columns.relation
       and attnum > 0
       and not attisdropped
$$;

comment on function tinydevcrm._list_null_columns(regclass) is
    'What a query selects that has the columns of a relation, and only nulls.';

create function tinydevcrm._move_to_stand_in(relation regclass, copy regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(_move_to_stand_in.relation);
begin
    update tinydevcrm.matviews
       set relation = _move_to_stand_in.copy
     where matviews.id = v_matview.id;

    perform set_config(
        'definitions.stand_ins',
        (
            coalesce(nullif(current_setting('definitions.stand_ins', true), ''), '{}')::jsonb
            || jsonb_build_object(
                   _move_to_stand_in.relation::oid::text, _move_to_stand_in.copy::oid::text)
        )::text,
        true);
end
$$;

comment on function tinydevcrm._move_to_stand_in(regclass, regclass) is
    'Registers what stands in for a view in its place, until the check is rolled back, and notes it for '
    'tinydevcrm._find_defined_view() in the setting definitions.stand_ins.';

-- The caller's query. So these functions set no search_path and qualify all names.
create function tinydevcrm._make_stand_in(
    change   tinydevcrm._definition_change,
    name     text,
    relation regclass
)
    returns regclass
    language plpgsql
    volatile
as $$
declare
    v_query     constant text := (change).new operator(pg_catalog.->>) 'query';
    v_statement constant text := tinydevcrm._build_matview_statement(
        (change).schema_name::pg_catalog.name, _make_stand_in.name);
    v_columns   text;
begin
    if tinydevcrm._differs(change, '{query}') then
        perform tinydevcrm._check_query(v_query);
        perform tinydevcrm._make_view('create temporary view _definition_query as ', v_query);
        v_columns := tinydevcrm._list_null_columns('pg_temp._definition_query');
        drop view pg_temp._definition_query;
    else
        v_columns := tinydevcrm._list_null_columns(_make_stand_in.relation);
    end if;

    -- It is filled, because a query of one that is not cannot even be planned.
    execute pg_catalog.concat(v_statement, 'select ', v_columns, ' where false');
    return tinydevcrm._relation((change).schema_name::pg_catalog.name, _make_stand_in.name);
end
$$;

comment on function tinydevcrm._make_stand_in(tinydevcrm._definition_change, text, regclass) is
    'Makes an empty materialized view with the columns of the wanted query, or, when that stays, of '
    'the view. Raises the errors that create_matview() raises for a name and a query.';

create function tinydevcrm._stand_in(change tinydevcrm._definition_change)
    returns void
    language plpgsql
    volatile
as $$
declare
    v_relation constant pg_catalog.regclass := tinydevcrm._relation(
        (change).schema_name::pg_catalog.name, (change).relname);
    v_copy     pg_catalog.regclass;
begin
    if (change).old is null then
        v_copy := tinydevcrm._make_stand_in(change, (change).relname, null);
        perform tinydevcrm._set_rule(
            v_copy, (change).new operator(pg_catalog.-) 'notify_deadline'::pg_catalog.text);
        perform tinydevcrm._set_key(
            v_copy, tinydevcrm._list_texts((change).new operator(pg_catalog.->) 'key'));
    else
        v_copy := tinydevcrm._make_stand_in(
            change,
            tinydevcrm._find_unused_name(
                pg_catalog.concat('_checked_', (change).relname),
                (change).schema_name::pg_catalog.name),
            v_relation);
        perform tinydevcrm._move_to_stand_in(v_relation, v_copy);
        -- Queries that name it without a schema find this first.
        execute pg_catalog.format(
            'create temporary view %I as select * from %s', (change).relname, v_copy);
        change.new := (change).new operator(pg_catalog.-) 'notify_deadline'::pg_catalog.text;
        perform tinydevcrm._replace_rule(change, v_copy);
    end if;

    perform tinydevcrm._set_view(change, v_copy);
end
$$;

comment on function tinydevcrm._stand_in(tinydevcrm._definition_change) is
    'Does for a check what tinydevcrm._define_view() does, with an empty stand-in. It does not find '
    'that a view is not tracked, and so cannot be refreshed on change or have a deadline; that two '
    'rows have the same key; and that the query fails when it runs. A query that names an altered '
    'view with its schema is checked against the columns which that has now.';

revoke execute on function
    tinydevcrm._list_null_columns(regclass),
    tinydevcrm._move_to_stand_in(regclass, regclass),
    tinydevcrm._make_stand_in(tinydevcrm._definition_change, text, regclass),
    tinydevcrm._stand_in(tinydevcrm._definition_change)
from public;

grant execute on function
    tinydevcrm._list_null_columns(regclass),
    tinydevcrm._move_to_stand_in(regclass, regclass),
    tinydevcrm._make_stand_in(tinydevcrm._definition_change, text, regclass),
    tinydevcrm._stand_in(tinydevcrm._definition_change)
to tinydevcrm_user;
