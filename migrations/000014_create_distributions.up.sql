-- How a table is distributed across the workers of Citus, when this database is a coordinator. Our
-- own tables stay on the coordinator, with pg_cron, the triggers and the channel. Without Citus no
-- table is distributed.

create function tinydevcrm._find_distribution(relation regclass)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pg_catalog.pg_dist_partition') is null then
        return null;
    end if;

    -- Leaves out a table that Citus knows but keeps on the coordinator.
    return (
        select case
                   when partmethod <> 'n' then
                       'distributed by '
                       || quote_ident(column_to_column_name(logicalrelid, partkey))
                   when repmodel = 't' then 'reference'
                   when colocationid <> 0 then 'on one worker'
               end
          from pg_dist_partition
         where logicalrelid = _find_distribution.relation
    );
end
$$;

comment on function tinydevcrm._find_distribution(regclass) is
    'How a table is distributed across the workers of Citus: "distributed by x" when its rows are '
    'sharded by that column, "reference" when each worker has a copy, "on one worker" when Citus '
    'shards by schema. Null for a table that is only on this server.';

create function tinydevcrm._find_distribution_column(relation regclass)
    returns name
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pg_catalog.pg_dist_partition') is null then
        return null;
    end if;

    return (
        select column_to_column_name(logicalrelid, partkey)
          from pg_dist_partition
         where logicalrelid = _find_distribution_column.relation
           and partmethod <> 'n'
    );
end
$$;

comment on function tinydevcrm._find_distribution_column(regclass) is
    'The column by which the rows of a table are sharded across the workers of Citus. Null when '
    'they are not sharded.';

create function tinydevcrm._check_citus()
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_extension where extname = 'citus') then
        raise exception using
            errcode = 'TD010',
            message = 'this database is not a Citus coordinator: it has no workers',
            hint    = 'Install Citus, set shared_preload_libraries = ''citus,pg_cron'', restart '
                      'the server, then: create extension citus; select '
                      'citus_add_node(''address'', 5432); for each worker.';
    end if;
end
$$;

comment on function tinydevcrm._check_citus() is
    'Raises TD010 when the database has no Citus.';

revoke execute on function
    tinydevcrm._find_distribution(regclass),
    tinydevcrm._find_distribution_column(regclass),
    tinydevcrm._check_citus()
from public;

grant execute on function
    tinydevcrm._find_distribution(regclass),
    tinydevcrm._find_distribution_column(regclass),
    tinydevcrm._check_citus()
to tinydevcrm_user;
