-- The import for psql alone: \copy fills a staging table of text columns, import_staging() makes
-- the typed table of it, by the same rules and the same steps as a program's import.

create function tinydevcrm._accepts(column_name text, "position" integer)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when csv_types.accepts is null then 'true'
               else format(
                   '(octet_length(%1$I) <= %2$s and %1$I ~ %3$L)',
                   _accepts.column_name, csv_types.max_length, csv_types.accepts)
           end
      from tinydevcrm.csv_types
     where csv_types.position = _accepts.position
$$;

comment on function tinydevcrm._accepts(text, integer) is
    'Condition that a value of a column of text fits a place of tinydevcrm.csv_types.';

create function tinydevcrm._which_fit(source text, names text[], place integer)
    returns boolean[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_tests text;
    v_fits  boolean[];
begin
    select string_agg(
               format('bool_and(%s)', tinydevcrm._accepts(column_name, _which_fit.place))
               || format(' filter (where %I is not null)', column_name),
               ', ' order by number)
      into v_tests
      from unnest(_which_fit.names) with ordinality as columns (column_name, number);

    execute format('select array[%s] from %s', v_tests, _which_fit.source)
       into v_fits;

    return v_fits;
end
$$;

comment on function tinydevcrm._which_fit(text, text[], integer) is
    'Which columns of text have only values that one place of tinydevcrm.csv_types accepts; null '
    'for a column without values. source is a table or a subquery. One place at a time, because '
    'Postgres keeps no more than 32 regular expressions compiled.';

create function tinydevcrm._first_position(source text, names text[])
    returns integer[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_positions integer[] := array_fill(null::integer, array[cardinality(_first_position.names)]);
    v_open      integer[];
    v_fits      boolean[];
    v_place     integer;
begin
    for v_place in
        select csv_types.position
          from tinydevcrm.csv_types
         order by csv_types.position
    loop
        select array_agg(number order by number)
          into v_open
          from unnest(v_positions) with ordinality as chosen (place, number)
         where place is null;

        exit when v_open is null;

        v_fits := tinydevcrm._which_fit(
            _first_position.source,
            array(
                select _first_position.names[number]
                  from unnest(v_open) with ordinality as open (number, place)
                 order by place
            ),
            v_place);

        for v_index in 1 .. cardinality(v_open) loop
            if v_fits[v_index] then
                v_positions[v_open[v_index]] := v_place;
            end if;
        end loop;
    end loop;

    return v_positions;
end
$$;

comment on function tinydevcrm._first_position(text, text[]) is
    'For each column of text the first place of tinydevcrm.csv_types that accepts every value in '
    'it; null when it has none. source is a table or a subquery.';

create function tinydevcrm._wider_position(staging text, column_name text, believed integer)
    returns integer
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name    constant text[] := array[_wider_position.column_name];
    v_misfits text[];
    v_place   integer;
begin
    -- A few of the values that do not fit rule out most places.
    execute format(
        'select array(select %1$I from %2$s where not %3$s limit 100)',
        _wider_position.column_name,
        _wider_position.staging,
        tinydevcrm._accepts(_wider_position.column_name, _wider_position.believed))
       into v_misfits;

    for v_place in
        select csv_types.position
          from tinydevcrm.csv_types
         where csv_types.position > _wider_position.believed
         order by csv_types.position
    loop
        if (tinydevcrm._which_fit(
                format('unnest(%L::text[]) as misfits (%I)', v_misfits, v_name[1]),
                v_name,
                v_place))[1]
           and (tinydevcrm._which_fit(_wider_position.staging, v_name, v_place))[1]
        then
            return v_place;
        end if;
    end loop;
end
$$;

comment on function tinydevcrm._wider_position(text, text, integer) is
    'As _first_position(), for a column some of whose values do not fit the place believed so far.';

create function tinydevcrm._choose_positions(staging text, names text[])
    returns integer[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_positions integer[];
    v_believed  record;
    v_fits      boolean[];
    v_number    integer;
begin
    -- The first rows settle most columns, and then a pass over all of them confirms it.
    v_positions := tinydevcrm._first_position(
        format('(select * from %s limit 1000) as first_rows', _choose_positions.staging),
        _choose_positions.names);

    for v_believed in
        select place,
               array_agg(number order by number) as numbers,
               array_agg(_choose_positions.names[number] order by number) as names
          from unnest(v_positions) with ordinality as chosen (place, number)
         group by place
    loop
        v_fits := tinydevcrm._which_fit(
            _choose_positions.staging, v_believed.names, coalesce(v_believed.place, 1));

        for v_index in 1 .. cardinality(v_fits) loop
            v_number := v_believed.numbers[v_index];
            v_positions[v_number] := case
                when v_fits[v_index] then coalesce(v_believed.place, 1)
                when not v_fits[v_index] then
                    tinydevcrm._wider_position(
                        _choose_positions.staging,
                        _choose_positions.names[v_number],
                        coalesce(v_believed.place, 1))
            end;
        end loop;
    end loop;

    return v_positions;
end
$$;

comment on function tinydevcrm._choose_positions(text, text[]) is
    'As _first_position(), for a table that is too large to be read once for each place.';

create function tinydevcrm._check_staging(staging regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select
          from pg_class
         where oid = _check_staging.staging
           and relkind in ('r', 'p')
    ) then
        raise exception using
            errcode = 'TD007',
            message = format('%s is not a table', coalesce(_check_staging.staging::text, 'null')),
            hint    = 'Fill a table by \copy, or by create table … as.';
    end if;

    perform tinydevcrm._lock_own_table(_check_staging.staging::text, 'access share');
end
$$;

comment on function tinydevcrm._check_staging(regclass) is
    'Checks that a staging table can be read: a view may read what is not its owner''s. Raises TD007 '
    'when it is not a table, 42501 when it is not of the role as which the session has logged in.';

create function tinydevcrm.import_staging(
    staging       regclass,
    table_name    text,
    mode          text default 'create',
    key           text[] default null,
    types         jsonb default '{}',
    null_text     text default null,
    schema_name   name default current_schema(),
    distribute_by text default null
)
    returns tinydevcrm.imports
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_names     text[];
    v_has_other boolean;
    v_source    text := import_staging.staging::text;
    v_values    text;
    v_positions integer[];
    v_step      tinydevcrm.import_step;
    v_row_count bigint;
begin
    perform tinydevcrm._check_staging(import_staging.staging);

    select array_agg(attname::text order by attnum),
           bool_or(atttypid <> 'text'::regtype)
      into v_names, v_has_other
      from pg_attribute
     where attrelid = import_staging.staging
       and attnum > 0
       and not attisdropped;

    if v_has_other then
        raise exception using
            errcode = 'TD007',
            message = format(
                'staging table %s has columns that are not text', import_staging.staging),
            hint    = 'Make each column text; the import chooses the types.';
    end if;

    if import_staging.null_text is not null then
        select format(
                   '(select %s from %s) as staging',
                   string_agg(
                       format('nullif(%1$I, %2$L) as %1$I', name, import_staging.null_text),
                       ', ' order by number),
                   import_staging.staging)
          into v_source
          from unnest(v_names) with ordinality as name (name, number);
    end if;

    v_positions := tinydevcrm._choose_positions(v_source, v_names);
    v_step := tinydevcrm.begin_import(
        source        => import_staging.staging::text,
        header        => v_names,
        positions     => v_positions,
        table_name    => import_staging.table_name,
        mode          => import_staging.mode,
        key           => import_staging.key,
        types         => import_staging.types,
        schema_name   => import_staging.schema_name,
        distribute_by => import_staging.distribute_by);

    -- Without a type's modifiers, which a cast would apply by cutting off: the insert checks them.
    select string_agg(
               format(
                   '%I::%s',
                   v_names[planned.number],
                   tinydevcrm._base_type(to_regtype(planned.value->>'type'))),
               ', ' order by planned.number)
      into v_values
      from jsonb_array_elements(v_step.columns) with ordinality as planned (value, number);

    execute format(
        'insert into %s select %s from %s',
        tinydevcrm._loading_table(tinydevcrm._import_under_way(v_step.import_id)),
        v_values,
        v_source);
    get diagnostics v_row_count = row_count;

    return tinydevcrm.finish_import(v_step.import_id, v_positions, v_row_count);
end
$$;

comment on function tinydevcrm.import_staging(
    regclass, text, text, text[], jsonb, text, name, text
) is
    'Makes a typed table from a staging table of text columns that you filled by \copy: the import '
    'for psql alone. The staging table stays as it is. types overrides: {"column": "type"}; '
    'null_text is a text that means NULL; key belongs to mode upsert. Raises what begin_import() '
    'and finish_import() do, TD007 when a column is not text or it is no table, and 42501 when the '
    'session has not logged in as its owner.';

revoke execute on function
    tinydevcrm._accepts(text, integer),
    tinydevcrm._which_fit(text, text[], integer),
    tinydevcrm._first_position(text, text[]),
    tinydevcrm._wider_position(text, text, integer),
    tinydevcrm._choose_positions(text, text[]),
    tinydevcrm._check_staging(regclass),
    tinydevcrm.import_staging(regclass, text, text, text[], jsonb, text, name, text)
from public;

grant execute on function
    tinydevcrm._accepts(text, integer),
    tinydevcrm._which_fit(text, text[], integer),
    tinydevcrm._first_position(text, text[]),
    tinydevcrm._wider_position(text, text, integer),
    tinydevcrm._choose_positions(text, text[]),
    tinydevcrm._check_staging(regclass),
    tinydevcrm.import_staging(regclass, text, text, text[], jsonb, text, name, text)
to tinydevcrm_user;
