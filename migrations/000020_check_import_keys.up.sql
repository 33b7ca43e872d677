-- The key of an import, and how its table is distributed.

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
            message = format('the file has no column %L for the key', left(v_unknown, 200)),
            hint    = 'Name the columns of the key as they are named in the table.';
    end if;
end
$$;

comment on function tinydevcrm._check_key(tinydevcrm.imports) is
    'Checks that the key of mode upsert names columns of the file. Raises TD006.';

create function tinydevcrm._check_distribution(import tinydevcrm.imports)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation constant regclass := to_regclass(tinydevcrm._target(import));
    v_column   constant name := tinydevcrm._find_distribution_column(v_relation);
    v_wanted   constant text := coalesce((import).distribute_by, v_column::text);
begin
    if (import).distribute_by is not null then
        perform tinydevcrm._check_citus();

        if not exists (
            select
              from jsonb_array_elements((import).columns) as planned
             where planned->>'name' = (import).distribute_by
        ) then
            raise exception using
                errcode = 'TD006',
                message = format('the file has no column %L to distribute by', v_wanted),
                hint    = 'Name the column as it is named in the table.';
        end if;

        if (import).mode <> 'replace' and v_column <> v_wanted then
            perform tinydevcrm._refuse_other_column(v_relation, v_column, v_wanted);
        end if;
    end if;

    if (import).mode = 'upsert' and v_wanted <> all ((import).key) then
        perform tinydevcrm._refuse_distribution(
            format('the key lacks %I, the column that distributes the table', v_wanted),
            'Each worker checks only its own rows: add the column to the key.');
    end if;
end
$$;

comment on function tinydevcrm._check_distribution(tinydevcrm.imports) is
    'Checks the column by which an import is to be distributed, before the file is read. Raises '
    'TD006 when the file has no such column, TD010 when the database has no Citus, TD011 when the '
    'table is distributed by another column or the key of mode upsert lacks the column.';

create function tinydevcrm._format_key(import tinydevcrm.imports)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(quote_ident(key), ', ' order by number)
      from unnest((import).key) with ordinality as key (key, number)
$$;

comment on function tinydevcrm._format_key(tinydevcrm.imports) is
    'The key of mode upsert as a list of quoted names.';

create function tinydevcrm._build_conflict_clause(import tinydevcrm.imports)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               'on conflict (%s) do %s',
               tinydevcrm._format_key(import),
               coalesce(
                   'update set '
                   || string_agg(format('%1$I = excluded.%1$I', planned->>'name'), ', ')
                          filter (where planned->>'name' <> all ((import).key)),
                   'nothing'))
      from jsonb_array_elements((import).columns) as planned
     where exists (
        select
          from pg_attribute
         where attrelid = to_regclass(tinydevcrm._target(import))
           and attname::text = planned->>'name'
     )
$$;

comment on function tinydevcrm._build_conflict_clause(tinydevcrm.imports) is
    'The clause by which mode upsert updates an existing row.';

create function tinydevcrm._enforces_key(import tinydevcrm.imports)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(bool_and(attnotnull) filter (where attname::text = any ((import).key)), false)
           and tinydevcrm._build_conflict_clause(import) not like '% do nothing'
      from pg_attribute
     where attrelid = to_regclass(tinydevcrm._target(import))
       and attnum > 0
$$;

comment on function tinydevcrm._enforces_key(tinydevcrm.imports) is
    'Whether the insert of mode upsert fails by itself when two rows share a key or a row has none: '
    'it updates, which no row takes twice, and the columns of the key are not null.';

create function tinydevcrm._check_key_values(import tinydevcrm.imports, loading text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_key  constant text := tinydevcrm._format_key(import);
    v_text text;
begin
    execute format(
        'select row(%1$s)::text from %2$s where num_nulls(%1$s) > 0 limit 1', v_key, loading)
       into v_text;

    if v_text is not null then
        raise exception using
            errcode = 'TD009',
            message = 'a row of the file has no value for the key',
            detail  = left(format('(%s) = %s', v_key, v_text), 1000),
            hint    = 'Fill the value in, or choose another key.';
    end if;

    execute format(
        'select row(%1$s)::text from %2$s group by %1$s having count(*) > 1 limit 1',
        v_key, loading)
       into v_text;

    if v_text is not null then
        raise exception using
            errcode = 'TD009',
            message = 'two rows of the file have the same key',
            detail  = left(format('(%s) = %s', v_key, v_text), 1000),
            hint    = 'Remove all but one of them, or choose another key.';
    end if;
end
$$;

comment on function tinydevcrm._check_key_values(tinydevcrm.imports, text) is
    'Checks that each row of the file has a key for mode upsert, and that no two rows share one. '
    'Raises TD009.';

create function tinydevcrm._add_key(import tinydevcrm.imports)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'alter table %s add primary key (%s)',
        tinydevcrm._target(import), tinydevcrm._format_key(import));
exception
    when unique_violation or not_null_violation then
        perform tinydevcrm._check_key_values(import, tinydevcrm._target(import));
        raise;
end
$$;

comment on function tinydevcrm._add_key(tinydevcrm.imports) is
    'Adds the primary key to a table that mode upsert has created. The next upsert needs it. '
    'Raises TD009 when rows share a key or have none.';

create function tinydevcrm._distribute_import(import tinydevcrm.imports)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation constant regclass := to_regclass(tinydevcrm._target(import));
begin
    if (import).distribute_by is null then
        return tinydevcrm._find_distribution(v_relation);
    end if;

    return tinydevcrm.distribute_table(v_relation, (import).distribute_by);
end
$$;

comment on function tinydevcrm._distribute_import(tinydevcrm.imports) is
    'Distributes the table of an import, with its rows, if the import asks for it. Returns what '
    'distribute_table() returns.';

revoke execute on function
    tinydevcrm._check_key(tinydevcrm.imports),
    tinydevcrm._check_distribution(tinydevcrm.imports),
    tinydevcrm._format_key(tinydevcrm.imports),
    tinydevcrm._build_conflict_clause(tinydevcrm.imports),
    tinydevcrm._enforces_key(tinydevcrm.imports),
    tinydevcrm._check_key_values(tinydevcrm.imports, text),
    tinydevcrm._add_key(tinydevcrm.imports),
    tinydevcrm._distribute_import(tinydevcrm.imports)
from public;

grant execute on function
    tinydevcrm._check_key(tinydevcrm.imports),
    tinydevcrm._check_distribution(tinydevcrm.imports),
    tinydevcrm._format_key(tinydevcrm.imports),
    tinydevcrm._build_conflict_clause(tinydevcrm.imports),
    tinydevcrm._enforces_key(tinydevcrm.imports),
    tinydevcrm._check_key_values(tinydevcrm.imports, text),
    tinydevcrm._add_key(tinydevcrm.imports),
    tinydevcrm._distribute_import(tinydevcrm.imports)
to tinydevcrm_user;
