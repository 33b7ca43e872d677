-- An import is one transaction: begin_import() creates a table, a COPY fills it, and
-- finish_import() ends the import. The beginning of the file suggests the types of the columns.
-- When a value does not fit its column, the COPY ends before that value, widen_import() turns the
-- column back into the text of the file and then into a wider type, and the next COPY continues.

create type tinydevcrm.import_step as (
    import_id             bigint,
    columns               jsonb,
    create_statement      text,
    copy_statement        text,
    binary_copy_statement text
);

comment on type tinydevcrm.import_step is
    'The state of a running import. columns, in the order of the file: [{"name": …, "header": name '
    'in the file, "type": type that stores it, "rank": rank in tinydevcrm.csv_types whose values '
    'fit that type; null when every value does}]. create_statement created the table. '
    'copy_statement fills it, in text format and UTF-8; binary_copy_statement does so in binary '
    'format, from a session with client_encoding UTF8.';

create function tinydevcrm._build_import_step(import tinydevcrm.imports, create_statement text)
    returns tinydevcrm.import_step
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select (import).id,
           (import).columns,
           _build_import_step.create_statement,
           format('%s with (encoding ''UTF8'')', filling.statement),
           format('%s with (format binary)', filling.statement)
      from (
        select format(
                   'copy %s (%s) from stdin',
                   tinydevcrm._find_loading_table(import),
                   string_agg(format('%I', planned.name), ', ' order by planned.number))
                   as statement
          from rows from (
                   jsonb_to_recordset((import).columns) as (name text)
               ) with ordinality as planned (name, number)
      ) as filling
$$;

comment on function tinydevcrm._build_import_step(tinydevcrm.imports, text) is
    'The next step of an import: its columns, and the COPY to run.';

create function tinydevcrm._lock_import(import_id bigint)
    returns tinydevcrm.imports
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import  tinydevcrm.imports;
    v_loading text;
begin
    select imports.*
      into v_import
      from tinydevcrm.imports
     where imports.id = _lock_import.import_id
       and imports.finished_at is null;

    if found then
        v_loading := tinydevcrm._find_loading_table(v_import);
    end if;

    if to_regclass(v_loading) is null then
        raise exception using
            errcode = 'TD001',
            message = format('import %s is not running', _lock_import.import_id),
            hint    = 'Call tinydevcrm.begin_import() in this transaction first.';
    end if;

    -- The transaction of the import created that table and holds its lock. If an import was
    -- committed too early, its row can name any table.
    perform tinydevcrm._lock_own_table(v_loading, 'access exclusive');
    return v_import;
end
$$;

comment on function tinydevcrm._lock_import(bigint) is
    'The row of an import, which only its own transaction sees. Raises TD001 when there is none, '
    '42501 when the session has not logged in as the owner of its table.';

create function tinydevcrm.begin_import(
    source        text,
    header        text[],
    ranks         integer[],
    table_name    text default null,
    mode          text default 'create',
    key           text[] default null,
    types         jsonb default '{}',
    dialect       tinydevcrm.csv_dialect default null,
    schema_name   name default current_schema(),
    distribute_by text default null,
    options       jsonb default '{}'
)
    returns tinydevcrm.import_step
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import tinydevcrm.imports;
begin
    if coalesce(cardinality(begin_import.header), 0) = 0 or begin_import.source is null then
        raise exception using
            errcode = 'TD005',
            message = 'an import needs a source and the names of its columns',
            hint    = 'Give each column a name, or an empty text.';
    end if;

    v_import.source := left(begin_import.source, 250);
    v_import.mode := begin_import.mode;
    v_import.key := nullif(begin_import.key, '{}');
    v_import.schema_name := begin_import.schema_name;
    v_import.table_name := tinydevcrm._check_table_name(
        coalesce(
            nullif(begin_import.table_name, ''),
            tinydevcrm._make_table_name(begin_import.source)));
    perform tinydevcrm._check_target(v_import);

    insert into tinydevcrm.imports (
               source, mode, key, schema_name, table_name, dialect, columns, distribute_by,
               options, notices)
    values (
               v_import.source, v_import.mode, v_import.key, v_import.schema_name,
               v_import.table_name, begin_import.dialect,
               tinydevcrm._plan_columns(
                   begin_import.header, begin_import.ranks, begin_import.types,
                   coalesce(begin_import.options->>'bad' = 'reject', false)),
               nullif(begin_import.distribute_by, ''),
               tinydevcrm._check_options(begin_import.options, (begin_import.dialect).format),
               coalesce((begin_import.dialect).warnings, '{}'))
    returning imports.*
         into v_import;

    perform tinydevcrm._check_key(v_import);
    perform tinydevcrm._check_distribution(v_import);
    if tinydevcrm._keeps_table(v_import)
       and to_regclass(tinydevcrm._target(v_import)) is not null
    then
        perform tinydevcrm._check_columns(v_import);
    end if;

    return tinydevcrm._build_import_step(v_import, tinydevcrm._create_loading_table(v_import));
