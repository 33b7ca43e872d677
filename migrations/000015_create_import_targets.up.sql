-- Where the rows of an import go: the table that it creates or fills, and the table that its COPY
-- fills.

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
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation constant regclass := to_regclass(tinydevcrm._target(import));
    v_mode     tinydevcrm.import_modes;
    v_kind     "char";
begin
    perform tinydevcrm._check_schema((import).schema_name);

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
                'The key names the columns by which mode %s finds the row to update.',
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
    if (import).mode = 'create' and v_kind is not null then
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

revoke execute on function
    tinydevcrm._check_table_name(text),
    tinydevcrm._refuse_name_in_use(text),
    tinydevcrm._check_target(tinydevcrm.imports),
    tinydevcrm._find_loading_table(tinydevcrm.imports),
    tinydevcrm._create_loading_table(tinydevcrm.imports)
from public;

grant execute on function
    tinydevcrm._check_table_name(text),
    tinydevcrm._refuse_name_in_use(text),
    tinydevcrm._check_target(tinydevcrm.imports),
    tinydevcrm._find_loading_table(tinydevcrm.imports),
    tinydevcrm._create_loading_table(tinydevcrm.imports)
to tinydevcrm_user;
