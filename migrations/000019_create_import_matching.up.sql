-- Checks that the columns of an import fit an existing table.

create function tinydevcrm._find_base_type(type regtype)
    returns text
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_type oid := _find_base_type.type;
    v_base oid;
begin
    loop
        select typbasetype
          into v_base
          from pg_type
         where oid = v_type;

        -- Null when there is no such type.
        exit when v_base = 0 or v_base is null;
        v_type := v_base;
    end loop;

    return format_type(v_type, -1);
end
$$;

comment on function tinydevcrm._find_base_type(regtype) is
    'Type to which a text is cast before it goes into a column: without modifiers and without '
    'domains. A cast to those would cut off a value that an insert refuses.';

create function tinydevcrm._compare_columns(import tinydevcrm.imports)
    returns table (
        name        text,
        type        text,
        target_type text,
        text_value  text,
        reading     text,
        value       text,
        is_needed   boolean
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(planned.name, existing.attname::text),
           loaded.type,
           format_type(existing.atttypid, existing.atttypmod),
           restored.text_value,
           meant.reading,
           case
               when loaded.type = format_type(existing.atttypid, existing.atttypmod) then
                   quote_ident(planned.name)
               else format(
                   '(%s)::%s', meant.reading, tinydevcrm._find_base_type(existing.atttypid))
           end,
           not (existing.atthasdef or existing.attidentity <> '')
      from rows from (
               jsonb_to_recordset((import).columns)
                   as (name text, type text, rank integer, form text)
           ) with ordinality as planned (name, type, rank, form, number)
      full join (
        select pg_attribute.*
          from pg_attribute
         where attrelid = to_regclass(tinydevcrm._target(import))
           and attnum > 0
           and not attisdropped
      ) as existing
        on existing.attname::text = planned.name
      left join pg_attribute as stored
        on stored.attrelid = to_regclass(tinydevcrm._find_loading_table(import))
       and stored.attname::text = planned.name
     cross join lateral (
         select case
                    when planned.name is not null then
                        coalesce(format_type(stored.atttypid, stored.atttypmod), planned.type)
                end as type
     ) as loaded
     cross join lateral (
         select coalesce(
                    (
                        select format(csv_types.restores, quote_ident(planned.name))
                          from tinydevcrm.csv_types
                         where csv_types.rank = planned.rank
                    ),
                    quote_ident(planned.name) || '::text') as text_value
     ) as restored
     -- A column of text gets the text of the file, whatever its form.
     cross join lateral (
         select coalesce(
                    (
                        select format(csv_forms.reads, restored.text_value)
                          from tinydevcrm.csv_forms
                          join pg_type
                            on pg_type.oid = existing.atttypid
                         where csv_forms.name = planned.form
                           and pg_type.typcategory <> 'S'
                    ),
                    restored.text_value) as reading
     ) as meant
     order by planned.number, existing.attnum
$$;

comment on function tinydevcrm._compare_columns(tinydevcrm.imports) is
    'The columns of an import beside those of its table. type: as loaded, null when only the table '
    'has the column; target_type: in the table, null when only the file has it; the expressions '
    'for the text in the file, for what its form reads from it, and for the value that goes into '
    'the table; is_needed: whether the file must have it, because the table has no default for it.';

create function tinydevcrm._check_options(options jsonb, format text default null)
    returns jsonb
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text;
begin
    select format('option %s cannot be %s', given.key, given.value)
      into v_problem
      from jsonb_each_text(coalesce(_check_options.options, '{}')) as given
     where (given.key, given.value) not in (
        ('new_columns', 'refuse'),
        ('new_columns', 'add'),
        ('new_columns', 'ignore'),
        ('missing_columns', 'refuse'),
        ('missing_columns', 'null'),
        ('widen', 'no'),
        ('widen', 'yes'),
        ('keep_table', 'no'),
        ('keep_table', 'yes'),
        ('bad', 'refuse'),
        ('bad', 'reject')
     )
     limit 1;

    if v_problem is not null then
        raise exception using
            errcode = 'TD007',
            message = v_problem,
            hint    = 'Options are new_columns (refuse, add, ignore), missing_columns (refuse, null), '
                      'widen (no, yes), keep_table (no, yes) and bad (refuse, reject).';
    end if;

    return jsonb_build_object(
               'new_columns', 'refuse',
               -- An object of JSON may lack keys, so a file may too.
               'missing_columns',
               case when _check_options.format in ('json', 'jsonl') then 'null' else 'refuse' end,
               'widen', 'no',
               'keep_table', 'no',
               'bad', 'refuse')
           || coalesce(_check_options.options, '{}');
end
$$;

comment on function tinydevcrm._check_options(jsonb, text) is
    'Checks the options of an import of a file in some format, and returns them with their defaults. '
    'Raises TD007.';

create function tinydevcrm._list_column_differences(import tinydevcrm.imports)
    returns table (name text, is_new boolean)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select compared.name,
           compared.target_type is null
      from tinydevcrm._compare_columns(import) as compared
     where case
               when compared.target_type is null then (import).options->>'new_columns' = 'refuse'
               else compared.type is null
                    and compared.is_needed
                    and (import).options->>'missing_columns' = 'refuse'
                    -- Surplus fields made it, of which this file has none so far.
                    and not (
                        compared.name ~ '^column_[0-9]{1,4}$'
                        and substr(compared.name, 8)::integer
                            > jsonb_array_length((import).columns)
                    )
                    -- It comes from amounts, once they are read.
                    and not exists (
                        select
                          from jsonb_array_elements((import).columns) as planned
                         where compared.name = left(planned->>'name', 50) || '_currency'
                    )
           end
$$;

comment on function tinydevcrm._list_column_differences(tinydevcrm.imports) is
    'The columns that only the file has (is_new) or only the table, and that the options of the '
    'import do not allow. A column that the table fills itself may be missing from the file.';

create function tinydevcrm._check_columns(import tinydevcrm.imports)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_differences text;
    v_hint        text;
begin
    select string_agg(
               format(
                   '%I: only in the %s',
                   difference.name, case when difference.is_new then 'file' else 'table' end),
               e'\n'),
           concat_ws(
               ' ',
               'Columns are matched by name.',
               case
                   when not exists (
                       select
                         from jsonb_array_elements((import).columns) as planned
                        where planned->>'header' <> ''
                   )
                   then 'The file has no header: name its columns (--columns a,b).'
               end,
               case
                   when bool_or(difference.is_new) then
                       'A column that only the file has can be added (--new-columns add) or ignored '
                       '(--new-columns ignore).'
               end,
               case
                   when not bool_and(difference.is_new) then
                       'A column that only the table has can be NULL (--missing-columns null).'
               end)
      into v_differences,
           v_hint
      from tinydevcrm._list_column_differences(import) as difference;

    if v_differences is not null then
        raise exception using
            errcode = 'TD006',
            message = format(
                'the columns differ from those of table %s', tinydevcrm._target(import)),
            detail  = left(v_differences, 10000),
            hint    = v_hint;
    end if;
end
$$;

comment on function tinydevcrm._check_columns(tinydevcrm.imports) is
    'Checks that file and table have the same columns, except for what the options of the import '
    'allow. Raises TD006, which names the differences column by column, and the options.';

create function tinydevcrm._keeps_table(import tinydevcrm.imports)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select (import).mode in ('append', 'upsert')
        or (import).mode = 'replace' and (import).options->>'keep_table' = 'yes'
$$;

comment on function tinydevcrm._keeps_table(tinydevcrm.imports) is
    'Whether an existing table keeps its columns and types, to which those of the file must fit.';

create function tinydevcrm._list_kept_columns(
    source      text,
    table_name  text,
    mode        text,
    options     jsonb,
    schema_name name default current_schema()
)
    returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array_agg(attname::text order by attnum)
      from pg_attribute
     where attrelid = to_regclass(
               format(
                   '%I.%I',
                   _list_kept_columns.schema_name,
                   coalesce(
                       nullif(_list_kept_columns.table_name, ''),
                       tinydevcrm._make_table_name(_list_kept_columns.source))))
       and attnum > 0
       and not attisdropped
       and attgenerated = ''
       and attidentity <> 'a'
       and tinydevcrm._keeps_table(
               jsonb_populate_record(
                   null::tinydevcrm.imports,
                   jsonb_build_object(
                       'mode', _list_kept_columns.mode, 'options', _list_kept_columns.options)))
$$;

comment on function tinydevcrm._list_kept_columns(text, text, text, jsonb, name) is
    'The columns of the table that an import fills and keeps as it is: those of a file of JSON without '
    'an object, which names none. Null when the import creates the table or may recreate it.';

create function tinydevcrm._separate_currencies(inout import tinydevcrm.imports)
    returns tinydevcrm.imports
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_loading constant text := tinydevcrm._find_loading_table(import);
    v_target  constant regclass := to_regclass(tinydevcrm._target(import));
    v_columns jsonb := import.columns;
    v_column  jsonb;
    v_signs   text[];
    v_name    text;
    v_comment text;
begin
    for v_column in
        select settled
          from jsonb_array_elements(import.columns) as settled
         where settled->>'form' like 'currency %'
    loop
        execute format(
            'select array(select distinct tinydevcrm._read_currency(%1$I) from %2$s '
            'where %1$I is not null order by 1)',
            v_column->>'name', v_loading)
           into v_signs;
        v_name := left(v_column->>'name', 50) || '_currency';

        select col_description(attrelid, attnum)
          into v_comment
          from pg_attribute
         where attrelid = v_target
           and attname::text = v_column->>'name'
           and v_target <> v_loading::regclass;

        if v_comment like 'currency: %' and v_signs <> array[substr(v_comment, 11)] then
            raise exception using
                errcode = 'TD006',
                message = format(
                    'column %I holds amounts in %s, and the file has %s',
                    v_column->>'name', substr(v_comment, 11), array_to_string(v_signs, ', ')),
                hint    = 'Import the file into a table of its own.';
        end if;

        if cardinality(v_signs) > 1 or exists (
            select
              from pg_attribute
             where attrelid = v_target
               and attname::text = v_name
        ) then
            execute format(
                'alter table %1$s add %2$I text; update %1$s set %2$I = '
                'tinydevcrm._read_currency(%3$I)',
                v_loading, v_name, v_column->>'name');
            v_columns := v_columns || jsonb_build_object(
                'name', v_name, 'header', '', 'type', 'text', 'stored', 'text', 'is_given', false);
        else
            v_columns := (
                select jsonb_agg(
                           case
                               when planned = v_column then
                                   planned || jsonb_build_object('unit', 'currency: ' || v_signs[1])
                               else planned
                           end
                           order by number)
                  from jsonb_array_elements(v_columns) with ordinality as all_columns (planned, number)
            );
        end if;
    end loop;

    import.columns := v_columns;
end
$$;

comment on function tinydevcrm._separate_currencies(tinydevcrm.imports) is
    'Returns a running import with a further column, NAME_currency, for each column of amounts in '
    'several currencies, or whose table has such a column. The other currencies become a comment. '
    'Raises TD006 when the table holds amounts in another currency.';

revoke execute on function
    tinydevcrm._keeps_table(tinydevcrm.imports),
    tinydevcrm._list_kept_columns(text, text, text, jsonb, name),
    tinydevcrm._separate_currencies(tinydevcrm.imports),
    tinydevcrm._find_base_type(regtype),
    tinydevcrm._compare_columns(tinydevcrm.imports),
    tinydevcrm._check_options(jsonb, text),
    tinydevcrm._list_column_differences(tinydevcrm.imports),
    tinydevcrm._check_columns(tinydevcrm.imports)
from public;

grant execute on function
    tinydevcrm._keeps_table(tinydevcrm.imports),
    tinydevcrm._list_kept_columns(text, text, text, jsonb, name),
    tinydevcrm._separate_currencies(tinydevcrm.imports),
    tinydevcrm._find_base_type(regtype),
    tinydevcrm._compare_columns(tinydevcrm.imports),
    tinydevcrm._check_options(jsonb, text),
    tinydevcrm._list_column_differences(tinydevcrm.imports),
    tinydevcrm._check_columns(tinydevcrm.imports)
to tinydevcrm_user;
