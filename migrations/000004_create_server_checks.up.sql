-- What TinyDevCRM needs of the server. The migrations check it before they go on, and
-- check_installation() checks it at any time.

create function tinydevcrm._setting(name text)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select pg_settings.setting
      from pg_settings
     where pg_settings.name = _setting.name
$$;

comment on function tinydevcrm._setting(text) is
    'A setting of the server; null when there is none of that name, or when only a superuser or a '
    'member of pg_read_all_settings may see it.';

create function tinydevcrm._hidden()
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select 'not checked: the setting is shown only to members of pg_read_all_settings'::text
$$;

comment on function tinydevcrm._hidden() is
    'What a check says that cannot see a setting.';

create function tinydevcrm._may_signal(owner oid)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- Null for a role that has been dropped.
    select pg_has_role('pg_signal_backend', 'usage')
        or coalesce(pg_has_role(_may_signal.owner, 'usage'), false)
$$;

comment on function tinydevcrm._may_signal(oid) is
    'Whether the current role may end a session of another role, which is no superuser, and cancel '
    'its statements.';

create function tinydevcrm._create_event_trigger(
    name     text,
    event    text,
    tags     text[],
    function text,
    comment  text
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'create event trigger %I on %s %s execute function tinydevcrm.%I()',
        _create_event_trigger.name,
        _create_event_trigger.event,
        'when tag in (' || (
            select string_agg(quote_literal(tag), ', ')
              from unnest(_create_event_trigger.tags) as tag
        ) || ')',
        _create_event_trigger.function);

    -- With session_replication_role = replica too, as the trigger on tables.
    execute format('alter event trigger %I enable always', _create_event_trigger.name);
    execute format(
        'comment on event trigger %I is %L',
        _create_event_trigger.name, _create_event_trigger.comment);
exception
    when insufficient_privilege then
        raise notice 'event trigger % is left out: %', _create_event_trigger.name, sqlerrm
            using hint = 'Upkeep follows each minute what it would have followed at once.';
end
$$;

comment on function tinydevcrm._create_event_trigger(text, text, text[], text, text) is
    'Creates an event trigger of ours, where the role may do that: a superuser, and at some '
    'providers the first role too.';

create function tinydevcrm._drop_event_trigger(name text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
          from pg_event_trigger
         where evtname = _drop_event_trigger.name
    ) then
        execute format('drop event trigger %I', _drop_event_trigger.name);
    end if;
end
$$;

comment on function tinydevcrm._drop_event_trigger(text) is
    'Drops an event trigger of ours, where it was created.';

create function tinydevcrm._set_for_citus(function regprocedure, setting text, value text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'alter function %s set %s = %L',
        _set_for_citus.function, _set_for_citus.setting, _set_for_citus.value);
exception
    -- Without Citus the setting is unknown, and only a superuser may attach an unknown one.
    when insufficient_privilege then
        null;
end
$$;

comment on function tinydevcrm._set_for_citus(regprocedure, text, text) is
    'Attaches a setting of Citus to a function of ours, which does nothing without Citus.';

create function tinydevcrm._follows_at_once()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select count(*) = 5
      from pg_event_trigger
     where evtname like 'tinydevcrm\_follow\_%'
       and evtenabled <> 'D'
$$;

comment on function tinydevcrm._follows_at_once() is
    'Whether the registry follows at once what is dropped, renamed or changed by hand: whether our '
    'event triggers exist. Else upkeep follows it each minute.';

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
               tinydevcrm._setting('shared_preload_libraries') as libraries,
               tinydevcrm._setting('shared_preload_libraries') is null as is_hidden,
               tinydevcrm._setting('cron.database_name') as cron_database,
               coalesce(
                   tinydevcrm._setting('cron.use_background_workers'), 'off') as has_workers,
               coalesce(tinydevcrm._setting('cron.host'), '') as cron_host,
               regexp_split_to_array(
                   tinydevcrm._setting('unix_socket_directories'), '\s*,\s*') as socket_directories
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
           coalesce('pg_cron' = any (regexp_split_to_array(libraries, '[\s",]+')), true),
           true,
           coalesce('shared_preload_libraries = ' || libraries, tinydevcrm._hidden()),
           'Set shared_preload_libraries = ''pg_cron'' in postgresql.conf and restart the server: '
           'see extensions/pg_cron/README.md. Or start orchestrator up --clock.'
      from server
     where not tinydevcrm._has_clock()
    union all
    select 'pg_cron works in this database',
           coalesce(cron_database = current_database(), is_hidden),
           true,
           case
               when is_hidden then tinydevcrm._hidden()
               else concat('cron.database_name = ', cron_database)
           end,
           format(
               'Set cron.database_name = %L in postgresql.conf and restart the server, or connect '
               'to the other database. Or start orchestrator up --clock.', current_database())
      from server
     where not tinydevcrm._has_clock()
    union all
    select 'notifications of jobs arrive',
           major >= 13 or has_workers = 'off',
           false,
           format(
               'PostgreSQL %s, cron.use_background_workers = %s',
               major, case when is_hidden then 'unknown' else has_workers end),
           'Before PostgreSQL 13 a notification of a background worker waits until another session '
           'sends one: alter system set cron.use_background_workers = off; then restart the server.'
      from server
     where not tinydevcrm._has_clock()
    union all
    select 'pg_cron connects to this server',
           is_hidden
           or has_workers = 'on'
           or cron_host in ('', 'localhost', '127.0.0.1', '::1')
           or cron_host = any (socket_directories),
           false,
           case
               when is_hidden then tinydevcrm._hidden()
               when has_workers = 'on' then 'by background workers'
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

revoke execute on function
    tinydevcrm._setting(text),
    tinydevcrm._hidden(),
    tinydevcrm._may_signal(oid),
    tinydevcrm._create_event_trigger(text, text, text[], text, text),
    tinydevcrm._drop_event_trigger(text),
    tinydevcrm._set_for_citus(regprocedure, text, text),
    tinydevcrm._follows_at_once(),
    tinydevcrm._has_clock(),
    tinydevcrm._check_server()
from public;

grant execute on function tinydevcrm._has_clock() to tinydevcrm_user;
