-- The import by psql: \copy fills a staging table of text columns, and import_staging() creates a
-- typed table from it, by the rules and steps of every import.

create function tinydevcrm._refuse_staging_row()
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'data_exception',
        message = 'a row of the staging table does not fit the types that were chosen',
        hint    = 'Was the table changed meanwhile? Import it again.';
end
$$;

comment on function tinydevcrm._refuse_staging_row() is
    'Ends the insert that meets a row whose values do not fit: raises 22000.';

create function tinydevcrm._load_staging(
    step   tinydevcrm.import_step,
    source text,
    names  text[],
    ranks  integer[]
)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO, YMD'
as $$
declare
    v_casts     text;
    v_values    text;
    v_checks    text;
    v_row_count bigint;
begin
    -- Without the modifiers of a type, by which a cast would cut values off. The insert checks
    -- them.
    select string_agg(format('%1$I as %2$s_text, %1$I::%3$s as %2$s', name, value, type), ', '),
           string_agg(value, ', ' order by number),
           string_agg(fit.condition, ' and ')
      into v_casts, v_values, v_checks
      from (
        select planned.number,
               'column_' || planned.number as value,
               _load_staging.names[planned.number] as name,
               tinydevcrm._find_base_type(to_regtype(planned.value->>'type')) as type,
               _load_staging.ranks[planned.number] as rank
          from jsonb_array_elements((step).columns) with ordinality as planned (value, number)
      ) as stored
      left join tinydevcrm.csv_types
     using (rank)
      left join lateral tinydevcrm._build_check(
         stored.value || '_text',
         case
             when stored.type = csv_types.type_name then stored.value
             else format('(%s_text)::%s', stored.value, csv_types.type_name)
         end,
         stored.rank) as fit (condition)
        on fit.condition is not null;

    -- "offset 0" casts each value once, for the check and for the table.
    execute format(
        'insert into %s select %s from (select %s from %s offset 0) as cast_rows where %s',
        tinydevcrm._find_loading_table(tinydevcrm._lock_import((step).import_id)),
        v_values,
        v_casts,
        _load_staging.source,
        coalesce('(' || v_checks || ') is true or tinydevcrm._refuse_staging_row()', 'true'));
    get diagnostics v_row_count = row_count;

    return v_row_count;
end
$$;

comment on function tinydevcrm._load_staging(tinydevcrm.import_step, text, text[], integer[]) is
    'Fills the table of an import from a staging table, or from a subquery, and returns the number '
    'of rows. names and ranks are those of its columns. Raises a data_exception (class 22) when a '
    'value does not fit its rank.';

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
    options       jsonb default '{}',
    dialect       tinydevcrm.csv_dialect default null
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
    v_is_sample boolean := true;
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

    -- The first rows decide the types of most tables, and then one pass over all rows is enough.
    v_ranks := tinydevcrm._find_first_ranks(
        format('(select * from %s limit 1000) as first_rows', v_source), v_names);
    loop
        begin
            v_step := tinydevcrm.begin_import(
                source        => import_staging.staging::text,
                header        => v_names,
                ranks         => v_ranks,
                table_name    => import_staging.table_name,
                mode          => import_staging.mode,
                key           => import_staging.key,
                types         => import_staging.types,
                dialect       => import_staging.dialect,
                schema_name   => import_staging.schema_name,
                distribute_by => import_staging.distribute_by,
                options       => import_staging.options);
            v_row_count := tinydevcrm._load_staging(v_step, v_source, v_names, v_ranks);
            exit;
        exception
            when data_exception then
                if not v_is_sample then
                    raise;
                end if;
                v_is_sample := false;
                v_ranks := tinydevcrm._choose_ranks(v_source, v_names);
        end;
    end loop;

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
    regclass, text, text, text[], jsonb, text[], name, text, jsonb, tinydevcrm.csv_dialect
) is
    'Creates a typed table from a staging table of text columns that you filled by \copy: an '
    'import for psql alone. The staging table stays as it is. types overrides: {"column": "type"}; '
    'nulls are texts that mean NULL; key belongs to mode upsert; options are those of '
    'begin_import(); dialect is how the file was written, for the log. Raises the errors of '
    'begin_import() and finish_import(), TD007 when it is not a table or a column is not text, and '
    '42501 when the session has not logged in as its owner.';

revoke execute on function
    tinydevcrm._refuse_staging_row(),
    tinydevcrm._load_staging(tinydevcrm.import_step, text, text[], integer[]),
    tinydevcrm._check_staging(regclass),
    tinydevcrm.import_staging(
        regclass, text, text, text[], jsonb, text[], name, text, jsonb, tinydevcrm.csv_dialect)
from public;

grant execute on function
    tinydevcrm._refuse_staging_row(),
    tinydevcrm._load_staging(tinydevcrm.import_step, text, text[], integer[]),
    tinydevcrm._check_staging(regclass),
    tinydevcrm.import_staging(
        regclass, text, text, text[], jsonb, text[], name, text, jsonb, tinydevcrm.csv_dialect)
to tinydevcrm_user;
