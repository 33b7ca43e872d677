-- Which types the columns of an import have: while it is loaded, and in the end.

create function tinydevcrm._stored_as(
    "position"   integer,
    out type     text,
    out accepted integer
)
    returns record
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(max(type_name), 'text'),
           max(csv_types.position)
      from tinydevcrm.csv_types
     where csv_types.position = _stored_as.position
       and restores is not null
       and accepts is not null
$$;

comment on function tinydevcrm._stored_as(integer) is
    'What a column is stored as while its values all fit a place on the ladder: that type, when '
    'the text of its values can be restored; text otherwise, which accepts what comes.';

create function tinydevcrm._plan_columns(header text[], positions integer[], types jsonb)
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
                   -- No name is longer: the rest of a header makes none different.
                   'header', left(named.header, 100),
                   'type', coalesce(tinydevcrm._checked_type(given.type), stored.type),
                   'position', case when given.type is null then stored.accepted end,
                   'is_given', given.type is not null)
               order by named.number),
           (select min(key)
              from jsonb_object_keys(_plan_columns.types) as key
             where key <> all (_plan_columns.header)
               and key <> all (tinydevcrm._column_names(_plan_columns.header)))
      into v_columns, v_unknown
      from unnest(
               tinydevcrm._column_names(_plan_columns.header),
               _plan_columns.header,
               _plan_columns.positions) with ordinality as named (name, header, place, number)
     cross join lateral tinydevcrm._stored_as(named.place) as stored
     cross join lateral (
         -- By the name that the column has got; by the file's, where that is no other's.
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
    'Columns of an import, as in tinydevcrm.import_step: from the names in the file, the place on '
    'the ladder that fits each so far, and the types that were given by name. Raises TD007 for a '
    'type or a name that is not there.';

create function tinydevcrm._checked_type(type text)
    returns text
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_type regtype;
begin
    -- It goes into statements as it is, so it has to be the name of a type and nothing beside.
    if octet_length(_checked_type.type) <= 200 and _checked_type.type ~ '^[[:alnum:]_ "().,\[\]]+$' then
        begin
            v_type := to_regtype(_checked_type.type);
        exception
            when syntax_error or undefined_object or invalid_parameter_value then
                null;
        end;
    end if;

    if v_type is null then
        raise exception using
            errcode = 'TD007',
            message = format('there is no type %L', left(_checked_type.type, 200)),
            hint    = 'Write it as in create table: text, bigint, numeric(10,2), timestamptz. A '
                      'type of your own goes with its schema: public.mood.';
    end if;

    -- In the one spelling that the catalogs have; numeric(10,2) keeps what is in its parentheses.
    return case
        when strpos(_checked_type.type, '(') > 0 then _checked_type.type
        else v_type::text
    end;
end
$$;

comment on function tinydevcrm._checked_type(text) is
    'The name of a type as it was given, or TD007.';

create function tinydevcrm._comes_back(import tinydevcrm.imports, column_name text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set extra_float_digits = '1'
as $$
declare
    v_comes_back boolean;
begin
    execute format(
        'select coalesce(bool_and(%1$I::float8::text::numeric = %1$I::numeric), true) from %2$s',
        _comes_back.column_name, tinydevcrm._loading_table(import))
       into v_comes_back;
    return v_comes_back;
end
$$;

comment on function tinydevcrm._comes_back(tinydevcrm.imports, text) is
    'Whether a column of text with floating-point numbers has those that a double holds to the '
    'last digit. Two that differ in the 17th may be one double.';

revoke execute on function
    tinydevcrm._stored_as(integer),
    tinydevcrm._plan_columns(text[], integer[], jsonb),
    tinydevcrm._checked_type(text),
    tinydevcrm._comes_back(tinydevcrm.imports, text)
from public;

grant execute on function
    tinydevcrm._stored_as(integer),
    tinydevcrm._plan_columns(text[], integer[], jsonb),
    tinydevcrm._checked_type(text),
    tinydevcrm._comes_back(tinydevcrm.imports, text)
to tinydevcrm_user;
