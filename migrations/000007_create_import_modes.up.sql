-- How the rows of an import come into a table that was there before: modes replace, append, upsert.

create function tinydevcrm._restored(
    column_name text,
    type        text,
    "position"  integer,
    target_type text
)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _restored.type = _restored.target_type then quote_ident(_restored.column_name)
               else format(
                   '(%s)::%s',
                   coalesce(
                       (
                           select format(csv_types.restores, quote_ident(_restored.column_name))
                             from tinydevcrm.csv_types
                            where csv_types.position = _restored.position
                       ),
                       quote_ident(_restored.column_name)),
                   _restored.target_type)
           end
$$;

comment on function tinydevcrm._restored(text, text, integer, text) is
    'Expression for a loaded column in another type: made from the text that stood in the file.';

create function tinydevcrm._compare_columns(import tinydevcrm.imports)
    returns table (name text, type text, target_type text, value text, is_needed boolean)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(planned.name, attname::text),
           planned.type,
           format_type(atttypid, atttypmod),
           -- Without its modifiers, which a cast would apply by cutting off: the insert checks them.
           tinydevcrm._restored(
               planned.name, planned.type, planned.place, format_type(atttypid, null)),
           not (atthasdef or attidentity <> '')
      from rows from (
               jsonb_to_recordset((import).columns) as (name text, type text, "position" integer)
           ) with ordinality as planned (name, type, place, number)
      full join (
        select pg_attribute.*
          from pg_attribute
         where attrelid = to_regclass(tinydevcrm._target(import))
           and attnum > 0
           and not attisdropped
      ) as existing
        on attname::text = planned.name
     order by planned.number, attnum
$$;

comment on function tinydevcrm._compare_columns(tinydevcrm.imports) is
    'Columns of an import beside those of the table it goes to: type as loaded, null when only the '
    'table has it; type in the table, null when only the file has it; the expression that makes '
    'one of the other; and whether the table makes no value for it itself.';

create function tinydevcrm._check_columns(import tinydevcrm.imports)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_differences text;
begin
    select string_agg(
               case
                   when compared.type is null then format('%I: only in the table', compared.name)
                   else format('%I: only in the file', compared.name)
               end,
               e'\n')
      into v_differences
      from tinydevcrm._compare_columns(import) as compared
     where compared.target_type is null
        or compared.type is null and compared.is_needed;

    if v_differences is not null then
        raise exception using
            errcode = 'TD006',
            message = format(
                'the columns differ from those of table %s', tinydevcrm._target(import)),
            detail  = v_differences,
            hint    = 'Columns are matched by name. Give both the same, or use mode replace.';
    end if;
end
$$;

comment on function tinydevcrm._check_columns(tinydevcrm.imports) is
    'Checks that file and table have the same columns; one that the table fills itself may be '
    'missing from the file. Raises TD006, which tells the difference column by column.';

create function tinydevcrm._check_key(import tinydevcrm.imports)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_unknown text;
begin
    select min(key)
      into v_unknown
      from unnest((import).key) as key
     where not exists (
        select
          from jsonb_array_elements((import).columns) as planned
         where planned->>'name' = key
     );

    if v_unknown is not null then
        raise exception using
            errcode = 'TD006',
            message = format('the file has no column %L for the key', v_unknown),
            hint    = 'The key names columns of the file, as they stand in its header.';
    end if;
end
$$;

comment on function tinydevcrm._check_key(tinydevcrm.imports) is
    'Checks that the key of mode upsert names columns of the file. Raises TD006.';

create function tinydevcrm._key_list(import tinydevcrm.imports)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(quote_ident(key), ', ' order by number)
      from unnest((import).key) with ordinality as key (key, number)
$$;

comment on function tinydevcrm._key_list(tinydevcrm.imports) is
    'The key of mode upsert as a list of quoted names.';

create function tinydevcrm._add_key(import tinydevcrm.imports)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._check_key_values(import, tinydevcrm._target(import));
    execute format(
        'alter table %s add primary key (%s)',
        tinydevcrm._target(import), tinydevcrm._key_list(import));
