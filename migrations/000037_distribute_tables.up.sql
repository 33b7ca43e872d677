-- Past one machine: on a Citus coordinator a table is parted among the workers, or copied to each.

create function tinydevcrm._refuse_distribution(message text, hint text)
    returns void
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'TD011',
        message = _refuse_distribution.message,
        hint    = _refuse_distribution.hint;
end
$$;

comment on function tinydevcrm._refuse_distribution(text, text) is
    'Raises TD011.';

create function tinydevcrm._refuse_other_column(relation regclass, present name, wanted text)
    returns void
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._refuse_distribution(
        format('table %s is distributed by %I already, not by %I', relation, present, wanted),
        'Import the whole by mode replace, which makes it anew while no view is on it, or drop it '
        'first.');
end
$$;

comment on function tinydevcrm._refuse_other_column(regclass, name, text) is
    'Raises TD011 for a table that is distributed by another column.';

create function tinydevcrm._checked_table(relation regclass, distribute_by text)
    returns pg_class
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_class pg_class;
begin
    select pg_class.*
      into v_class
      from pg_class
     where oid = _checked_table.relation;

    if v_class.relkind is null or v_class.relkind not in ('r', 'p') then
        perform tinydevcrm._refuse_distribution(
            format('%s is not a table', coalesce(_checked_table.relation::text, 'null')),
            'Only tables are distributed; the views on them stay on the coordinator.');
    end if;

    if v_class.relnamespace = 'tinydevcrm'::regnamespace then
        perform tinydevcrm._check_schema('tinydevcrm');
    end if;

    perform tinydevcrm._check_session_of(_checked_table.relation);

    if _checked_table.distribute_by is not null and not exists (
        select
          from pg_attribute
         where attrelid = _checked_table.relation
           and attname::text = _checked_table.distribute_by
           and attnum > 0
           and not attisdropped
    ) then
        raise exception using
            errcode = 'TD006',
            message = format(
                'table %s has no column %L to distribute by',
                _checked_table.relation, _checked_table.distribute_by),
            hint    = 'Name one of its columns as it is written in the table.';
    end if;

    return v_class;
end
$$;

comment on function tinydevcrm._checked_table(regclass, text) is
    'A table that the caller may distribute by a column. Raises TD006 when it has no such column, '
    'TD007 when it is one of ours, TD011 when it is no table, 42501 when the session has not logged '
    'in as its owner.';

create function tinydevcrm._check_neighbours(relation regclass)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_neighbour regclass;
begin
    -- Citus would take it for its own first, which makes it, and the views on it, anew.
    select neighbour
      into v_neighbour
      from pg_constraint
     cross join lateral unnest(array[conrelid, confrelid]) as neighbour
     where contype = 'f'
       and _check_neighbours.relation in (conrelid, confrelid)
       and neighbour <> _check_neighbours.relation
       and tinydevcrm._distribution(neighbour) is null
     limit 1;

    if found then
        perform tinydevcrm._refuse_distribution(
            format(
                'table %s has a foreign key in common with %s, which is not distributed',
                _check_neighbours.relation, v_neighbour),
            'Drop the key, distribute both, the one it refers to as a reference table or by the '
            'same column, and add the key again.');
    end if;

    if exists (select from pg_dist_partition where logicalrelid = _check_neighbours.relation) then
        perform tinydevcrm._refuse_distribution(
            format(
                'table %s is one that Citus keeps on the coordinator', _check_neighbours.relation),
            'Drop the views on it, then: select undistribute_table(''table''); and distribute it.');
    end if;
end
$$;

comment on function tinydevcrm._check_neighbours(regclass) is
    'Checks that a table can be distributed without others being made anew. Raises TD011.';