end
$$;

comment on function tinydevcrm.begin_import(
    text, text[], integer[], text, text, text[], jsonb, tinydevcrm.csv_dialect, name, text, jsonb
) is
    'Begins an import, and returns the COPY to run in the same transaction, before '
    'finish_import(). It takes the names of the columns in the file and, for each, the first rank '
    'of tinydevcrm.csv_types that accepts every value seen so far, null when there was none. '
    'Without a table name, the table is named after the file; it is created in the first schema of '
    'your search_path. types overrides: {"column": "type"}. key belongs to mode upsert, dialect is '
    'for the log; distribute_by is for a Citus coordinator: see distribute_table(). options is about '
    'an existing table: {"new_columns": "refuse", "add" or "ignore", "missing_columns": "refuse" or '
    '"null" (the default for a dialect of JSON), "widen": "no" or "yes", '
    '"keep_table": "no" or "yes" (mode replace keeps the columns and types, as mode append does), '
    '"bad": "refuse" or "reject"}; the first of each is the '
    'default. For the last see reject_import_values(). Raises TD004 '
    'when the name is in use, TD005 when there are no columns or over 1600, TD006 when the key '
    'names no column, TD007 when there is no such schema, mode, name or type, 42501 when the '
    'session has not logged in as the owner of the table; with distribute_by also TD010 and TD011.';

create function tinydevcrm.widen_import(
    import_id bigint,
    ranks     integer[],
    header    text[] default '{}'
)
    returns tinydevcrm.import_step
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import  tinydevcrm.imports := tinydevcrm._lock_import(widen_import.import_id);
    -- Each change rewrites the table. So after a few changes, columns stay text until the end of
    -- the file.
    v_waits   constant boolean := v_import.rewrite_count >= 4;
    v_names   text[];
    v_columns jsonb;
    v_changes text;
