-- The import by psql: \copy fills a staging table of text columns, and import_staging() creates a
-- typed table from it, by the rules and steps of every import.

create function tinydevcrm._build_fit_condition(column_name text, rank integer)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when csv_types.accepts is null then 'true'
               else format(
                   '(octet_length(%1$I) <= %2$s and %1$I ~ %3$L)',
                   _build_fit_condition.column_name, csv_types.max_length, csv_types.accepts)
           end
      from tinydevcrm.csv_types
     where csv_types.rank = _build_fit_condition.rank
$$;

comment on function tinydevcrm._build_fit_condition(text, integer) is
    'The SQL condition that a value of this column of text fits this rank of tinydevcrm.csv_types.';

create function tinydevcrm._test_columns(source text, names text[], rank integer)
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
               format(
                   'bool_and(%s)',
                   tinydevcrm._build_fit_condition(column_name, _test_columns.rank))
               || format(' filter (where %I is not null)', column_name),
               ', ' order by number)
      into v_tests
      from unnest(_test_columns.names) with ordinality as columns (column_name, number);

    execute format('select array[%s] from %s', v_tests, _test_columns.source)
       into v_fits;

    return v_fits;
end
$$;

comment on function tinydevcrm._test_columns(text, text[], integer) is
    'For each column of text, whether one rank of tinydevcrm.csv_types accepts all its values; '
    'null for a column without values. source is a table or a subquery. It tests one rank at a '
    'time, because Postgres keeps at most 32 compiled regular expressions.';

