-- More than one machine: a Citus coordinator shards a table across its workers, or copies it to
-- each worker.

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
        format('table %s is already distributed by %I, not by %I', relation, present, wanted),
        'Import the whole file in mode replace, which recreates the table if no view reads it, or '
        'drop the table first.');
end
$$;

comment on function tinydevcrm._refuse_other_column(regclass, name, text) is
    'Raises TD011 for a table that is already distributed by another column.';

create function tinydevcrm._check_table(relation regclass, distribute_by text)
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
     where oid = _check_table.relation;

    if v_class.relkind is null or v_class.relkind not in ('r', 'p') then
        perform tinydevcrm._refuse_distribution(
            format('%s is not a table', coalesce(_check_table.relation::text, 'null')),
            'Only tables are distributed; the views on them stay on the coordinator.');
    end if;

    if v_class.relnamespace = 'tinydevcrm'::regnamespace then
        perform tinydevcrm._check_schema('tinydevcrm');
    end if;

    perform tinydevcrm._check_session_of(_check_table.relation);

    if _check_table.distribute_by is not null and not exists (
        select
          from pg_attribute
         where attrelid = _check_table.relation
           and attname::text = _check_table.distribute_by
           and attnum > 0
           and not attisdropped
    ) then
        raise exception using
            errcode = 'TD006',
            message = format(
                'table %s has no column %L to distribute by',
                _check_table.relation, _check_table.distribute_by),
            hint    = 'Name one of its columns as it is written in the table.';
    end if;

    return v_class;
end
$$;

comment on function tinydevcrm._check_table(regclass, text) is
    'Checks that the caller may distribute a table by a column, and returns the table. Raises '
    'TD006 when it has no such column, TD007 when it is one of ours, TD011 when it is not a table, '
    '42501 when the session has not logged in as its owner.';

create function tinydevcrm._check_neighbours(relation regclass)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_neighbour regclass;
begin
    -- Citus would convert the other table too, and recreate that table and the views on it.
    select neighbour
      into v_neighbour
      from pg_constraint
     cross join lateral unnest(array[conrelid, confrelid]) as neighbour
     where contype = 'f'
       and _check_neighbours.relation in (conrelid, confrelid)
       and neighbour <> _check_neighbours.relation
       and tinydevcrm._find_distribution(neighbour) is null
     limit 1;

    if found then
        perform tinydevcrm._refuse_distribution(
            format(
                'a foreign key connects table %s with %s, which is not distributed',
                _check_neighbours.relation, v_neighbour),
            'Drop the key. Distribute both tables: the one that the key refers to as a reference '
            'table or by the same column. Add the key again.');
    end if;

    if exists (select from pg_dist_partition where logicalrelid = _check_neighbours.relation) then
        perform tinydevcrm._refuse_distribution(
            format(
                'Citus keeps table %s on the coordinator', _check_neighbours.relation),
            'Drop the views on it, then: select undistribute_table(''table''); and distribute it.');
    end if;
end
$$;

comment on function tinydevcrm._check_neighbours(regclass) is
    'Checks that Citus can distribute this table without recreating others. Raises TD011.';

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
                'the unique index %s of table %s lacks %I, the column to distribute by',
                v_index, _check_distributable.relation, _check_distributable.distribute_by),
            'Each worker checks only its own rows: drop the index, or distribute by a column of '
            'it.');
    end if;

    execute format(
        'select count(*) from %s where %I is null',
        _check_distributable.relation, _check_distributable.distribute_by)
       into v_nulls;

    if v_nulls > 0 then
        perform tinydevcrm._refuse_distribution(
            format(
                'column %I cannot distribute table %s: it is null in %s of the rows',
                _check_distributable.distribute_by, _check_distributable.relation, v_nulls),
            'Fill it in, or choose a column that has a value in each row.');
    end if;
end
$$;

comment on function tinydevcrm._check_distributable(regclass, text) is
    'Checks that the rows of a table can be sharded by a column. Raises TD011, and 42501 when the '
    'session has not logged in as the owner.';

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
    v_present      constant text := tinydevcrm._find_distribution(distribute_table.relation);
    v_column       constant name := tinydevcrm._find_distribution_column(distribute_table.relation);
    v_is_reference boolean := coalesce(distribute_table.as_reference, v_present = 'reference');
