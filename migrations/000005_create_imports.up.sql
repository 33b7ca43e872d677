-- A CSV becomes a table. The way through Go: begin_import() makes a staging table of text columns
-- and the COPY that fills it, finish_import() makes the typed table, all in one transaction. The
-- way through psql: \copy into a staging table of your own, then import_staging().

create table tinydevcrm.imports (
    id          bigint generated always as identity,
    owner       regrole not null default quote_ident(current_user)::regrole,
    source      text not null,
    mode        text not null,
    schema_name name not null,
    table_name  name not null,
    columns     jsonb,
    row_count   bigint,
    byte_count  bigint,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,

    constraint imports_pkey primary key (id),
    constraint imports_mode_known check (mode in ('create', 'replace', 'append')),
    constraint imports_row_count_not_negative check (row_count >= 0),
    constraint imports_byte_count_not_negative check (byte_count >= 0)
);

comment on table tinydevcrm.imports is
    'Log of the imports that succeeded: one row each, written by the import''s own transaction.';
comment on column tinydevcrm.imports.id is
    'Number of the import.';
comment on column tinydevcrm.imports.owner is
    'Role that ran the import and owns the table it made.';
comment on column tinydevcrm.imports.source is
    'Where the rows came from: a file''s name, or the staging table''s.';
comment on column tinydevcrm.imports.mode is
    'create: a new table; replace: new rows instead of the old; append: new rows beside the old.';
comment on column tinydevcrm.imports.schema_name is
    'Schema of the table.';
comment on column tinydevcrm.imports.table_name is
    'Name of the table.';
comment on column tinydevcrm.imports.columns is
    'Columns in the file''s order: [{"name": …, "type": …, "header": what the file called it}].';
comment on column tinydevcrm.imports.row_count is
    'Rows loaded.';
comment on column tinydevcrm.imports.byte_count is
    'Bytes read, as counted by the program that sent them; null when psql did.';
comment on column tinydevcrm.imports.started_at is
    'When the import began.';
comment on column tinydevcrm.imports.finished_at is
    'When the table was complete, just before the commit.';

create index imports_owner_idx on tinydevcrm.imports (owner, id);

alter table tinydevcrm.imports enable row level security;

create policy imports_owner on tinydevcrm.imports
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select, insert, update on tinydevcrm.imports to tinydevcrm_user;


create function tinydevcrm._choose_types(staging regclass)
    returns table (name text, type_name text)
    language plpgsql
    volatile
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_names     text[];
    v_positions integer[];
    v_last      integer;
    v_source    text;
    v_tests     text;
    v_fits      boolean[];
begin
    select array_agg(attname::text order by attnum),
           array_agg(1 order by attnum)
      into v_names, v_positions
      from pg_attribute
     where attrelid = _choose_types.staging
       and attnum > 0
       and not attisdropped;

    select max(position)
      into v_last
      from tinydevcrm.csv_types;

    -- The first rows settle most columns, and then one pass over all of them confirms it.
    foreach v_source in array array[
        format('(select * from %s limit 1000) as first_rows', _choose_types.staging),
        _choose_types.staging::text
    ] loop
        v_fits := null;

        -- Each pass moves the columns that do not fit up by one type, until none is left; those that
        -- are known to fit are not looked at again.
        while v_fits is null or false = any (v_fits) loop
            select string_agg(
                       case
                           when v_fits[column_place.number] or column_place.position = v_last then
                               'true'
                           else
                               format(
                                   'bool_and(octet_length(%1$I) <= %2$s and %1$I ~ %3$L)',
                                   column_place.name, csv_types.max_length, csv_types.accepts)
                       end,
                       ', ' order by column_place.number)
              into v_tests
              from unnest(v_names, v_positions)
                       with ordinality as column_place (name, position, number)
              join tinydevcrm.csv_types
                on csv_types.position = column_place.position;

            -- The count makes it one row even when no column is left to test.
            execute format('select array[%s] from %s having count(*) >= 0', v_tests, v_source)
               into v_fits;

            select array_agg(
                       case
                           when fits.fits then column_place.position
                           when not fits.fits then column_place.position + 1
                           -- Not one value to go by. In the first rows that says nothing yet.
                           when v_source = _choose_types.staging::text then v_last
                           else column_place.position
                       end
                       order by column_place.number)
              into v_positions
              from unnest(v_positions) with ordinality as column_place (position, number)
              join unnest(v_fits) with ordinality as fits (fits, number)
             using (number);
        end loop;
    end loop;

    return query
        select column_place.name,
               csv_types.type_name
          from unnest(v_names, v_positions)
                   with ordinality as column_place (name, position, number)
          join tinydevcrm.csv_types
            on csv_types.position = column_place.position
         order by column_place.number;
