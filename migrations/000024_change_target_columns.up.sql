-- How an import changes the columns of its table: other columns, wider types, comments.

create function tinydevcrm._add_columns(import tinydevcrm.imports, types jsonb)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_changes text;
begin
    select string_agg(format('add %I %s', compared.name, settled->>'type'), ', ')
      into v_changes
      from tinydevcrm._compare_columns(import) as compared
      join jsonb_array_elements(_add_columns.types) as settled
        on settled->>'name' = compared.name
     where compared.target_type is null;

    if v_changes is not null then
        execute format('alter table %s %s', tinydevcrm._target(import), v_changes);
    end if;
end
$$;

comment on function tinydevcrm._add_columns(tinydevcrm.imports, jsonb) is
    'Adds the columns to a table that only the file has. Views on the table stay as they are.';

create function tinydevcrm._find_wider_type(type text, other text)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when widths.here is not null and widths.there is not null then
                   widths.types[greatest(widths.here, widths.there)]
               when _find_wider_type.type = 'date'
                    and _find_wider_type.other = 'timestamp without time zone'
               then _find_wider_type.other
               when widths.here is not null
                    or _find_wider_type.type ~ '^(character|boolean$|uuid$)'
               then 'text'
           end
      from (
        select types,
               array_position(types, regexp_replace(_find_wider_type.type, '\(.*', '')) as here,
               array_position(types, _find_wider_type.other) as there
          from (
            values (array['smallint', 'integer', 'bigint', 'numeric'])
          ) as numbers (types)
      ) as widths
$$;

comment on function tinydevcrm._find_wider_type(text, text) is
    'The type that holds the values of two types, when a column of the first can become one of it '
    'and prints the same; null when there is none.';

create function tinydevcrm._widen_columns(import tinydevcrm.imports, types jsonb)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_changes text;
    v_detail  text;
begin
    select string_agg(
               format('alter %1$I type %2$s using %1$I::%2$s', unfit.name, wider.type), ', ')
      into v_changes
      from tinydevcrm._list_unfit_values(import, _widen_columns.types) as unfit
      join tinydevcrm._compare_columns(import) as compared
     using (name)
      join jsonb_array_elements(_widen_columns.types) as settled
        on settled->>'name' = unfit.name
     cross join lateral tinydevcrm._find_wider_type(
         compared.target_type, settled->>'type') as wider (type)
     where wider.type is not null;

    if v_changes is not null then
        execute format('alter table %s %s', tinydevcrm._target(import), v_changes);
    end if;
exception
    when feature_not_supported then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception using
            errcode = '2BP01',
            message = format(
                'table %s cannot have wider columns: other objects depend on them',
                tinydevcrm._target(import)),
            detail  = left(v_detail, 10000),
            hint    = 'Drop these objects first, or correct the values.';
end
$$;

comment on function tinydevcrm._widen_columns(tinydevcrm.imports, jsonb) is
    'Gives wider types to the columns of a table into which values of the file do not fit. Raises '
    '2BP01, which names the view that depends on such a column.';

create function tinydevcrm._adopt_types(import tinydevcrm.imports, types jsonb)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  constant text := tinydevcrm._target(import);
    v_changes text;
    v_is_used boolean;
begin
    select string_agg(
               format('alter %1$I type %2$s using null', compared.name, settled->>'type'), ', ')
      into v_changes
      from tinydevcrm._compare_columns(import) as compared
      join jsonb_array_elements(_adopt_types.types) as settled
        on settled->>'name' = compared.name
     where compared.target_type = 'text'
       and settled->>'type' <> 'text';

    execute format('select exists (select from %s)', v_target)
       into v_is_used;

    -- An import of a header alone has created it, so it is not known what its columns hold.
    if v_changes is null or v_is_used or not exists (
        select
          from tinydevcrm.imports
         where imports.relation = v_target::regclass
        having max(imports.row_count) = 0
    ) then
        return;
    end if;

    execute format('alter table %s %s', v_target, v_changes);
exception
    -- A view reads the column.
    when feature_not_supported then
        null;
end
$$;

comment on function tinydevcrm._adopt_types(tinydevcrm.imports, jsonb) is
    'Gives the types of the file to a table that earlier imports have created without any row, '
    'unless a view reads it.';

create function tinydevcrm._comment_columns(import tinydevcrm.imports)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_statements text;
begin
    select string_agg(
               format(
                   'comment on column %s.%I is %L',
                   tinydevcrm._target(import),
                   settled->>'name',
                   coalesce(settled->>'unit', 'percent')),
               '; ')
      into v_statements
      from jsonb_array_elements((import).columns) as settled
     where settled->>'unit' is not null
        or settled->>'form' like 'percent %';

    if v_statements is not null then
        execute v_statements;
    end if;
end
$$;

comment on function tinydevcrm._comment_columns(tinydevcrm.imports) is
    'Writes the unit of each column, which its values have no more, into a comment on it.';

create function tinydevcrm._change_columns(import tinydevcrm.imports, changes text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_settled jsonb;
begin
    execute format('alter table %s %s', tinydevcrm._target(import), _change_columns.changes);
exception
    when data_exception then
        for v_settled in
            select settled
              from jsonb_array_elements((import).columns) as settled
             where settled->>'type' <> settled->>'stored'
        loop
            perform tinydevcrm._check_reading(import, v_settled);
        end loop;
        raise;
end
$$;

comment on function tinydevcrm._change_columns(tinydevcrm.imports, text) is
    'Gives the columns of the table of an import their types. Raises TD006, with the row and the '
    'value, when one cannot be read.';

revoke execute on function
    tinydevcrm._change_columns(tinydevcrm.imports, text),
    tinydevcrm._comment_columns(tinydevcrm.imports),
    tinydevcrm._add_columns(tinydevcrm.imports, jsonb),
    tinydevcrm._find_wider_type(text, text),
    tinydevcrm._widen_columns(tinydevcrm.imports, jsonb),
    tinydevcrm._adopt_types(tinydevcrm.imports, jsonb)
from public;

grant execute on function
    tinydevcrm._change_columns(tinydevcrm.imports, text),
    tinydevcrm._comment_columns(tinydevcrm.imports),
    tinydevcrm._add_columns(tinydevcrm.imports, jsonb),
    tinydevcrm._find_wider_type(text, text),
    tinydevcrm._widen_columns(tinydevcrm.imports, jsonb),
    tinydevcrm._adopt_types(tinydevcrm.imports, jsonb)
to tinydevcrm_user;
