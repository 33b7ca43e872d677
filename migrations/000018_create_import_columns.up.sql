-- The types of the columns of an import while rows are loaded, and how values are read at the end.

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
                      'Write a type of your own with its schema: public.mood. Or name a form of '
                      'tinydevcrm.csv_forms, such as date D/M/Y.';
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

create function tinydevcrm._find_form(type text)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select csv_forms.name
      from tinydevcrm.csv_forms
     where lower(csv_forms.name) = lower(btrim(_find_form.type))
$$;

comment on function tinydevcrm._find_form(text) is
    'The form of tinydevcrm.csv_forms that a given type names; null when it names none.';

create function tinydevcrm._is_read_at_end(type text)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select _is_read_at_end.type = any (array[
               'smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision'])
           or _is_read_at_end.type ~ '^(date|time|timestamp)( |\(|$)'
$$;

comment on function tinydevcrm._is_read_at_end(text) is
    'Whether the values of a column of this given type can have a form, which is known at the end '
    'of the file. The COPY does not read them, because it would follow the DateStyle of the session.';

create function tinydevcrm._plan_columns(
    header        text[],
    ranks         integer[],
    types         jsonb,
    defers_errors boolean
)
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
                   'type', case
                               when later.form is not null then 'text'
                               when given.type is null or later.is_later then stored.type
                               else later.type
                           end,
                   'rank', case
                               when later.form is null and (given.type is null or later.is_later)
                               then stored.accepted
                           end,
                   'is_given', given.type is not null)
               || case
                   when later.is_later then
                       jsonb_build_object('given', later.type, 'form', later.form)
                   else '{}'
               end
               order by named.number),
           (select min(key)
              from jsonb_object_keys(_plan_columns.types) as key
             where key <> '*'
               and key <> all (_plan_columns.header)
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
                    end,
                    _plan_columns.types->>'*') as type
     ) as given
     cross join lateral tinydevcrm._find_form(given.type) as form (name)
     cross join lateral (
         select coalesce(
                    (
                        select csv_forms.type_name
                          from tinydevcrm.csv_forms
                         where csv_forms.name = form.name
                    ),
                    tinydevcrm._check_type(given.type)) as type
     ) as checked
     cross join lateral (
         select form.name as form,
                checked.type as type,
                form.name is not null
                or tinydevcrm._is_read_at_end(checked.type)
                or _plan_columns.defers_errors as is_later
     ) as later
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

comment on function tinydevcrm._plan_columns(text[], integer[], jsonb, boolean) is
    'The columns of an import, as in tinydevcrm.import_step. They come from the names in the file, '
    'the rank of the ladder that fits each column so far, and the types that were given by name, or '
    'as * for all others. '
    'When it defers_errors, the COPY takes every value of a column of a given type. Raises TD007 when '
    'there is no such type or no column of that name.';

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

create function tinydevcrm._list_readings(source text, column_name text, forms text[])
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_form     text;
    v_same     boolean;
    v_readings text[] := _list_readings.forms[1:1];
begin
    foreach v_form in array _list_readings.forms[2:] loop
        execute (
            select format(
                       'select %s',
                       string_agg(
                           format(
                               'not exists (select from %s where (%s)::text is distinct from '
                               '(%s)::text)',
                               _list_readings.source,
                               format(form.reads, quote_ident(_list_readings.column_name)),
                               format(other.reads, quote_ident(_list_readings.column_name))),
                           ' or '))
              from tinydevcrm.csv_forms as form
              join tinydevcrm.csv_forms as other
                on other.name = any (v_readings)
             where form.name = v_form
        )
           into v_same;
        if not v_same then
            v_readings := v_readings || v_form;
        end if;
    end loop;

    return v_readings;
end
$$;

comment on function tinydevcrm._list_readings(text, text, text[]) is
    'Of the forms that accept all values of a column, those that read different values from it: the '
    'first of each reading. source is a table or a subquery.';

create function tinydevcrm._recall_form(import tinydevcrm.imports, column_name text, forms text[])
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select earlier.form
      from (
        select planned.value->>'form' as form
          from tinydevcrm.imports
         cross join jsonb_array_elements(imports.columns) as planned
         where imports.relation = to_regclass(tinydevcrm._target(import))
           and planned.value->>'name' = _recall_form.column_name
         order by imports.id desc
         limit 1
      ) as earlier
     where earlier.form = any (_recall_form.forms)
