-- What may be wrong with an installation, each with what to type.

create function tinydevcrm.check_installation()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with server as (
        select current_setting('server_version_num')::integer / 10000 as major,
               'pg_cron' = any (
                   regexp_split_to_array(
                       current_setting('shared_preload_libraries'), '[\s",]+')) as is_preloaded,
               current_setting('cron.database_name', true) as cron_database,
               coalesce(current_setting('cron.use_background_workers', true), 'off') = 'on'
                   as has_workers,
               coalesce(current_setting('cron.host', true), '') as cron_host,
               (select extversion from pg_extension where extname = 'pg_cron') as cron_version
    ),
    last_runs as (
        select distinct on (schedules.id)
               schedules.schedule,
               schedules.owner,
               job_run_details.status,
               job_run_details.return_message
          from tinydevcrm.schedules
          join cron.job_run_details
            on job_run_details.jobid = schedules.job_id
         where pg_has_role(session_user, schedules.owner, 'usage')
         order by schedules.id, job_run_details.runid desc
    )
    select 'pg_cron is preloaded',
           is_preloaded,
           'shared_preload_libraries = ' || current_setting('shared_preload_libraries'),
           'Set shared_preload_libraries = ''pg_cron'' in postgresql.conf and restart the server.'
      from server
    union all
    select 'pg_cron works in this database',
           cron_database is not distinct from current_database(),
           'cron.database_name = ' || coalesce(cron_database, 'not set'),
           format(
               'Set cron.database_name = %L in postgresql.conf and restart the server.',
               current_database())
      from server
    union all
    select 'pg_cron is 1.3 or newer',
           coalesce(
               regexp_match(cron_version, '^(\d+)\.(\d+)')::integer[] >= array[1, 3], false),
           'pg_cron ' || coalesce(cron_version, 'is not there'),
           'alter extension pg_cron update; or install it newer: see extensions/pg_cron/README.md.'
      from server
    union all
    select 'pg_cron is running',
           tinydevcrm._cron_is_running(),
           'looked for its launcher in pg_stat_activity',
           'Restart the server, and look into its log if that does not help.'
    union all
    select 'notifications of jobs arrive',
           major >= 13 or not has_workers,
           format(
               'PostgreSQL %s, cron.use_background_workers = %s',
               major, current_setting('cron.use_background_workers', true)),
           'Before PostgreSQL 13 those of background workers wait for another session''s: '
           'alter system set cron.use_background_workers = off; then restart the server.'
      from server
    union all
    select 'pg_cron connects to this server',
           has_workers or cron_host in ('', 'localhost', '127.0.0.1', '::1') or exists (
               select
                 from regexp_split_to_table(current_setting('unix_socket_directories'), '\s*,\s*')
                          as directory
                where directory = cron_host
           ),
           case when has_workers then 'by background workers' else 'cron.host = ' || cron_host end,
           format(
               'alter system set cron.host = %L; then restart the server.',
               split_part(current_setting('unix_socket_directories'), ',', 1))
      from server
    union all
    select format('jobs of %s run', owner),
           bool_and(status <> 'failed'),
           coalesce(
               string_agg(schedule || ': ' || coalesce(return_message, ''), '; ')
                   filter (where status = 'failed'),
               'the last runs of its schedules did'),
           format(
               'Where it says "connection failed", let the role in: a line '
               '"local %s %s trust" (or peer with a map) in pg_hba.conf.',
               current_database(), owner)
      from last_runs
     group by owner
    union all
    select 'PL/Python is there',
           exists (
               select
                 from pg_language
                where lanname = 'plpython3u'
           ),
           'language plpython3u',
           'create extension plpython3u;'
    union all
    select 'you may use TinyDevCRM',
           pg_has_role(session_user, 'tinydevcrm_user', 'usage'),
           'as ' || session_user,
           format('grant tinydevcrm_user to %I;', session_user)
$$;

comment on function tinydevcrm.check_installation() is
    'Whether the server is set up as TinyDevCRM needs it: each finding with what was seen and, '
    'where it is not ok, what to type. Security definer: lends the right to see settings that '
    'only administrators may; of jobs, only those of roles that the session has.';

revoke execute on function tinydevcrm.check_installation() from public;

grant execute on function tinydevcrm.check_installation() to tinydevcrm_user;