begin
    select array_agg(
               coalesce(before.value->>'name', widen_import.header[fit.number], '')
               order by fit.number)
      into v_names
      from unnest(widen_import.ranks) with ordinality as fit (rank, number)
      left join jsonb_array_elements(v_import.columns) with ordinality as before (value, number)
     using (number);

    with step as (
        select fit.number,
               fit.name,
               left(coalesce(widen_import.header[fit.number], ''), 100) as header,
               before.value as before,
               stored.type,
               stored.accepted,
               coalesce(
                   before.value->'rank' = 'null'
                   or (before.value->>'rank')::integer = stored.accepted,
                   false) as stays
          from unnest(tinydevcrm._make_column_names(v_names), widen_import.ranks)
                   with ordinality as fit (name, rank, number)
          left join jsonb_array_elements(v_import.columns) with ordinality as before (value, number)
         using (number)
         cross join lateral tinydevcrm._find_storage_type(
             case when before.value is null or not v_waits then fit.rank end) as stored
    )
    select jsonb_agg(
               case
                   when step.stays then step.before
                   else coalesce(
                       step.before,
                       jsonb_build_object(
                           'name', step.name, 'header', step.header, 'is_given', false))
                       || jsonb_build_object('type', step.type, 'rank', step.accepted)
               end
               order by step.number),
           string_agg(
               case
                   when step.before is null then format('add %I %s', step.name, step.type)
                   else format(
                       'alter %I type %s using (%s)::%s',
                       step.name,
                       step.type,
                       format(csv_types.restores, quote_ident(step.name)),
                       step.type)
               end,
               ', ' order by step.number) filter (where not step.stays)
      into v_columns, v_changes
      from step
      left join tinydevcrm.csv_types
        on csv_types.rank = (step.before->>'rank')::integer;

    if v_changes is not null then
        execute format('alter table %s %s', tinydevcrm._find_loading_table(v_import), v_changes);
    end if;

    update tinydevcrm.imports
       set columns = v_columns,
           rewrite_count = imports.rewrite_count
                         + coalesce(v_changes like '%alter %', false)::integer
     where imports.id = v_import.id
    returning imports.*
         into v_import;

    return tinydevcrm._build_import_step(v_import, null);
end
$$;

comment on function tinydevcrm.widen_import(bigint, integer[], text[]) is
    'Continues an import after a value did not fit its column. For each column it takes the first '
    'rank of tinydevcrm.csv_types that accepts every value seen so far and the values that come '
    'next. Nothing is lost: the column is first turned back into the text of the file. More ranks '
    'than columns add columns, with names from header where that has them. Raises TD001 when no such '
    'import is running.';

create function tinydevcrm.finish_import(
    import_id  bigint,
    ranks      integer[],
    row_count  bigint,
    byte_count bigint default null
)
    returns tinydevcrm.imports
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import  tinydevcrm.imports := tinydevcrm._lock_import(finish_import.import_id);
    v_types   jsonb := tinydevcrm._settle_columns(v_import, finish_import.ranks);
    v_changes text;
    v_notes   text[];
begin
    if finish_import.row_count is null or finish_import.row_count < 0 then
        raise exception using
            errcode = 'TD007',
            message = 'finish_import() needs the number of rows',
            hint    = 'Give row_count, 0 or more.';
    end if;

    select string_agg(
               format(
                   'alter %I type %s using %s',
                   settled->>'name', settled->>'type', tinydevcrm._build_reading(settled)),
               ', ') filter (where settled->>'type' <> settled->>'stored'),
           array_agg(settled->>'note') filter (where settled->>'note' is not null)
      into v_changes,
           v_notes
      from jsonb_array_elements(v_types) as settled;

    v_import.columns := v_types;

    v_import := tinydevcrm._separate_currencies(v_import);
    v_types := v_import.columns;
    v_import.row_count := finish_import.row_count;
    if tinydevcrm._find_loading_table(v_import) = tinydevcrm._target(v_import) then
        if v_changes is not null then
            perform tinydevcrm._change_columns(v_import, v_changes);
            perform tinydevcrm._comment_columns(v_import);
        end if;
        if v_import.mode = 'upsert' then
            perform tinydevcrm._add_key(v_import);
        end if;
    else
        v_import.row_count := tinydevcrm._place_rows(v_import, v_types);
        v_changes := null;
    end if;

    v_import.distribution := tinydevcrm._distribute_import(v_import);

    -- Citus distributes no table that has triggers.
    if v_import.distribution is null
       and tinydevcrm._find_loading_table(v_import) = tinydevcrm._target(v_import)
    then
        perform tinydevcrm._create_change_trigger(tinydevcrm._target(v_import)::regclass);
    end if;

    perform tinydevcrm._analyze_target(v_import);

    -- The types of the table: an existing table keeps its own.
    update tinydevcrm.imports
       set columns = tinydevcrm._read_table_columns(v_import, v_types),
           row_count = v_import.row_count,
           byte_count = finish_import.byte_count,
           rewrite_count = imports.rewrite_count + (v_changes is not null)::integer,
           distribution = v_import.distribution,
           notices = imports.notices || coalesce(v_notes, '{}')
     where imports.id = v_import.id
    returning imports.*
         into v_import;

    return v_import;