end
$$;

comment on function tinydevcrm._add_key(tinydevcrm.imports) is
    'Gives a table that mode upsert has made the primary key by which the next one updates it. '
    'Raises TD009 when the key does not tell rows apart.';

create function tinydevcrm._check_key_values(import tinydevcrm.imports, loading text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_key  constant text := tinydevcrm._key_list(import);
    v_text text;
begin
    execute format(
        'select row(%1$s)::text from %2$s where num_nulls(%1$s) > 0 limit 1', v_key, loading)
       into v_text;

    if v_text is not null then
        raise exception using
            errcode = 'TD009',
            message = 'a row of the file has no value for the key',
            detail  = format('(%s) = %s', v_key, v_text),
            hint    = 'Fill it in, or choose another key.';
    end if;

    execute format(
        'select row(%1$s)::text from %2$s group by %1$s having count(*) > 1 limit 1',
        v_key, loading)
       into v_text;

    if v_text is not null then
        raise exception using
            errcode = 'TD009',
            message = 'the file has more than one row of the same key',
            detail  = format('(%s) = %s', v_key, v_text),
            hint    = 'Which of them should stay? Remove the others, or choose another key.';
    end if;
end
$$;

comment on function tinydevcrm._check_key_values(tinydevcrm.imports, text) is
    'Checks that the key of mode upsert tells the rows of the file apart. Raises TD009.';

create function tinydevcrm._place_rows(import tinydevcrm.imports, types jsonb)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant text := tinydevcrm._target(import);
    v_loaded constant text := tinydevcrm._loading_table(import);
    v_names     text;
    v_values    text;
    v_conflict  text := '';
    v_problems  text;
    v_row_count bigint;
begin
    if (import).mode = 'replace' then
        perform tinydevcrm._clear_target(import, types);
    else
        perform tinydevcrm._check_columns(import);
    end if;

    if (import).mode = 'upsert' then
        perform tinydevcrm._check_key_values(import, v_loaded);
        v_conflict := tinydevcrm._on_conflict(import);
    end if;

    select string_agg(quote_ident(compared.name), ', '),
           string_agg(compared.value, ', ')
      into v_names, v_values
      from tinydevcrm._compare_columns(import) as compared
     where compared.type is not null;

    begin
        execute format(
            'insert into %s (%s) select %s from %s %s',
            v_target, v_names, v_values, v_loaded, v_conflict);
        get diagnostics v_row_count = row_count;
    exception
        when data_exception then
            get stacked diagnostics v_problems = message_text;
            raise exception using
                errcode = 'TD006',
                message = format('values do not fit the columns of table %s', v_target),
                detail  = coalesce(tinydevcrm._misfits(import, v_loaded), v_problems),
                hint    = 'Correct them, change the column''s type, or import in mode replace.';
        when invalid_column_reference then
            raise exception using
                errcode = 'TD009',
                message = format('table %s has no unique index on the key', v_target),
                hint    = format(
                    'create unique index on %s (%s);', v_target, tinydevcrm._key_list(import));
    end;

    return v_row_count;
end
$$;

comment on function tinydevcrm._place_rows(tinydevcrm.imports, jsonb) is
    'Puts the rows that were loaded into the table that was there before, and returns their '
    'number. types are the columns with the types that fit the whole file. Raises TD006 when '
    'columns differ or values do not fit, TD009 when the key does not tell rows apart or has no '
    'unique index, 2BP01 when mode replace would drop a table that others depend on.';

create function tinydevcrm._misfits(import tinydevcrm.imports, loading text)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_column  record;
    v_misfits text[];
begin
    for v_column in
        select compared.name,
               compared.target_type,
               compared.value
          from tinydevcrm._compare_columns(import) as compared
         where compared.type is distinct from compared.target_type
           and compared.type is not null
    loop
        begin
            execute format('select count(%s) from %s', v_column.value, loading);
        exception
            when data_exception then
                v_misfits := v_misfits || format('%I: %s', v_column.name, sqlerrm);
        end;
    end loop;

    return array_to_string(v_misfits, e'\n');
end
$$;

comment on function tinydevcrm._misfits(tinydevcrm.imports, text) is
    'What is wrong with the values of a file for the types of a table, column by column; null when '
    'nothing is.';

create function tinydevcrm._on_conflict(import tinydevcrm.imports)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               'on conflict (%s) do %s',
               tinydevcrm._key_list(import),
               coalesce(
                   'update set '
                   || string_agg(format('%1$I = excluded.%1$I', planned->>'name'), ', ')
                          filter (where planned->>'name' <> all ((import).key)),
                   'nothing'))
      from jsonb_array_elements((import).columns) as planned
