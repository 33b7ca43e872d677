-- Where the rows of an import go: the table that it creates or fills, and the table that its COPY
-- fills. And what is in the latter: the forms of its values, and rows that do not fit.

create function tinydevcrm._check_table_name(name text)
    returns name
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(octet_length(_check_table_name.name), 0) not between 1 and 63 then
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be the name of a table', _check_table_name.name),
            hint    = 'A name has 1 to 63 bytes.';
    end if;

    return _check_table_name.name;
end
$$;

comment on function tinydevcrm._check_table_name(text) is
    'Checks the name of a table and returns it. Raises TD007 when it is empty or over 63 bytes.';

create function tinydevcrm._refuse_name_in_use(target text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'TD004',
        message = format('table %s is there already', target),
        hint    = format(
            'Import under another name, or in another mode: %s.',
            (
                select string_agg(import_modes.name, ', ' order by import_modes.rank)
                  from tinydevcrm.import_modes
                 where import_modes.name <> 'create'
            ));
end
$$;

comment on function tinydevcrm._refuse_name_in_use(text) is
    'Raises TD004, with a hint on what else to do.';

create function tinydevcrm._check_target(import tinydevcrm.imports)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation constant regclass := to_regclass(tinydevcrm._target(import));
    v_mode     tinydevcrm.import_modes;
    v_kind     "char";
begin
    -- The session's own temporary schema is as good, for files that go on from there.
    if (import).schema_name is distinct from (
        select nspname
          from pg_namespace
         where oid = pg_my_temp_schema()
    ) then
        perform tinydevcrm._check_schema((import).schema_name);
    end if;

    -- The caller owns the table, or will own it.
    if not tinydevcrm._is_session_of(quote_ident(current_user)::regrole) then
        raise exception using
            errcode = '42501',
            message = format('this session has not logged in as %I', current_user),
            hint    = 'Log in as the role that should own the table; "set role" is not enough.';
    end if;

    select import_modes.*
      into v_mode
      from tinydevcrm.import_modes
     where import_modes.name = (import).mode;

    if not found then
        raise exception using
            errcode = 'TD007',
            message = format('there is no import mode %L', (import).mode),
            hint    = format(
                'The modes are %s.',
                (
                    select string_agg(import_modes.name, ', ' order by import_modes.rank)
                      from tinydevcrm.import_modes
                ));
    end if;

    if v_mode.takes_key <> (coalesce(cardinality((import).key), 0) > 0) then
        raise exception using
            errcode = 'TD007',
            message = format(
                'mode %s %s key',
                v_mode.name, case when v_mode.takes_key then 'needs a' else 'takes no' end),
            hint    = format(
                'The key names the columns by which mode %s finds the row to update (--key id).',
                (
                    select string_agg(import_modes.name, ' or ' order by import_modes.rank)
                      from tinydevcrm.import_modes
                     where import_modes.takes_key
                ));
    end if;

    select relkind
      into v_kind
      from pg_class
     where oid = v_relation;

    -- Refused before the file is read, not after it.
    if (import).mode = 'create' and v_relation is not null then
        perform tinydevcrm._refuse_name_in_use(tinydevcrm._target(import));
    end if;

    if v_kind not in ('r', 'p') then
        raise exception using
            errcode = 'TD004',
            message = format('%s is there already, and is not a table', tinydevcrm._target(import)),
            hint    = 'Import under another name.';
    end if;

    if v_relation is not null then
        perform tinydevcrm._check_session_of(v_relation);
    end if;
end
$$;

comment on function tinydevcrm._check_target(tinydevcrm.imports) is
    'Checks that an import may create or fill its table. Raises TD004 when the name is in use; '
    'TD007 when there is no schema to create it in, no such mode, or a key is missing or given '
    'against tinydevcrm.import_modes.takes_key; 42501 when the session has not logged in as the '
    'owner of the table.';

create function tinydevcrm._find_loading_table(import tinydevcrm.imports)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when to_regclass(format('pg_temp._import_%s', (import).id)) is null then
                   tinydevcrm._target(import)
               else format('pg_temp._import_%s', (import).id)
           end
$$;

comment on function tinydevcrm._find_loading_table(tinydevcrm.imports) is
    'The table that the COPY of an import fills: the new table itself, or a temporary one when the '
    'rows go into an existing table.';

create function tinydevcrm._create_loading_table(import tinydevcrm.imports)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target    text := tinydevcrm._target(import);
    v_columns   text;
    v_statement text;
begin
    select string_agg(format('%I %s', planned.name, planned.type), ', ' order by planned.number)
      into v_columns
      from rows from (
               jsonb_to_recordset((import).columns) as (name text, type text)
           ) with ordinality as planned (name, type, number);

    -- Mode create never fills a table that another session has created since the check.
    if (import).mode = 'create' or to_regclass(v_target) is null then
        v_statement := format('create table %s (%s)', v_target, v_columns);
    else
        v_statement := format(
            'create temporary table _import_%s (%s) on commit drop', (import).id, v_columns);
    end if;

    execute v_statement;
    return v_statement;
exception
    -- The import of another session has committed a table of that name a moment ago.
    when duplicate_table or duplicate_object or unique_violation then
        if to_regtype(v_target) is not null and to_regclass(v_target) is null then
            raise exception using
                errcode = 'TD004',
                message = format('a type already has the name %s', v_target),
                hint    = 'Import under another name.';
        end if;
        perform tinydevcrm._refuse_name_in_use(v_target);
end
$$;

comment on function tinydevcrm._create_loading_table(tinydevcrm.imports) is
    'Creates the table that the COPY of an import fills, and returns the statement. Raises TD004 '
    'when another import has just created it.';

create function tinydevcrm._list_forms(source text, column_name text, types text[])
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_sample text[];
    v_ends   text[];
    v_form   tinydevcrm.csv_forms;
    v_unfit  text;
    v_forms  text[] := '{}';
begin
    -- A few values exclude most forms, and most columns.
    execute format(
        'select array(select %1$I from %2$s where %1$I is not null limit 20)',
        _list_forms.column_name, _list_forms.source)
       into v_sample;

    if v_sample = '{}' or exists (
        select
          from unnest(v_sample) as value
         where value !~ '[0-9]'
            or octet_length(value) > 1000
    ) then
        return v_forms;
    end if;

    for v_form in
        select csv_forms.*
          from tinydevcrm.csv_forms
         where not csv_forms.is_asked
           and (_list_forms.types is null or csv_forms.type_name = any (_list_forms.types))
           and not exists (
            -- A colon or a percent sign is in every value of a form or in none. To look for them first saves time: a
            -- session keeps 32 compiled expressions, fewer than there are shapes.
            select
              from unnest(v_sample) as value
             where case
                       when (strpos(value, ':') > 0) <> (strpos(csv_forms.example, ':') > 0)
                         or (strpos(value, '%') > 0) <> (strpos(csv_forms.example, '%') > 0) then
                           true
                       else
                           value !~ csv_forms.shape
                   end
         )
         order by csv_forms.rank
    loop
        -- What excludes one form excludes most others too, without another look at the table.
        continue when exists (
            select
              from unnest(v_sample) as value
             where value !~ v_form.accepts
                or octet_length(value) > 1000
        );

        -- What differs from most values, such as n/a or 007, is often the first or the last of them.
        -- An expression takes ten times as long to find it.
        if v_ends is null then
            execute format(
                'select array[min(%1$I collate "C"), max(%1$I collate "C")] from %2$s',
                _list_forms.column_name, _list_forms.source)
               into v_ends;
            v_sample := v_sample || v_ends;
            continue when exists (
                select
                  from unnest(v_ends) as value
                 where value !~ v_form.accepts
                    or octet_length(value) > 1000
            );
        end if;

        execute format(
            'select %2$I from %1$s where %2$I !~ %3$L or octet_length(%2$I) > 1000 limit 1',
            _list_forms.source, _list_forms.column_name, v_form.accepts)
           into v_unfit;
        if v_unfit is null then
            v_forms := v_forms || v_form.name;
        else
            v_sample := v_sample || v_unfit;
        end if;
    end loop;

    return v_forms;
end
$$;

comment on function tinydevcrm._list_forms(text, text, text[]) is
    'The forms of tinydevcrm.csv_forms that accept every value of a column of text, except those '
    'that must be asked for. source is a table or a subquery; types restricts their types.';

create function tinydevcrm._find_unfit_row(source text, expression text)
    returns bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_first bigint := 1;
    v_last  bigint;
    v_half  bigint;
begin
    execute format('select count(*) from %s', _find_unfit_row.source)
       into v_last;

    -- The half in which the expression fails has the row.
    while v_first < v_last loop
        v_half := (v_first + v_last) / 2;
        begin
            execute format(
                'select count(%s) from (select * from %s order by ctid limit %s offset %s) as rows',
                _find_unfit_row.expression, _find_unfit_row.source, v_half - v_first + 1,
                v_first - 1);
            v_first := v_half + 1;
        exception
            when data_exception then
                v_last := v_half;
        end;
    end loop;

    return v_first;
end
$$;

comment on function tinydevcrm._find_unfit_row(text, text) is
    'The number of the first row of a table, from 1, for which an expression raises a '
    'data_exception.';

create function tinydevcrm._find_row(import tinydevcrm.imports, condition text)
    returns bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_row bigint;
begin
    execute format(
        'select min(number) from (select row_number() over (order by ctid) as number, '
        '%s as is_found from %s) as rows where is_found',
        _find_row.condition, tinydevcrm._find_loading_table(import))
       into v_row;
    return v_row;
end
$$;

comment on function tinydevcrm._find_row(tinydevcrm.imports, text) is
    'The number of the first loaded row for which a condition holds, from 1; null when there is '
    'none.';

create function tinydevcrm._refuse_value(
    import      tinydevcrm.imports,
    column_name text,
    type        text,
    row_number  bigint,
    hint        text
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_value text;
begin
    execute format(
        'select %I::text from %s order by ctid limit 1 offset %s',
        _refuse_value.column_name, tinydevcrm._find_loading_table(import),
        _refuse_value.row_number - 1)
       into v_value;

    raise exception using
        errcode = 'TD006',
        message = format(
            'a value of column %I cannot be read as %s',
            _refuse_value.column_name, _refuse_value.type),
        detail  = format(
            'row %s, column %I: %L',
            _refuse_value.row_number, _refuse_value.column_name, left(v_value, 200)),
        hint    = _refuse_value.hint;
end
$$;

comment on function tinydevcrm._refuse_value(tinydevcrm.imports, text, text, bigint, text) is
    'Raises TD006 for the value of a column that its given type does not fit. The row is counted '
    'from 1.';

revoke execute on function
    tinydevcrm._refuse_value(tinydevcrm.imports, text, text, bigint, text),
    tinydevcrm._find_row(tinydevcrm.imports, text),
    tinydevcrm._find_unfit_row(text, text),
    tinydevcrm._list_forms(text, text, text[]),
    tinydevcrm._check_table_name(text),
    tinydevcrm._refuse_name_in_use(text),
    tinydevcrm._check_target(tinydevcrm.imports),
    tinydevcrm._find_loading_table(tinydevcrm.imports),
    tinydevcrm._create_loading_table(tinydevcrm.imports)
from public;

grant execute on function
    tinydevcrm._refuse_value(tinydevcrm.imports, text, text, bigint, text),
    tinydevcrm._find_row(tinydevcrm.imports, text),
    tinydevcrm._find_unfit_row(text, text),
    tinydevcrm._list_forms(text, text, text[]),
    tinydevcrm._check_table_name(text),
    tinydevcrm._refuse_name_in_use(text),
    tinydevcrm._check_target(tinydevcrm.imports),
    tinydevcrm._find_loading_table(tinydevcrm.imports),
    tinydevcrm._create_loading_table(tinydevcrm.imports)
to tinydevcrm_user;