end
$$;

comment on function tinydevcrm._choose_types(regclass) is
    'Columns of a staging table of text columns, in order, each with the narrowest type of '
    'tinydevcrm.csv_types that accepts every value in it; text when it has none.';

create function tinydevcrm._make_room(import tinydevcrm.imports, columns jsonb)
    returns boolean
    language plpgsql
    volatile
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target       text := format('%I.%I', (import).schema_name, (import).table_name);
    v_relation     regclass := to_regclass(v_target);
    v_missing      text[];
    v_extra        text[];
    v_differs      boolean;
begin
    if v_relation is null then
        return true;
    end if;

    if (import).mode = 'create' then
        raise exception using
            errcode = 'TD004',
            message = format('table %s is there already', v_target),
            hint    = 'Import under another name, or in mode replace or append.';
    end if;

    with wanted as (
        select wanted.name,
               wanted.type
          from jsonb_to_recordset(_make_room.columns) as wanted (name text, type text)
    ),
    existing as (
        select attname::text as name,
               format_type(atttypid, atttypmod) as type
          from pg_attribute
         where attrelid = v_relation
           and attnum > 0
           and not attisdropped
    )
    select array_agg(existing.name) filter (where wanted.name is null),
           array_agg(wanted.name) filter (where existing.name is null),
           bool_or(wanted.type is distinct from existing.type)
      into v_missing, v_extra, v_differs
      from wanted
      full join existing
     using (name);

    if (import).mode = 'replace' then
        if v_differs then
            execute format('drop table %s', v_target);
            return true;
        end if;

        execute format('truncate %s', v_target);
        return false;
    end if;

    if v_missing is not null or v_extra is not null then
        raise exception using
            errcode = 'TD006',
            message = format('the columns differ from those of table %s', v_target),
            detail  = format(
                'Only in the table: %s. Only in the file: %s.',
                coalesce(array_to_string(v_missing, ', '), 'none'),
                coalesce(array_to_string(v_extra, ', '), 'none')),
            hint    = 'Give both the same columns, or import in mode replace.';
    end if;

    return false;
end
$$;

comment on function tinydevcrm._make_room(tinydevcrm.imports, jsonb) is
    'Prepares the place an import goes to and tells whether its table has to be made. Mode '
    'replace empties a table of the same columns, so that views on it stay, and drops one of '
    'other columns, which Postgres refuses (2BP01) while a view depends on it. Raises TD004 when '
    'mode create finds the name in use, TD006 when mode append finds other columns.';

create function tinydevcrm._load_staging(import tinydevcrm.imports, staging regclass, header text[])
    returns tinydevcrm.imports
    language plpgsql
    volatile
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target    text := format('%I.%I', (import).schema_name, (import).table_name);
    v_columns   jsonb;
    v_names     text;
    v_values    text;
    v_row_count bigint;
    v_import    tinydevcrm.imports;
