-- The job that removes what has expired, so that no table grows without end, and what it removes besides events.

create procedure tinydevcrm.remove_expired(batch_size integer default 10000)
    language plpgsql
as $$
-- It commits after each batch, so it cannot set a search_path: all names are qualified.
declare
    v_last_id    bigint := 0;
    v_matview_id bigint;
begin
    if remove_expired.batch_size operator(pg_catalog.<) 1 or remove_expired.batch_size is null then
        raise exception using
            errcode = 'TD007',
            message = 'a batch has at least 1 row';
    end if;

    while v_last_id is not null loop
        v_last_id := tinydevcrm._remove_expired_events(v_last_id, remove_expired.batch_size);
        commit;
    end loop;

    foreach v_matview_id in array tinydevcrm._list_surplus_matviews() loop
        while tinydevcrm._remove_surplus_events(v_matview_id, remove_expired.batch_size)
              operator(pg_catalog.>=) remove_expired.batch_size
        loop
            commit;
        end loop;

        commit;
    end loop;

    while tinydevcrm._remove_expired_job_runs(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;

    commit;

    while tinydevcrm._remove_expired_imports(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;

    commit;

    while tinydevcrm._remove_expired_drops(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;

    commit;

    while tinydevcrm._remove_expired_runs(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.remove_expired(integer) is
    'Removes refresh events with their deliveries, imports, runs of sources, definitions of dropped '
    'views, and '
    'pg_cron''s history of TinyDevCRM''s jobs when they are older than tinydevcrm.settings says, and events of a '
    'materialized view beyond event_limit. Each batch is a transaction of its own. Events with '
    'deliveries that are not acknowledged are kept until delivery_retention is over; then these '
    'count as expired. It never waits: rows that another session has locked stay until the next '
    'time. A pg_cron job calls it every ten minutes. Raises TD007 when batch_size is not at least '
    '1.';

create function tinydevcrm._remove_expired_job_runs(batch_size integer)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    -- Where pg_cron is somebody else's.
    if not has_table_privilege('cron.job_run_details', 'select')
       or not has_table_privilege('cron.job_run_details', 'delete')
    then
        return 0;
    end if;

    -- Reads only the oldest.
    with oldest as (
        select job_run_details.runid,
               job_run_details.end_time < now() - settings.job_run_retention as is_expired,
               -- pg_cron writes no end time when the server crashes or a job is killed.
               job_run_details.end_time is null and job_run_details.status <> 'running'
                   as is_cut_off
          from cron.job_run_details
         cross join tinydevcrm.settings
         where job_run_details.command like 'call tinydevcrm.%'
         order by job_run_details.runid
         limit _remove_expired_job_runs.batch_size
    ),
    last_expired as (
        select max(oldest.runid) as runid
          from oldest
         where oldest.is_expired
    ),
    removed as (
        delete
          from cron.job_run_details
         using oldest
         cross join last_expired
         where job_run_details.runid = oldest.runid
           and oldest.runid <= last_expired.runid
           and (oldest.is_expired or oldest.is_cut_off)
        returning job_run_details.runid
    )
    select count(*)
      into v_count
      from removed;

    return v_count;
end
$$;

comment on function tinydevcrm._remove_expired_job_runs(integer) is
    'Removes one batch of pg_cron''s expired history of TinyDevCRM''s jobs and returns how many. '
    'Runs that were cut off have no end time: they are removed with the expired runs that began '
    'after them.';

create function tinydevcrm._remove_expired_imports(batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- Searches by number, which has an index, up to the first import that has not expired.
    with first_kept as (
        select imports.id
          from tinydevcrm.imports
         where imports.started_at >= now() - (
                   select import_retention
                     from tinydevcrm.settings
               )
         order by imports.id
         limit 1
    ),
    expired as (
        select imports.id
          from tinydevcrm.imports
         where imports.id < coalesce((select first_kept.id from first_kept), 9223372036854775807)
           and (
               to_regclass(format('%I.%I', imports.schema_name, imports.table_name)) is null
               or exists (
                   select
                     from tinydevcrm.imports as later
                    where later.owner = imports.owner
                      and later.finished_at is not null
                      and later.schema_name = imports.schema_name
                      and later.table_name = imports.table_name
                      and later.id > imports.id
               )
           )
         order by imports.id
         limit _remove_expired_imports.batch_size
           for update skip locked
    ),
    removed as (
        delete
          from tinydevcrm.imports
         using expired
         where imports.id = expired.id
        returning imports.id
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_expired_imports(integer) is
    'Removes one batch of expired imports, with their problems, and returns how many. The last '
    'finished import of a table stays as long as the table: it says where the rows are from. Rows '
    'that another user has written count for nothing, because anyone can write any name.';

create function tinydevcrm._remove_expired_drops(batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with ranked as (
        select dropped_matviews.id,
               dropped_matviews.dropped_at < now() - settings.drop_retention as is_expired,
               row_number() over (
                   partition by dropped_matviews.owner
                   order by dropped_matviews.dropped_at desc
               ) as place
          from tinydevcrm.dropped_matviews
         cross join tinydevcrm.settings
    ),
    expired as (
        select dropped_matviews.id
          from tinydevcrm.dropped_matviews
         where dropped_matviews.id in (
                   select ranked.id
                     from ranked
                    where ranked.is_expired
                       or ranked.place > 1000
               )
           and not exists (
               select
                 from tinydevcrm.subscriptions
                where subscriptions.matview_id = dropped_matviews.id
           )
         limit _remove_expired_drops.batch_size
           for update skip locked
    ),
    removed as (
        delete
          from tinydevcrm.dropped_matviews
         using expired
         where dropped_matviews.id = expired.id
        returning dropped_matviews.id
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_expired_drops(integer) is
    'Removes one batch of the expired definitions of dropped materialized views to which there are '
    'no subscriptions, and returns how many. Of each owner it keeps 1000 at most, so that nobody '
    'fills the table by creating and dropping.';

create function tinydevcrm._remove_expired_runs(batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with ranked as (
        select source_runs.id,
               source_runs.created_at < now() - settings.import_retention as is_expired,
               row_number() over (
                   partition by source_runs.source_id
                   order by source_runs.id desc
               ) as place
          from tinydevcrm.source_runs
         cross join tinydevcrm.settings
    ),
    expired as (
        select source_runs.id
          from tinydevcrm.source_runs
         where source_runs.id in (
                   select ranked.id
                     from ranked
                    where ranked.is_expired
                       or ranked.place > 1000
               )
           and source_runs.finished_at is not null
         limit _remove_expired_runs.batch_size
           for update skip locked
    ),
    removed as (
        delete
          from tinydevcrm.source_runs
         using expired
         where source_runs.id = expired.id
        returning source_runs.id
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_expired_runs(integer) is
    'Removes one batch of the runs of sources that are older than '
    'tinydevcrm.settings.import_retention, or beyond the last 1000 of their source, and returns how '
    'many.';

revoke execute on procedure tinydevcrm.remove_expired(integer) from public;
revoke execute on function
    tinydevcrm._remove_expired_job_runs(integer),
    tinydevcrm._remove_expired_imports(integer),
    tinydevcrm._remove_expired_drops(integer),
    tinydevcrm._remove_expired_runs(integer)
from public;

select cron.schedule(
    'tinydevcrm retention',
    '*/10 * * * *',
    'call tinydevcrm.remove_expired()');
