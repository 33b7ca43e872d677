-- How the rows of a table or materialized view are read by whoever may look at it: for the page, as
-- JSON and CSV, and for widgets. Nothing of its owner's making runs with the reader's rights.

create function tinydevcrm._is_built_in(type oid)
    returns boolean
    language sql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    with recursive types (oid) as (
        select _is_built_in.type
         union all
        select case pg_type.typtype when 'd' then pg_type.typbasetype else pg_type.typelem end
          from types
          join pg_type
            on pg_type.oid = types.oid
         where pg_type.typtype = 'd'
            or pg_type.typlen = -1 and pg_type.typelem <> 0
    )
    select bool_or(types.oid < 16384)
      from types
$$;

comment on function tinydevcrm._is_built_in(oid) is
    'Whether a type, without the domains and arrays around it, comes with Postgres.';

create function tinydevcrm._print_rows(
    relation      regclass,
    name          text,
    is_json       boolean,
    cell_limit    integer,
    out names     text[],
    out types     text[],
    out statement text
)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_values text;
begin
    -- By output functions: a cast to text or json may be one that the owner of a type has made. The
    -- statement runs with its reader's search_path, so that it qualifies operators too.
    with columns as (
        select attname,
               attnum,
               format_type(atttypid, atttypmod) as type,
               _print_rows.is_json and tinydevcrm._is_built_in(atttypid) as is_plain,
               format('pg_catalog.format(%L, %I)', '%s', attname) as text
          from pg_attribute
         where attrelid = _print_rows.relation
           and attnum > 0
           and not attisdropped
    ),
    printed as (
        select columns.*,
               case
                   when is_plain then format('pg_catalog.to_json(%I)::pg_catalog.text', attname)
                   when _print_rows.is_json then
                       format('pg_catalog.to_json(%s)::pg_catalog.text', text)
                   when _print_rows.cell_limit is not null then
                       format('pg_catalog.left(%s, %s)', text, _print_rows.cell_limit)
                   else text
               end as value
          from columns
    )
    select coalesce(array_agg(attname::text order by attnum), '{}'),
           coalesce(array_agg(type order by attnum), '{}'),
           coalesce(
               string_agg(
                   format(
                       'case when pg_catalog.num_nulls(%I) operator(pg_catalog.=) 0 then %s end',
                       attname, value),
                   ', ' order by attnum),
               '')
      into _print_rows.names,
           _print_rows.types,
           v_values
      from printed;

    _print_rows.statement := format(
        'select array[%s]::pg_catalog.text[] from %s', v_values, _print_rows.name);
end
$$;

comment on function tinydevcrm._print_rows(regclass, text, boolean, integer) is
    'Columns of a relation, their types, and the select statement that gives each row of what is '
    'called so as an array of its values as text, or as JSON; texts are cut to cell_limit '
    'characters, if that is given.';

create function tinydevcrm._build_rows_statement(
    relation      regclass,
    is_json       boolean default false,
    cell_limit    integer default null,
    out names     text[],
    out types     text[],
    out statement text
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name constant text := _build_rows_statement.relation::text;
    v_kind "char";
begin
    perform tinydevcrm._check_session_of(_build_rows_statement.relation);

    select printed.*
      into _build_rows_statement.names,
           _build_rows_statement.types,
           _build_rows_statement.statement
      from tinydevcrm._print_rows(
               _build_rows_statement.relation,
               v_name,
               _build_rows_statement.is_json,
               _build_rows_statement.cell_limit) as printed;

    -- Its owner may put something else in its place, such as a view that calls functions of theirs.
    -- To prepare the statement runs nothing, and keeps what it reads as it is until the transaction
    -- ends. Then it is time to look.
    execute 'prepare tinydevcrm_rows as ' || _build_rows_statement.statement;
    deallocate tinydevcrm_rows;

    select relkind
      into v_kind
      from pg_class
     where oid = to_regclass(v_name)
       and oid = _build_rows_statement.relation;

    if v_kind is null or v_kind not in ('r', 'p', 'm') then
        raise exception using
            errcode = '55000',
            message = format('%s is not the table or materialized view that it was', v_name),
            hint    = 'Try again.';
    end if;
end
$$;

comment on function tinydevcrm._build_rows_statement(regclass, boolean, integer) is
    'As tinydevcrm._print_rows(), for a table or materialized view of the session''s role. Run the '
    'statement in the same transaction: until its end nobody changes the relation. Raises 42501 in '
    'the session of another role, 55000 when somebody has put another relation in its place.';

create function tinydevcrm._describe_columns(names text[], types text[])
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               jsonb_agg(jsonb_build_object('name', name, 'type', type) order by place), '[]')
      from unnest(_describe_columns.names, _describe_columns.types)
               with ordinality as columns (name, type, place)
$$;

comment on function tinydevcrm._describe_columns(text[], text[]) is
    'Columns as programs get them: [{"name": …, "type": …}].';

revoke execute on function
    tinydevcrm._is_built_in(oid),
    tinydevcrm._print_rows(regclass, text, boolean, integer),
    tinydevcrm._build_rows_statement(regclass, boolean, integer),
    tinydevcrm._describe_columns(text[], text[])
from public;

grant execute on function
    tinydevcrm._is_built_in(oid),
    tinydevcrm._print_rows(regclass, text, boolean, integer),
    tinydevcrm._build_rows_statement(regclass, boolean, integer),
    tinydevcrm._describe_columns(text[], text[])
to tinydevcrm_user;
