-- Reads the rows of a table or materialized view: for the page, as JSON and CSV, and for widgets.
-- No code of its owner runs with the rights of the reader.

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
    'Whether a type is part of Postgres, when the domains and arrays around it are left aside.';

create function tinydevcrm._print_text(attribute text, type oid)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case _print_text.type
               -- An import reads true and false back, and takes t and f for text.
               when 'boolean'::regtype then format('%I::pg_catalog.text', _print_text.attribute)
               else format('pg_catalog.format(%L, %I)', '%s', _print_text.attribute)
           end
$$;

comment on function tinydevcrm._print_text(text, oid) is
    'The expression for a column''s value as text, by the output function of its type: the owner of '
    'a type can create its cast to text.';

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
    -- Not by to_json() for all: the owner of a type can create its cast to json. The statement runs
    -- with the reader's search_path, so it qualifies operators too.
    with columns as (
        select attname,
               attnum,
               format_type(atttypid, atttypmod) as type,
               _print_rows.is_json and tinydevcrm._is_built_in(atttypid) as is_plain,
               tinydevcrm._print_text(attname::text, atttypid) as text
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
    'The columns of a relation, their types, and the select statement that returns each row as an '
    'array of texts or of JSON values. The statement reads the relation by the given name. '
    'cell_limit, if given, cuts texts to that many characters.';

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

    -- The owner may have replaced the relation, for example by a view that calls the owner's
    -- functions. Preparing the statement runs nothing, and locks what it reads until the
    -- transaction ends. So the check comes after it.
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
    'The columns, types and statement of tinydevcrm._print_rows(), for a table or materialized '
    'view that the session''s role owns. Run the statement in the same transaction: until its end '
    'nobody can change the relation. Raises 42501 when the session has not logged in as the owner, '
    '55000 when another relation has taken its place.';

create function tinydevcrm._print_base_type(type oid)
    returns text
    language sql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    with recursive types (oid) as (
        select _print_base_type.type
         union all
        select pg_type.typbasetype
          from types
          join pg_type
            on pg_type.oid = types.oid
         where pg_type.typtype = 'd'
    )
    select format('%I.%I', pg_namespace.nspname, pg_type.typname)
      from types
      join pg_type
        on pg_type.oid = types.oid
      join pg_namespace
        on pg_namespace.oid = pg_type.typnamespace
     where pg_type.typtype <> 'd'
$$;

comment on function tinydevcrm._print_base_type(oid) is
    'A type, with its schema, to compare values with: without the domains around it, whose checks '
    'are their owners'' code, and without a length or scale, to which a value would be cut.';

create function tinydevcrm._print_filter(attribute text, type text, text text, wanted text)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when lower(btrim(_print_filter.wanted)) in ('is null', 'is not null') then
                   format('%I %s', _print_filter.attribute, lower(btrim(_print_filter.wanted)))
               when compared.parts is not null then
                   format(
                       '%I operator(pg_catalog.%s) %L::%s',
                       _print_filter.attribute,
                       compared.parts[1],
                       compared.parts[2],
                       _print_filter.type)
               else
                   format(
                       'pg_catalog.strpos(pg_catalog.lower(%s), pg_catalog.lower(%L)) '
                       'operator(pg_catalog.>) 0',
                       _print_filter.text, _print_filter.wanted)
           end
      from (
        select regexp_match(
                   _print_filter.wanted, '^\s*(<=|>=|<>|=|<|>)\s*(.*?)\s*$') as parts
      ) as compared
$$;

comment on function tinydevcrm._print_filter(text, text, text, text) is
    'The condition on a column for what a person writes: "is null", "is not null", a comparison '
    'such as >= 10 with a value of the type, or a part of the value''s text in any case.';

create function tinydevcrm._build_page_statement(
    relation        regclass,
    cell_limit      integer,
    sort_by         text,
    is_descending   boolean,
    filters         jsonb,
    row_offset      bigint default 0,
    row_limit       integer default null,
    is_json         boolean default false,
    out names       text[],
    out types       text[],
    out are_numbers boolean[],
    out statement   text,
    out counting    text
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_unknown text;
    v_where   text;
    v_order   text[];
begin
    select built.names,
           built.types,
           built.statement
      into _build_page_statement.names,
           _build_page_statement.types,
           _build_page_statement.statement
      from tinydevcrm._build_rows_statement(
               _build_page_statement.relation,
               _build_page_statement.is_json,
               _build_page_statement.cell_limit) as built;

    select name
      into v_unknown
      from (
        select _build_page_statement.sort_by
         where _build_page_statement.sort_by <> ''
        union all
        select jsonb_object_keys(_build_page_statement.filters)
      ) as asked (name)
     where name <> all (_build_page_statement.names)
     limit 1;
    if found then
        raise exception using
            errcode = '42703',
            message = format('%s has no column %I', _build_page_statement.relation, v_unknown);
    end if;

    select array_agg(typcategory = 'N' order by attnum),
           ' where ' || string_agg(
               tinydevcrm._print_filter(
                   attname::text,
                   tinydevcrm._print_base_type(atttypid),
                   tinydevcrm._print_text(attname::text, atttypid),
                   filters.value),
               ' and ' order by attnum)
      into _build_page_statement.are_numbers,
           v_where
      from pg_attribute
      join pg_type
        on pg_type.oid = pg_attribute.atttypid
      left join jsonb_each_text(_build_page_statement.filters) as filters
        on filters.key = pg_attribute.attname
     where pg_attribute.attrelid = _build_page_statement.relation
       and pg_attribute.attnum > 0
       and not pg_attribute.attisdropped;

    if _build_page_statement.sort_by <> '' then
        v_order := array[format(
            '%I %s nulls last',
            _build_page_statement.sort_by,
            case when _build_page_statement.is_descending then 'desc' else 'asc' end)];
        -- Equal values need an order too: without one, two pages may show the same row. The
        -- workers of Citus give no place of a row.
        if tinydevcrm._find_distribution(_build_page_statement.relation) is null then
            v_order := v_order || '{tableoid,ctid}'::text[];
        end if;
    end if;

    _build_page_statement.counting := format(
        'select pg_catalog.count(*) from (select from %s%s limit 1000001) as counted',
        _build_page_statement.relation, v_where);
    _build_page_statement.statement := concat(
        _build_page_statement.statement,
        v_where,
        ' order by ' || array_to_string(v_order, ', '),
        format(
            ' limit %s offset %s',
            coalesce(_build_page_statement.row_limit::text, 'all'),
            _build_page_statement.row_offset));
end
$$;

comment on function tinydevcrm._build_page_statement(
    regclass, integer, text, boolean, jsonb, bigint, integer, boolean
) is
    'As tinydevcrm._build_rows_statement(), for one page of the rows: sorted by a column (none for '
    'the order in which they stand), and only those that fit all filters, an object of columns and '
    'what tinydevcrm._print_filter() takes. are_numbers says which columns are numbers. counting '
    'counts the rows that fit, up to 1000001. No row_limit means all rows. Raises 42703 for an '
    'unknown column.';

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
    'Columns in the form that programs get: [{"name": …, "type": …}].';

revoke execute on function
    tinydevcrm._is_built_in(oid),
    tinydevcrm._print_text(text, oid),
    tinydevcrm._print_rows(regclass, text, boolean, integer),
    tinydevcrm._build_rows_statement(regclass, boolean, integer),
    tinydevcrm._print_base_type(oid),
    tinydevcrm._print_filter(text, text, text, text),
    tinydevcrm._build_page_statement(
        regclass, integer, text, boolean, jsonb, bigint, integer, boolean),
    tinydevcrm._describe_columns(text[], text[])
from public;

grant execute on function
    tinydevcrm._is_built_in(oid),
    tinydevcrm._print_text(text, oid),
    tinydevcrm._print_rows(regclass, text, boolean, integer),
    tinydevcrm._build_rows_statement(regclass, boolean, integer),
    tinydevcrm._print_base_type(oid),
    tinydevcrm._print_filter(text, text, text, text),
    tinydevcrm._build_page_statement(
        regclass, integer, text, boolean, jsonb, bigint, integer, boolean),
    tinydevcrm._describe_columns(text[], text[])
to tinydevcrm_user;