create function tinydevcrm._find_first_ranks(source text, names text[])
    returns integer[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ranks integer[] := array_fill(null::integer, array[cardinality(_find_first_ranks.names)]);
    v_open  integer[];
    v_fits  boolean[];
    v_rank  integer;
begin
    for v_rank in
        select csv_types.rank
          from tinydevcrm.csv_types
         order by csv_types.rank
    loop
        select array_agg(number order by number)
          into v_open
          from unnest(v_ranks) with ordinality as chosen (rank, number)
         where rank is null;

        exit when v_open is null;

        v_fits := tinydevcrm._test_columns(
            _find_first_ranks.source,
            array(
                select _find_first_ranks.names[number]
                  from unnest(v_open) with ordinality as open (number, ordinal)
                 order by ordinal
            ),
            v_rank);

        for v_index in 1 .. cardinality(v_open) loop
            if v_fits[v_index] then
                v_ranks[v_open[v_index]] := v_rank;
            end if;
        end loop;
    end loop;

    return v_ranks;
end
$$;

comment on function tinydevcrm._find_first_ranks(text, text[]) is
    'For each column of text, the first rank of tinydevcrm.csv_types that accepts every value; '
    'null for a column without values. source is a table or a subquery.';

create function tinydevcrm._find_wider_rank(staging text, column_name text, believed integer)
    returns integer
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name    constant text[] := array[_find_wider_rank.column_name];
    v_unfit text[];
    v_rank    integer;
begin
    -- A few of the values that do not fit exclude most ranks.
    execute format(
        'select array(select %1$I from %2$s where not %3$s limit 100)',
        _find_wider_rank.column_name,
        _find_wider_rank.staging,
        tinydevcrm._build_fit_condition(_find_wider_rank.column_name, _find_wider_rank.believed))
       into v_unfit;

    for v_rank in
        select csv_types.rank
          from tinydevcrm.csv_types
         where csv_types.rank > _find_wider_rank.believed
         order by csv_types.rank
    loop
        if (tinydevcrm._test_columns(
                format('unnest(%L::text[]) as unfit (%I)', v_unfit, v_name[1]),
                v_name,
                v_rank))[1]
           and (tinydevcrm._test_columns(_find_wider_rank.staging, v_name, v_rank))[1]
        then
            return v_rank;
        end if;
    end loop;
end
$$;

comment on function tinydevcrm._find_wider_rank(text, text, integer) is
    'The first rank that accepts every value of a column, as _find_first_ranks(), when some do not '
    'fit the rank that its first rows suggest.';

create function tinydevcrm._choose_ranks(staging text, names text[])
    returns integer[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ranks    integer[];
    v_believed record;
    v_fits     boolean[];
    v_number   integer;
begin
    -- The first rows decide most columns. One pass over all rows confirms that.
    v_ranks := tinydevcrm._find_first_ranks(
        format('(select * from %s limit 1000) as first_rows', _choose_ranks.staging),
        _choose_ranks.names);

    for v_believed in
        select rank,
               array_agg(number order by number) as numbers,
               array_agg(_choose_ranks.names[number] order by number) as names
          from unnest(v_ranks) with ordinality as chosen (rank, number)
         group by rank
    loop
        v_fits := tinydevcrm._test_columns(
            _choose_ranks.staging, v_believed.names, coalesce(v_believed.rank, 1));

        for v_index in 1 .. cardinality(v_fits) loop
            v_number := v_believed.numbers[v_index];
            v_ranks[v_number] := case
                when v_fits[v_index] then coalesce(v_believed.rank, 1)
                when not v_fits[v_index] then
                    tinydevcrm._find_wider_rank(
                        _choose_ranks.staging,
                        _choose_ranks.names[v_number],
                        coalesce(v_believed.rank, 1))
            end;
        end loop;
    end loop;

    return v_ranks;
end
$$;

comment on function tinydevcrm._choose_ranks(text, text[]) is
    'The first rank for each column, as _find_first_ranks(), for a table too large to read once '
    'per rank.';

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
    'Checks that an import may read a staging table. It cannot be a view, which could read tables '
    'of others. Raises TD007 when it is not a table, 42501 when the session has not logged in as '
    'its owner.';

create function tinydevcrm.import_staging(
    staging       regclass,
    table_name    text,
    mode          text default 'create',
    key           text[] default null,
    types         jsonb default '{}',
    nulls         text[] default '{}',
    schema_name   name default current_schema(),
    distribute_by text default null,
    options       jsonb default '{}'
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
    v_ranks     integer[];
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

    if import_staging.nulls <> '{}' then
        select format(
                   '(select %s from %s) as staging',
                   string_agg(
                       format(
                           'case when %1$I <> all (%2$L::text[]) then %1$I end as %1$I',
                           name, import_staging.nulls),
                       ', ' order by number),
                   import_staging.staging)
          into v_source
          from unnest(v_names) with ordinality as name (name, number);
    end if;

    v_ranks := tinydevcrm._choose_ranks(v_source, v_names);
    v_step := tinydevcrm.begin_import(
        source        => import_staging.staging::text,
        header        => v_names,
        ranks         => v_ranks,
        table_name    => import_staging.table_name,
        mode          => import_staging.mode,
        key           => import_staging.key,
        types         => import_staging.types,
        schema_name   => import_staging.schema_name,
        distribute_by => import_staging.distribute_by,
        options       => import_staging.options);

    -- Without the modifiers of a type, by which a cast would cut values off. The insert checks
    -- them.
    select string_agg(
               format(
                   '%I::%s',
                   v_names[planned.number],
                   tinydevcrm._find_base_type(to_regtype(planned.value->>'type'))),
               ', ' order by planned.number)
      into v_values
      from jsonb_array_elements(v_step.columns) with ordinality as planned (value, number);

    execute format(
        'insert into %s select %s from %s',
        tinydevcrm._find_loading_table(tinydevcrm._lock_import(v_step.import_id)),
        v_values,
        v_source);
    get diagnostics v_row_count = row_count;

    if import_staging.options->>'bad' = 'reject' then
        perform tinydevcrm.record_import_problems(
                    v_step.import_id,
                    array_agg(bad.row_number),
                    array_agg(bad.reason),
                    array_agg(bad.row_text),
                    true),
                count(*)
           from tinydevcrm.reject_import_values(v_step.import_id) as bad
         having count(*) > 0;
        select v_row_count - imports.reject_count
          into v_row_count
          from tinydevcrm.imports
         where imports.id = v_step.import_id;
    end if;

    return tinydevcrm.finish_import(v_step.import_id, v_ranks, v_row_count);
end
$$;

comment on function tinydevcrm.import_staging(
    regclass, text, text, text[], jsonb, text[], name, text, jsonb
) is
    'Creates a typed table from a staging table of text columns that you filled by \copy: an '
    'import for psql alone. The staging table stays as it is. types overrides: {"column": "type"}; '
    'nulls are texts that mean NULL; key belongs to mode upsert; options are those of '
    'begin_import(). Raises the errors of '
    'begin_import() and finish_import(), TD007 when it is not a table or a column is not text, and '
    '42501 when the session has not logged in as its owner.';

revoke execute on function
    tinydevcrm._build_fit_condition(text, integer),
    tinydevcrm._test_columns(text, text[], integer),
    tinydevcrm._find_first_ranks(text, text[]),
    tinydevcrm._find_wider_rank(text, text, integer),
    tinydevcrm._choose_ranks(text, text[]),
    tinydevcrm._check_staging(regclass),
    tinydevcrm.import_staging(regclass, text, text, text[], jsonb, text[], name, text, jsonb)
from public;

grant execute on function
    tinydevcrm._build_fit_condition(text, integer),
    tinydevcrm._test_columns(text, text[], integer),
    tinydevcrm._find_first_ranks(text, text[]),
    tinydevcrm._find_wider_rank(text, text, integer),
    tinydevcrm._choose_ranks(text, text[]),
    tinydevcrm._check_staging(regclass),
    tinydevcrm.import_staging(regclass, text, text, text[], jsonb, text[], name, text, jsonb)
to tinydevcrm_user;