end
$$;

comment on function tinydevcrm.finish_import(bigint, integer[], bigint, bigint) is
    'Finishes an import that begin_import() began in this transaction, and returns its row. For '
    'each column it takes the first rank of tinydevcrm.csv_types that accepts every value of the '
    'file, null when there is none, then the number of rows and bytes that were read. Raises TD001 '
    'when no such import is running, TD007 without the number of rows, and the errors of the mode: '
    'see _place_rows(); with distribute_by also those of distribute_table().';

create function tinydevcrm._preview_import_columns(import_id bigint, ranks integer[])
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import tinydevcrm.imports := tinydevcrm._lock_import(_preview_import_columns.import_id);
    v_types  jsonb := tinydevcrm._settle_columns(v_import, _preview_import_columns.ranks);
    v_texts  text;
    v_rows   jsonb;
begin
    select string_agg(format('left(%s, 100)', compared.text_value), ', ')
      into v_texts
      from tinydevcrm._compare_columns(v_import) as compared
     where compared.type is not null;

    execute format(
        'select coalesce(jsonb_agg(to_jsonb(array[%s])), ''[]'') from (select * from %s limit 5) '
        'as first_rows',
        v_texts, tinydevcrm._find_loading_table(v_import))
       into v_rows;

    return (
        select jsonb_agg(
                   case
                       -- An existing table keeps its types, except in mode replace.
                       when v_import.mode = 'replace' and not tinydevcrm._keeps_table(v_import)
                            or tinydevcrm._find_loading_table(v_import)
                                = tinydevcrm._target(v_import)
                       then settled.value
                       else present.value
                   end
                   || jsonb_build_object(
                       'note', coalesce(settled.value->>'note', notes.note),
                       'samples', (
                           select jsonb_agg(cells->(number::integer - 1))
                             from jsonb_array_elements(v_rows) as cells
                       ))
                   order by number)
          from jsonb_array_elements(v_types) with ordinality as settled (value, number)
          join jsonb_array_elements(tinydevcrm._read_table_columns(v_import, v_types))
                   with ordinality as present (value, number)
         using (number)
          left join tinydevcrm._list_preview_notes(v_import, v_types) as notes
            on notes.name = settled.value->>'name'
    );
end
$$;

comment on function tinydevcrm._preview_import_columns(bigint, integer[]) is
    'The columns that a running import would report if it were finished now, each with its first '
    'values, as samples, and a note when it can be read in two ways, or holds a value that the '
    'import would refuse. Raises TD001 when no such import is running.';

revoke execute on function
    tinydevcrm._build_import_step(tinydevcrm.imports, text),
    tinydevcrm._lock_import(bigint),
    tinydevcrm.begin_import(
        text, text[], integer[], text, text, text[], jsonb, tinydevcrm.csv_dialect, name, text, jsonb),
    tinydevcrm.widen_import(bigint, integer[], text[]),
    tinydevcrm.finish_import(bigint, integer[], bigint, bigint),
    tinydevcrm._preview_import_columns(bigint, integer[])
from public;

grant execute on function
    tinydevcrm._build_import_step(tinydevcrm.imports, text),
    tinydevcrm._lock_import(bigint),
    tinydevcrm.begin_import(
        text, text[], integer[], text, text, text[], jsonb, tinydevcrm.csv_dialect, name, text, jsonb),
    tinydevcrm.widen_import(bigint, integer[], text[]),
    tinydevcrm.finish_import(bigint, integer[], bigint, bigint),
    tinydevcrm._preview_import_columns(bigint, integer[])
to tinydevcrm_user;
