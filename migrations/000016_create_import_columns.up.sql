-- The types of the columns of an import: while rows are loaded, and at the end.

create function tinydevcrm._find_storage_type(
    rank         integer,
    out type     text,
    out accepted integer
)
    returns record
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(max(type_name), 'text'),
           max(csv_types.rank)
      from tinydevcrm.csv_types
     where csv_types.rank = _find_storage_type.rank
       and restores is not null
       and accepts is not null
$$;

comment on function tinydevcrm._find_storage_type(integer) is
    'The type that stores a column whose values so far all fit a rank of the ladder. It is the '
    'type of that rank when the text of its values can be restored, else text. accepted is the '
    'rank whose values fit that type; null when every value fits.';

create function tinydevcrm._check_type(type text)
    returns text
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_type regtype;
begin
    -- The text goes into statements as it is, so it must be the name of a type and nothing else.
    if octet_length(_check_type.type) <= 200 and _check_type.type ~ '^[[:alnum:]_ "().,\[\]]+$' then
        begin
            v_type := to_regtype(_check_type.type);
        exception
            when syntax_error or undefined_object or invalid_parameter_value then
                null;
        end;
    end if;

    if v_type is null then
        raise exception using
            errcode = 'TD007',
            message = format('there is no type %L', left(_check_type.type, 200)),
            hint    = 'Write it as in create table: text, bigint, numeric(10,2), timestamptz. '
                      'Write a type of your own with its schema: public.mood.';
    end if;

    -- The spelling of the catalogs; numeric(10,2) keeps what is in its parentheses.
    return case
        when strpos(_check_type.type, '(') > 0 then _check_type.type
        else v_type::text
    end;
end
$$;

comment on function tinydevcrm._check_type(text) is
    'Checks the name of a type and returns it. Raises TD007 when there is no such type.';

create function tinydevcrm._plan_columns(header text[], ranks integer[], types jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_unknown text;
    v_columns jsonb;
begin
    select jsonb_agg(
               jsonb_build_object(
                   'name', named.name,
                   -- No name is longer, so the rest of a header makes no difference.
                   'header', left(named.header, 100),
                   'type', coalesce(tinydevcrm._check_type(given.type), stored.type),
                   'rank', case when given.type is null then stored.accepted end,
                   'is_given', given.type is not null)
               order by named.number),
           (select min(key)
              from jsonb_object_keys(_plan_columns.types) as key
             where key <> all (_plan_columns.header)
               and key <> all (tinydevcrm._make_column_names(_plan_columns.header)))
      into v_columns, v_unknown
      from unnest(
               tinydevcrm._make_column_names(_plan_columns.header),
               _plan_columns.header,
               _plan_columns.ranks) with ordinality as named (name, header, rank, number)
     cross join lateral tinydevcrm._find_storage_type(named.rank) as stored
     cross join lateral (
         -- By the name of the column, or by the name in the file if no other column has that name.
         select coalesce(
                    _plan_columns.types->>named.name,
                    case cardinality(array_positions(_plan_columns.header, named.header))
                        when 1 then _plan_columns.types->>named.header
                    end) as type
     ) as given
     where named.name is not null;

    if v_unknown is not null then
        raise exception using
            errcode = 'TD007',
            message = format('there is no column %L to give a type to', left(v_unknown, 200)),
            hint    = format(
                'The columns are %s.',
                left(array_to_string(_plan_columns.header, ', '), 2000));
    end if;

    return v_columns;
end
$$;

comment on function tinydevcrm._plan_columns(text[], integer[], jsonb) is
    'The columns of an import, as in tinydevcrm.import_step. They come from the names in the file, '
    'the rank of the ladder that fits each column so far, and the types that were given by name. '
    'Raises TD007 when there is no such type or no column of that name.';

create function tinydevcrm._fits_double(import tinydevcrm.imports, column_name text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set extra_float_digits = '1'
as $$
declare
    v_fits boolean;
begin
    execute format(
        'select coalesce(bool_and(%1$I::float8::text::numeric = %1$I::numeric), true) from %2$s',
        _fits_double.column_name, tinydevcrm._find_loading_table(import))
       into v_fits;
    return v_fits;
end
$$;

comment on function tinydevcrm._fits_double(tinydevcrm.imports, text) is
    'Whether double precision holds each number of a column of text exactly, to its last digit. '
    'Two numbers that differ only in the 17th digit can be the same double.';

create function tinydevcrm._settle_columns(import tinydevcrm.imports, ranks integer[])
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_agg(
               planned.value || jsonb_build_object(
                   'type',
                   case
                       when (planned.value->>'is_given')::boolean then planned.value->>'type'
                       when csv_types.type_name = 'double precision'
                            and not tinydevcrm._fits_double(import, planned.value->>'name')
                       then 'text'
                       else coalesce(csv_types.type_name, 'text')
                   end)
               order by planned.number)
      from jsonb_array_elements((import).columns) with ordinality as planned (value, number)
      left join tinydevcrm.csv_types
        on csv_types.rank = _settle_columns.ranks[planned.number]
$$;

comment on function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]) is
    'The columns of an import with the types that were given, or else the types that fit every '
    'value so far.';

create function tinydevcrm._read_table_columns(import tinydevcrm.imports, columns jsonb)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_agg(
               jsonb_build_object(
                   'name', planned.name,
                   'type', coalesce(format_type(atttypid, atttypmod), planned.type),
                   'header', planned.header)
               order by planned.number)
      from rows from (
               jsonb_to_recordset(_read_table_columns.columns)
                   as (name text, type text, header text)
           ) with ordinality as planned (name, type, header, number)
      left join pg_attribute
        on attrelid = to_regclass(tinydevcrm._target(import))
       and attname::text = planned.name
       and attnum > 0
$$;

comment on function tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb) is
    'The columns of an import with the types of its table. A column that the table lacks keeps its '
    'own type.';

revoke execute on function
    tinydevcrm._find_storage_type(integer),
    tinydevcrm._check_type(text),
    tinydevcrm._plan_columns(text[], integer[], jsonb),
    tinydevcrm._fits_double(tinydevcrm.imports, text),
    tinydevcrm._settle_columns(tinydevcrm.imports, integer[]),
    tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb)
from public;

grant execute on function
    tinydevcrm._find_storage_type(integer),
    tinydevcrm._check_type(text),
    tinydevcrm._plan_columns(text[], integer[], jsonb),
    tinydevcrm._fits_double(tinydevcrm.imports, text),
    tinydevcrm._settle_columns(tinydevcrm.imports, integer[]),
    tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb)
to tinydevcrm_user;