$$;

comment on function tinydevcrm._on_conflict(tinydevcrm.imports) is
    'The clause by which mode upsert updates the row that is there.';

create function tinydevcrm._clear_target(import tinydevcrm.imports, types jsonb)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant text := tinydevcrm._target(import);
    v_differs boolean;
    v_columns text;
    v_detail  text;
begin
    select bool_or(compared.target_type is null or compared.type is null
                   or compared.target_type <> settled.type),
           string_agg(
               format('%I %s', settled.name, settled.type), ', ' order by settled.number)
               filter (where settled.name is not null)
      into v_differs, v_columns
      from rows from (
               jsonb_to_recordset(_clear_target.types) as (name text, type text)
           ) with ordinality as settled (name, type, number)
      full join tinydevcrm._compare_columns(import) as compared
     using (name);

    if not v_differs then
        execute format('truncate %s', v_target);
        return;
    end if;

    begin
        execute format('drop table %s', v_target);
    exception
        when dependent_objects_still_exist then
            get stacked diagnostics v_detail = pg_exception_detail;
            raise exception using
                errcode = '2BP01',
                message = format(
                    'table %s cannot be replaced by one of other columns: others depend on it',
                    v_target),
                detail  = v_detail,
                hint    = 'Drop those first, or import under another name.';
    end;
    execute format('create table %s (%s)', v_target, v_columns);
end
$$;

comment on function tinydevcrm._clear_target(tinydevcrm.imports, jsonb) is
    'Empties the table that mode replace fills. With the same columns it stays, and so do the '
    'views on it, its indexes and its rights; with others it is made anew. Raises 2BP01, naming '
    'them, while others depend on a table that would have to go.';

revoke execute on function
    tinydevcrm._restored(text, text, integer, text),
    tinydevcrm._compare_columns(tinydevcrm.imports),
    tinydevcrm._check_columns(tinydevcrm.imports),
    tinydevcrm._check_key(tinydevcrm.imports),
    tinydevcrm._check_key_values(tinydevcrm.imports, text),
    tinydevcrm._key_list(tinydevcrm.imports),
    tinydevcrm._add_key(tinydevcrm.imports),
    tinydevcrm._place_rows(tinydevcrm.imports, jsonb),
    tinydevcrm._misfits(tinydevcrm.imports, text),
    tinydevcrm._on_conflict(tinydevcrm.imports),
    tinydevcrm._clear_target(tinydevcrm.imports, jsonb)
from public;

grant execute on function
    tinydevcrm._restored(text, text, integer, text),
    tinydevcrm._compare_columns(tinydevcrm.imports),
    tinydevcrm._check_columns(tinydevcrm.imports),
    tinydevcrm._check_key(tinydevcrm.imports),
    tinydevcrm._check_key_values(tinydevcrm.imports, text),
    tinydevcrm._key_list(tinydevcrm.imports),
    tinydevcrm._add_key(tinydevcrm.imports),
    tinydevcrm._place_rows(tinydevcrm.imports, jsonb),
    tinydevcrm._misfits(tinydevcrm.imports, text),
    tinydevcrm._on_conflict(tinydevcrm.imports),
    tinydevcrm._clear_target(tinydevcrm.imports, jsonb)
to tinydevcrm_user;