$$;

comment on function tinydevcrm._recall_form(tinydevcrm.imports, text, text[]) is
    'The form by which the last import into the table has read a column, if it is one of these.';

create function tinydevcrm._find_best_form(
    import      tinydevcrm.imports,
    column_name text,
    types       text[]
)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_way   record;
    v_count bigint;
    v_most  bigint := -1;
    v_best  text;
begin
    for v_way in
        select accepts
          from tinydevcrm.csv_forms
         where type_name = any (_find_best_form.types)
        union all
        select accepts
          from tinydevcrm.csv_types
         where type_name = any (_find_best_form.types)
    loop
        execute format(
            'select count(*) filter (where %I ~ %L) from %s',
            _find_best_form.column_name, v_way.accepts, tinydevcrm._find_loading_table(import))
           into v_count;
        if v_count > v_most then
            v_most := v_count;
            v_best := v_way.accepts;
        end if;
    end loop;

    return v_best;
end
$$;

comment on function tinydevcrm._find_best_form(tinydevcrm.imports, text, text[]) is
    'The expression of the way of writing that most values of a column of text have.';

create function tinydevcrm._build_reading(settled jsonb)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               '(%s)::%s',
               coalesce(
                   (
                       select format(csv_forms.reads, written.value)
                         from tinydevcrm.csv_forms
                        where csv_forms.name = _build_reading.settled->>'form'
                   ),
                   written.value),
               _build_reading.settled->>'type')
      from (
        select coalesce(
                   (
                       select format(
                                  csv_types.restores, quote_ident(_build_reading.settled->>'name'))
                         from tinydevcrm.csv_types
                        where csv_types.rank = (_build_reading.settled->>'rank')::integer
                   ),
                   quote_ident(_build_reading.settled->>'name')) as value
      ) as written
$$;

comment on function tinydevcrm._build_reading(jsonb) is
    'SQL expression of the value of a column, read from what is stored while an import is running.';

create function tinydevcrm._read_table_columns(import tinydevcrm.imports, columns jsonb)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_agg(
               jsonb_strip_nulls(
                   jsonb_build_object(
                       'name', planned.name,
                       'type', coalesce(format_type(atttypid, atttypmod), planned.type),
                       'header', planned.header,
                       'form', planned.form))
               order by planned.number)
      from rows from (
               jsonb_to_recordset(_read_table_columns.columns)
                   as (name text, type text, header text, form text)
           ) with ordinality as planned (name, type, header, form, number)
      left join pg_attribute
        on attrelid = to_regclass(tinydevcrm._target(import))
       and attname::text = planned.name
       and attnum > 0
$$;

comment on function tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb) is
    'The columns of an import with the types of its table. A column that the table lacks keeps its '
    'own type.';

revoke execute on function
    tinydevcrm._find_form(text),
    tinydevcrm._is_read_at_end(text),
    tinydevcrm._find_best_form(tinydevcrm.imports, text, text[]),
    tinydevcrm._list_readings(text, text, text[]),
    tinydevcrm._recall_form(tinydevcrm.imports, text, text[]),
    tinydevcrm._build_reading(jsonb),
    tinydevcrm._find_storage_type(integer),
    tinydevcrm._check_type(text),
    tinydevcrm._plan_columns(text[], integer[], jsonb, boolean),
    tinydevcrm._fits_double(tinydevcrm.imports, text),
    tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb)
from public;

grant execute on function
    tinydevcrm._find_form(text),
    tinydevcrm._is_read_at_end(text),
    tinydevcrm._find_best_form(tinydevcrm.imports, text, text[]),
    tinydevcrm._list_readings(text, text, text[]),
    tinydevcrm._recall_form(tinydevcrm.imports, text, text[]),
    tinydevcrm._build_reading(jsonb),
    tinydevcrm._find_storage_type(integer),
    tinydevcrm._check_type(text),
    tinydevcrm._plan_columns(text[], integer[], jsonb, boolean),
    tinydevcrm._fits_double(tinydevcrm.imports, text),
    tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb)
to tinydevcrm_user;
