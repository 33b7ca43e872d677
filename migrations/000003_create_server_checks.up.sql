-- What TinyDevCRM needs of the server. The migrations check it before they go on, and
-- check_installation() checks it at any time.

create function tinydevcrm._has_clock()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when not exists (select from pg_namespace where nspname = 'cron') then
                   coalesce(current_setting('tinydevcrm_own.clock', true), '') = 'on'
               else not exists (select from pg_extension where extname = 'pg_cron')
           end
$$;

comment on function tinydevcrm._has_clock() is
    'Whether the orchestrator runs the jobs, by "up --clock", because this database is without '
    'pg_cron; before the migrations: whether the setting tinydevcrm_own.clock asks for that.';

create function tinydevcrm._check_server()
    returns table (finding text, is_ok boolean, is_needed boolean, detail text, hint text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with server as (
        select current_setting('server_version_num')::integer / 10000 as major,
               current_setting('shared_preload_libraries') as libraries,
               coalesce(current_setting('cron.database_name', true), '') as cron_database,
               coalesce(current_setting('cron.use_background_workers', true), 'off') as has_workers,
               coalesce(current_setting('cron.host', true), '') as cron_host,
               regexp_split_to_array(
                   current_setting('unix_socket_directories'), '\s*,\s*') as socket_directories
    ),
    extensions as (
        select wanted.extension,
               coalesce(
                   pg_extension.extversion,
                   pg_available_extensions.default_version) as version
          from server
          join lateral (
              values ('pg_cron', not tinydevcrm._has_clock()), ('pgcrypto', major < 13)
          ) as wanted (extension, is_wanted)
            on wanted.is_wanted
          left join pg_extension
            on pg_extension.extname = wanted.extension
          left join pg_available_extensions
            on pg_available_extensions.name = wanted.extension
    )
    select extension || ' is installed on the server',
           version is not null,
           true,
           'version ' || coalesce(version, 'none'),
           format(
               'Install it on the machine of the server: see extensions/%s/README.md.', extension)
           || case
               when extension = 'pg_cron' then
                   ' Or start orchestrator up --clock, which runs the schedules itself.'
               else ''
           end
      from extensions
    union all
    select 'pg_cron is 1.3 or newer',
           regexp_match(version, '^(\d+)\.(\d+)')::integer[] >= array[1, 3],
           true,
           'version ' || version,
           'Install a newer version on the machine of the server, then: alter extension pg_cron '
           'update;'
      from extensions
     where extension = 'pg_cron'
       and version is not null
    union all
    select 'pg_cron is preloaded',
           'pg_cron' = any (regexp_split_to_array(libraries, '[\s",]+')),
           true,
           'shared_preload_libraries = ' || libraries,
           'Set shared_preload_libraries = ''pg_cron'' in postgresql.conf and restart the server: '
           'see extensions/pg_cron/README.md. Or start orchestrator up --clock.'
      from server
     where not tinydevcrm._has_clock()
    union all
    select 'pg_cron works in this database',
           cron_database = current_database(),
           true,
           'cron.database_name = ' || cron_database,
           format(
               'Set cron.database_name = %L in postgresql.conf and restart the server, or connect '
               'to the other database. Or start orchestrator up --clock.', current_database())
      from server
     where not tinydevcrm._has_clock()
    union all
    select 'notifications of jobs arrive',
           major >= 13 or has_workers = 'off',
           false,
           format('PostgreSQL %s, cron.use_background_workers = %s', major, has_workers),
           'Before PostgreSQL 13 a notification of a background worker waits until another session '
           'sends one: alter system set cron.use_background_workers = off; then restart the server.'
      from server
     where not tinydevcrm._has_clock()
    union all
    select 'pg_cron connects to this server',
           has_workers = 'on'
           or cron_host in ('', 'localhost', '127.0.0.1', '::1')
           or cron_host = any (socket_directories),
           false,
           case has_workers
               when 'on' then 'by background workers'
               else 'cron.host = ' || cron_host
           end,
           format(
               'alter system set cron.host = %L; then restart the server.', socket_directories[1])
      from server
     where not tinydevcrm._has_clock()
$$;

comment on function tinydevcrm._check_server() is
    'Checks that the software and the settings of the server are as TinyDevCRM needs them. Each '
    'finding has what was seen (detail), what to type when it is not ok (hint), and whether '
    'nothing works without it (is_needed). Security definer: lends the right to see settings that '
    'only administrators may see.';

revoke execute on function tinydevcrm._has_clock(), tinydevcrm._check_server() from public;

grant execute on function tinydevcrm._has_clock() to tinydevcrm_user;