create function tinydevcrm._check_distributable(relation regclass, distribute_by text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_index  text;
    v_nulls  bigint;
    v_attnum constant smallint := (
        select attnum
          from pg_attribute
         where attrelid = _check_distributable.relation
           and attname::text = _check_distributable.distribute_by
           and attnum > 0
           and not attisdropped
    );
begin
    perform tinydevcrm._check_session_of(_check_distributable.relation);

    select format('%I (%s)', relname, (
               select string_agg(quote_ident(attname), ', ')
                 from pg_attribute
                where attrelid = indrelid
                  and attnum = any (indkey::smallint[])
           ))
      into v_index
      from pg_index
      join pg_class
        on pg_class.oid = indexrelid
     where indrelid = _check_distributable.relation
       and (indisunique or indisexclusion)
       and v_attnum <> all (indkey::smallint[])
     limit 1;

    if found then
        perform tinydevcrm._refuse_distribution(
            format(
                'the unique index %s of table %s lacks %I, by which it would be distributed',
                v_index, _check_distributable.relation, _check_distributable.distribute_by),
            'A worker sees its own rows alone: drop the index, or distribute by a column of it.');
    end if;

    execute format(
        'select count(*) from %s where %I is null',
        _check_distributable.relation, _check_distributable.distribute_by)
       into v_nulls;

    if v_nulls > 0 then
        perform tinydevcrm._refuse_distribution(
            format(
                'column %I, by which table %s would be distributed, is null in %s of its rows',
                _check_distributable.distribute_by, _check_distributable.relation, v_nulls),
            'Fill it in, or choose a column that each row has a value for.');
    end if;
end
$$;

comment on function tinydevcrm._check_distributable(regclass, text) is
    'Checks that the rows of a table can be parted by a column. Raises TD011, and '
    '42501 in the session of another role than its owner.';

create function tinydevcrm.distribute_table(
    relation      regclass,
    distribute_by text default null,
    as_reference  boolean default null
)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set client_min_messages = 'warning'
as $$
declare
    v_class        pg_class;
    v_present      constant text := tinydevcrm._distribution(distribute_table.relation);
    v_column       constant name := tinydevcrm._distribution_column(distribute_table.relation);
    v_is_reference boolean := coalesce(distribute_table.as_reference, v_present = 'reference');
begin
    perform tinydevcrm._check_citus();
    v_class := tinydevcrm._checked_table(distribute_table.relation, distribute_table.distribute_by);
    if v_present is null then
        perform tinydevcrm._lock_own_table(distribute_table.relation::text, 'exclusive');
    end if;

    if v_is_reference is null and v_column is null then
        execute format(
            -- Of one that has none yet nobody knows.
            'select count(*) between 1 and $1 from (select from %s limit $1 + 1) as first_rows',
            distribute_table.relation)
           into v_is_reference
          using (select reference_row_limit from tinydevcrm.settings);
        v_is_reference := v_is_reference and v_class.relkind = 'r';
    end if;

    if not coalesce(v_is_reference, false)
       and coalesce(distribute_table.distribute_by, v_column::text) is null
    then
        perform tinydevcrm._refuse_distribution(
            format('table %s needs a column to be distributed by', distribute_table.relation),
            'Name one that most of your joins and groups have in common: '
            'select tinydevcrm.distribute_table(''table'', ''column'');');
    end if;

    if v_column <> distribute_table.distribute_by then
        perform tinydevcrm._refuse_other_column(
            distribute_table.relation, v_column, distribute_table.distribute_by);
    elsif v_present is not null and v_is_reference is distinct from (v_present = 'reference')
          and distribute_table.as_reference is not null
    then
        perform tinydevcrm._refuse_distribution(
            format(
                'table %s is on the workers already: %s', distribute_table.relation, v_present),
            'Drop the views on it, then: select undistribute_table(''table''); and distribute it '
            'again.');
    elsif v_present is not null then
        return v_present;
    end if;

    perform tinydevcrm._check_neighbours(distribute_table.relation);
    if v_is_reference then
        perform create_reference_table(distribute_table.relation);
    else
        perform tinydevcrm._check_distributable(
            distribute_table.relation, distribute_table.distribute_by);
        perform create_distributed_table(
            distribute_table.relation, distribute_table.distribute_by);
    end if;

    -- The rows that were here have been copied; Citus hides what is left of them.
    perform truncate_local_data_after_distributing_table(distribute_table.relation);

    return tinydevcrm._distribution(distribute_table.relation);
end
$$;

comment on function tinydevcrm.distribute_table(regclass, text, boolean) is
    'Distributes a table of yours over the workers of a Citus coordinator, with its rows and the '
    'views on it: parted by a column, or copied to each worker as a reference table. as_reference '
    'says which; when it is null, a table of at most settings.reference_row_limit rows, and at '
    'least one, becomes a reference table. Returns what it is then: "distributed by x" or '
    '"reference"; one that is so already stays. Raises TD006 when there is no such column, TD010 '
    'where Citus is not, TD011 when the table cannot be distributed so, 42501 when the session '
    'has not logged in as its owner, and what Citus says.';

create function tinydevcrm._check_distribution(import tinydevcrm.imports)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation constant regclass := to_regclass(tinydevcrm._target(import));
    v_column   constant name := tinydevcrm._distribution_column(v_relation);
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
                hint    = 'Name a column by the name that it gets in the table.';
        end if;

        if (import).mode <> 'replace' and v_column <> v_wanted then
            perform tinydevcrm._refuse_other_column(v_relation, v_column, v_wanted);
        end if;
    end if;

    if (import).mode = 'upsert' and v_wanted <> all ((import).key) then
        perform tinydevcrm._refuse_distribution(
            format('the key lacks %I, by which the table is distributed', v_wanted),
            'Each worker sees its own rows alone: add the column to the key.');
    end if;
end
$$;

comment on function tinydevcrm._check_distribution(tinydevcrm.imports) is
    'Checks, before the file is read, what an import is to be distributed by. Raises TD006 when '
    'the file has no such column, TD010 where Citus is not, TD011 when the table is distributed by '
    'another column or the key of mode upsert lacks it.';

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
        return tinydevcrm._distribution(v_relation);
    end if;

    return tinydevcrm.distribute_table(v_relation, (import).distribute_by);
end
$$;

comment on function tinydevcrm._distribute_import(tinydevcrm.imports) is
    'Distributes the table of an import as that was asked to, its rows in place; returns what it '
    'is then, as distribute_table() does.';

create function tinydevcrm._analyze_distributed(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._check_session_of(_analyze_distributed.relation);
    execute format('analyze %s', _analyze_distributed.relation);
exception
    -- What lies on the coordinator itself, as each reference table does too, Citus does not analyze
    -- in the transaction that filled it. Autovacuum will.
    when internal_error then
        null;
end
$$;

comment on function tinydevcrm._analyze_distributed(regclass) is
    'Has the workers look at the rows of a distributed table, where Citus lets a transaction do '
    'it. Raises 42501 in the session of another role than its owner.';

revoke execute on function
    tinydevcrm._refuse_distribution(text, text),
    tinydevcrm._refuse_other_column(regclass, name, text),
    tinydevcrm._checked_table(regclass, text),
    tinydevcrm._check_neighbours(regclass),
    tinydevcrm._check_distributable(regclass, text),
    tinydevcrm.distribute_table(regclass, text, boolean),
    tinydevcrm._check_distribution(tinydevcrm.imports),
    tinydevcrm._distribute_import(tinydevcrm.imports),
    tinydevcrm._analyze_distributed(regclass)
from public;

grant execute on function
    tinydevcrm._refuse_distribution(text, text),
    tinydevcrm._refuse_other_column(regclass, name, text),
    tinydevcrm._checked_table(regclass, text),
    tinydevcrm._check_neighbours(regclass),
    tinydevcrm._check_distributable(regclass, text),
    tinydevcrm.distribute_table(regclass, text, boolean),
    tinydevcrm._check_distribution(tinydevcrm.imports),
    tinydevcrm._distribute_import(tinydevcrm.imports),
    tinydevcrm._analyze_distributed(regclass)
to tinydevcrm_user;