begin
    select jsonb_agg(
               jsonb_build_object(
                   'name', chosen.name,
                   'type', chosen.type_name,
                   'header', _load_staging.header[chosen.number])
               order by chosen.number)
      into v_columns
      from tinydevcrm._choose_types(_load_staging.staging)
               with ordinality as chosen (name, type_name, number);

    if tinydevcrm._make_room(import, v_columns) then
        select string_agg(format('%I %s', wanted.name, wanted.type), ', ' order by wanted.number)
          into v_names
          from rows from (
                   jsonb_to_recordset(v_columns) as (name text, type text)
               ) with ordinality as wanted (name, type, number);

        begin
            execute format('create table %s (%s)', v_target, v_names);
        exception
            -- Somebody else's import of that name committed a moment ago.
            when duplicate_table or unique_violation then
                raise exception using
                    errcode = 'TD004',
                    message = format('table %s is there already', v_target),
                    hint    = 'Import under another name, or in mode replace or append.';
        end;
    end if;

    select string_agg(format('%I', attname), ', ' order by attnum),
           string_agg(
               format('%I::%s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
      into v_names, v_values
      from pg_attribute
     where attrelid = v_target::regclass
       and attnum > 0
       and not attisdropped;

    execute format(
        'insert into %s (%s) select %s from %s',
        v_target, v_names, v_values, _load_staging.staging);
    get diagnostics v_row_count = row_count;

    -- The planner has never seen these rows, and the first question may follow at once.
    execute format('analyze %s', v_target);

    update tinydevcrm.imports
       set columns = v_columns,
           row_count = v_row_count,
           finished_at = clock_timestamp()
     where imports.id = (import).id
    returning imports.*
         into v_import;

    return v_import;
end
$$;

comment on function tinydevcrm._load_staging(tinydevcrm.imports, regclass, text[]) is
    'Makes the typed table of an import from its staging table and completes the import''s row.';

create function tinydevcrm.begin_import(
    source      text,
    sample      bytea,
    table_name  text default null,
    mode        text default 'create',
    schema_name name default current_schema(),
    out import_id      bigint,
    out copy_statement text
)
    returns record
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_dialect tinydevcrm.csv_dialect := tinydevcrm.sniff_csv(begin_import.sample);
    v_staging text;
    v_columns text;
begin
    insert into tinydevcrm.imports (source, mode, schema_name, table_name)
    select begin_import.source,
           begin_import.mode,
           checked.schema_name,
           checked.table_name
      from tinydevcrm._check_target(
               begin_import.schema_name,
               coalesce(
                   nullif(begin_import.table_name, ''),
                   tinydevcrm._table_name(begin_import.source)),
               begin_import.mode) as checked
    returning imports.id
         into begin_import.import_id;

    v_staging := format('_import_%s', begin_import.import_id);

    select string_agg(format('%I text', names.name), ', ' order by names.number)
      into v_columns
      from unnest(tinydevcrm._column_names(v_dialect.header))
               with ordinality as names (name, number);

    execute format('create temporary table %I (%s) on commit drop', v_staging, v_columns);
    execute format('comment on table pg_temp.%I is %L', v_staging, to_json(v_dialect.header));

    begin_import.copy_statement := format(
        'copy pg_temp.%I from stdin with (format csv, header, delimiter %L, quote %L, encoding %L)',
        v_staging, v_dialect.delimiter, v_dialect.quote, v_dialect.encoding);
end
$$;

comment on function tinydevcrm.begin_import(text, bytea, text, text, name) is
    'Begins an import: give the file''s name and its first bytes (256 kB are plenty), run the '
    'returned COPY in the same transaction, then finish_import(). The table''s name comes from '
    'the file''s when none is given; the schema is the first of your search_path. Modes: see '
    'tinydevcrm.imports. Raises TD004 when mode create finds the name in use, TD005 when the '
    'sample is empty or not text, TD007 when there is no schema to put the table in or no such '
    'mode.';

create function tinydevcrm.finish_import(import_id bigint, byte_count bigint default null)
    returns tinydevcrm.imports
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_staging regclass := to_regclass(format('pg_temp._import_%s', finish_import.import_id));
    v_import  tinydevcrm.imports;
begin
    update tinydevcrm.imports
       set byte_count = finish_import.byte_count
     where imports.id = finish_import.import_id
    returning imports.*
         into v_import;

    if v_import.id is null or v_staging is null then
        raise exception using
            errcode = 'TD001',
            message = format('import %s is not under way', finish_import.import_id),
            hint    = 'Call tinydevcrm.begin_import() and run its COPY in this transaction first.';
    end if;

    return tinydevcrm._load_staging(
        v_import,
        v_staging,
        array(
            select json_array_elements_text(obj_description(v_staging, 'pg_class')::json)
        ));
end
$$;

comment on function tinydevcrm.finish_import(bigint, bigint) is
    'Finishes an import that begin_import() began in this transaction: chooses types from every '
    'value, makes the table and returns the import''s row. Raises TD001 when there is no such '
    'import under way, and what _make_room() raises.';

create function tinydevcrm.import_staging(
    staging     regclass,
    table_name  text,
    mode        text default 'create',
    schema_name name default current_schema()
)
    returns tinydevcrm.imports
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import tinydevcrm.imports;
    v_header text[];
begin
    select array_agg(attname::text order by attnum)
      into v_header
      from pg_attribute
     where attrelid = import_staging.staging
       and attnum > 0
       and not attisdropped;

    if exists (
        select
          from pg_attribute
         where attrelid = import_staging.staging
           and attnum > 0
           and not attisdropped
           and atttypid <> 'text'::regtype
    ) then
        raise exception using
            errcode = 'TD007',
            message = format(
                'staging table %s has columns that are not text', import_staging.staging),
            hint    = 'Make each column text; the import chooses the types.';
    end if;

    insert into tinydevcrm.imports (source, mode, schema_name, table_name)
    select import_staging.staging::text,
           import_staging.mode,
           checked.schema_name,
           checked.table_name
      from tinydevcrm._check_target(
               import_staging.schema_name,
               import_staging.table_name,
               import_staging.mode) as checked
    returning imports.*
         into v_import;

    return tinydevcrm._load_staging(v_import, import_staging.staging, v_header);
end
$$;

comment on function tinydevcrm.import_staging(regclass, text, text, name) is
    'Makes a typed table from a staging table of text columns that you filled by \copy: the import '
    'for psql alone. The staging table stays as it is. Raises TD004 and TD006 as begin_import() '
    'and finish_import() do, TD007 when a column is not text.';

create function tinydevcrm._check_target(
    inout schema_name name,
    inout table_name  text,
    mode              text
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._check_schema(_check_target.schema_name);

    if _check_target.mode is null or _check_target.mode not in ('create', 'replace', 'append') then
        raise exception using
            errcode = 'TD007',
            message = format('there is no import mode %L', _check_target.mode),
            hint    = 'The modes are create, replace and append.';
    end if;

    if coalesce(octet_length(_check_target.table_name), 0) not between 1 and 63 then
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be the name of a table', _check_target.table_name),
            hint    = 'A name has 1 to 63 bytes.';
    end if;

    -- Told before the file is read, not after; _make_room() tells it again if it comes true later.
    if _check_target.mode = 'create'
       and to_regclass(
               format('%I.%I', _check_target.schema_name, _check_target.table_name)) is not null
    then
        raise exception using
            errcode = 'TD004',
            message = format('table %I.%I is there already',
                _check_target.schema_name, _check_target.table_name),
            hint    = 'Import under another name, or in mode replace or append.';
    end if;
end
$$;

comment on function tinydevcrm._check_target(name, text, text) is
    'Passes on the schema and name of the table an import is to fill, or raises TD004 (in use) or '
    'TD007 (no schema, no such mode, no name).';

revoke execute on function
    tinydevcrm._choose_types(regclass),
    tinydevcrm._make_room(tinydevcrm.imports, jsonb),
    tinydevcrm._load_staging(tinydevcrm.imports, regclass, text[]),
    tinydevcrm._check_target(name, text, text),
    tinydevcrm.begin_import(text, bytea, text, text, name),
    tinydevcrm.finish_import(bigint, bigint),
    tinydevcrm.import_staging(regclass, text, text, name)
from public;

grant execute on function
    tinydevcrm._choose_types(regclass),
    tinydevcrm._make_room(tinydevcrm.imports, jsonb),
    tinydevcrm._load_staging(tinydevcrm.imports, regclass, text[]),
    tinydevcrm._check_target(name, text, text),
    tinydevcrm.begin_import(text, bytea, text, text, name),
    tinydevcrm.finish_import(bigint, bigint),
    tinydevcrm.import_staging(regclass, text, text, name)
to tinydevcrm_user;
