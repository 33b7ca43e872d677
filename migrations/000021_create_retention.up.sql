-- What keeps the record from growing without end.

create procedure tinydevcrm.remove_expired(batch_size integer default 10000)
    language plpgsql
as $$
-- Commits after each batch, so it cannot have a search_path of its own: all names are qualified.
begin
    while tinydevcrm._remove_expired_events(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;

    commit;

    while tinydevcrm._remove_surplus_events(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;

    commit;

    while tinydevcrm._remove_expired_job_runs(remove_expired.batch_size)
          operator(pg_catalog.>=) remove_expired.batch_size
    loop
        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.remove_expired(integer) is
    'Removes refresh events, with their deliveries, and pg_cron''s history of TinyDevCRM''s jobs '
    'that are older, or of one materialized view more, than tinydevcrm.settings says, in batches '
    'of a transaction each. A pg_cron job calls it every ten minutes.';

create function tinydevcrm._remove_expired_events(batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- Only the oldest are looked at: a log of millions is not read to find that nothing is due.
    with oldest as (
        select matview_refresh_events.id,
               matview_refresh_events.started_at
          from tinydevcrm.matview_refresh_events
         order by matview_refresh_events.id
         limit _remove_expired_events.batch_size
    ),
    expired as (
        select oldest.id
          from oldest
         where oldest.started_at < now() - (
                   select event_retention
                     from tinydevcrm.settings
               )
    ),
    removed as (
        delete
          from tinydevcrm.matview_refresh_events
         using expired
         where matview_refresh_events.id = expired.id
        returning matview_refresh_events.id
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_expired_events(integer) is
    'Removes one batch of expired events, oldest first, and returns how many.';

create function tinydevcrm._remove_surplus_events(batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with surplus as (
        select events.id
          from tinydevcrm.matviews
         cross join lateral (
             select matview_refresh_events.id
               from tinydevcrm.matview_refresh_events
              where matview_refresh_events.matview_id = matviews.id
              order by matview_refresh_events.id desc
             offset (select event_limit from tinydevcrm.settings)
              limit _remove_surplus_events.batch_size
         ) as events
         limit _remove_surplus_events.batch_size
    ),
    removed as (
        delete
          from tinydevcrm.matview_refresh_events
         using surplus
         where matview_refresh_events.id = surplus.id
        returning matview_refresh_events.id
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_surplus_events(integer) is
    'Removes one batch of the events that a materialized view has too many of, and returns how '
    'many.';

create function tinydevcrm._remove_expired_job_runs(batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with expired as (
        select job_run_details.runid
          from cron.job_run_details
         where job_run_details.end_time < now() - (
                   select job_run_retention
                     from tinydevcrm.settings
               )
           and job_run_details.command like 'call tinydevcrm.%'
         order by job_run_details.runid
         limit _remove_expired_job_runs.batch_size
    ),
    removed as (
        delete
          from cron.job_run_details
         using expired
         where job_run_details.runid = expired.runid
        returning job_run_details.runid
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_expired_job_runs(integer) is
    'Removes one batch of pg_cron''s expired history of TinyDevCRM''s jobs and returns how many.';

revoke execute on procedure tinydevcrm.remove_expired(integer) from public;
revoke execute on function
    tinydevcrm._remove_expired_events(integer),
    tinydevcrm._remove_surplus_events(integer),
    tinydevcrm._remove_expired_job_runs(integer)
from public;

select cron.schedule(
    'tinydevcrm retention',
    '*/10 * * * *',
    'call tinydevcrm.remove_expired()');