begin
    perform tinydevcrm._check_citus();
    v_class := tinydevcrm._check_table(distribute_table.relation, distribute_table.distribute_by);
    if v_present is null then
        perform tinydevcrm._lock_own_table(distribute_table.relation::text, 'exclusive');
    end if;

    if v_is_reference is null and v_column is null then
        execute format(
            -- The size that an empty table will have is unknown.
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
            format('table %s needs a column to distribute by', distribute_table.relation),
            'Name a column that most of your joins and groups use: select '
            'tinydevcrm.distribute_table(''table'', ''column'');');
    end if;

    if v_column <> distribute_table.distribute_by then
        perform tinydevcrm._refuse_other_column(
            distribute_table.relation, v_column, distribute_table.distribute_by);
    elsif v_present is not null and v_is_reference is distinct from (v_present = 'reference')
          and distribute_table.as_reference is not null
    then
        perform tinydevcrm._refuse_distribution(
            format(
                'table %s is already on the workers: %s', distribute_table.relation, v_present),
            'Drop the views on it, then: select undistribute_table(''table''); and distribute it '
            'again.');
    elsif v_present is not null then
        return v_present;
    end if;

    perform tinydevcrm._check_neighbours(distribute_table.relation);
    -- Citus distributes no table that has triggers.
    perform tinydevcrm._drop_change_triggers(distribute_table.relation);
    if v_is_reference then
        perform create_reference_table(distribute_table.relation);
    else
        perform tinydevcrm._check_distributable(
            distribute_table.relation, distribute_table.distribute_by);
        perform create_distributed_table(
            distribute_table.relation, distribute_table.distribute_by);
    end if;

    -- Citus has copied the rows to the workers and hides the originals here.
    perform truncate_local_data_after_distributing_table(distribute_table.relation);

    return tinydevcrm._find_distribution(distribute_table.relation);
end
$$;

comment on function tinydevcrm.distribute_table(regclass, text, boolean) is
    'Distributes a table of yours, with its rows, across the workers of Citus. Views on it stay. Its '
    'changes are no longer tracked: see track_table(). '
    'The rows are sharded by a column, or copied to each worker as a reference table: as_reference '
    'decides. When that is null, a table of 1 to settings.reference_row_limit rows becomes a '
    'reference table. A table that is already distributed in this way stays as it is. Returns '
    '"distributed by x" or "reference". Raises TD006 when there is no such column, TD010 when the '
    'database has no Citus, TD011 when the table cannot be distributed in this way, 42501 when the '
    'session has not logged in as the owner, and the errors of Citus.';

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
    -- Citus does not analyze a table that has rows on the coordinator, such as a reference table,
    -- in the transaction that filled it. Autovacuum does it later.
    when internal_error then
        null;
end
$$;

comment on function tinydevcrm._analyze_distributed(regclass) is
    'Analyzes a distributed table on its workers, when Citus can do so in a transaction. Raises '
    '42501 when the session has not logged in as the owner.';

create function tinydevcrm.list_distributions()
    returns setof text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._check_citus();

    -- Reference tables first, because foreign keys of other tables may refer to them.
    return query
    select format(
               'select tinydevcrm.distribute_table(%L, %L, %L);',
               format('%s.%I', relnamespace::regnamespace, relname),
               tinydevcrm._find_distribution_column(oid),
               repmodel = 't')
      from pg_dist_partition
      join pg_class
        on oid = logicalrelid
     where (partmethod <> 'n' or repmodel = 't')
       and not relispartition
       and pg_has_role(relowner, 'usage')
     order by repmodel = 't' desc, oid;
end
$$;

comment on function tinydevcrm.list_distributions() is
    'Statements that distribute your tables as they are distributed now. Keep them with a dump, in '
    'which all tables are plain, and run them after a restore. Raises TD010 when the database has '
    'no Citus.';

revoke execute on function
    tinydevcrm._refuse_distribution(text, text),
    tinydevcrm._refuse_other_column(regclass, name, text),
    tinydevcrm._check_table(regclass, text),
    tinydevcrm._check_neighbours(regclass),
    tinydevcrm._check_distributable(regclass, text),
    tinydevcrm.distribute_table(regclass, text, boolean),
    tinydevcrm._analyze_distributed(regclass),
    tinydevcrm.list_distributions()
from public;

grant execute on function
    tinydevcrm._refuse_distribution(text, text),
    tinydevcrm._refuse_other_column(regclass, name, text),
    tinydevcrm._check_table(regclass, text),
    tinydevcrm._check_neighbours(regclass),
    tinydevcrm._check_distributable(regclass, text),
    tinydevcrm.distribute_table(regclass, text, boolean),
    tinydevcrm._analyze_distributed(regclass),
    tinydevcrm.list_distributions()
to tinydevcrm_user;
