-- The two extensions everything else stands on. One that is there already is used as it is; one
-- made here carries a mark in its comment, by which the down migration knows it again.

do $$
declare
    v_extension text;
begin
    foreach v_extension in array array['pg_cron', 'plpython3u'] loop
        if exists (
            select
              from pg_catalog.pg_extension
             where extname = v_extension
        ) then
            continue;
        end if;

        if not exists (
            select
              from pg_catalog.pg_available_extensions
             where name = v_extension
        ) then
            raise exception using
                errcode = 'TD010',
                message = format('extension %s is not installed on this server', v_extension),
                hint    = format(
                    'Install it on the machine of the server: see extensions/%s/README.md.',
                    v_extension);
        end if;

        if v_extension = 'pg_cron'
           and 'pg_cron' <> all (
               regexp_split_to_array(current_setting('shared_preload_libraries'), '[\s",]+'))
        then
            raise exception using
                errcode = 'TD010',
                message = 'pg_cron is not in shared_preload_libraries',
                hint    = 'Set shared_preload_libraries = ''pg_cron'' in postgresql.conf and '
                          'restart the server: see extensions/pg_cron/README.md.';
        end if;

        if v_extension = 'pg_cron'
           and current_setting('cron.database_name') <> current_database()
        then
            raise exception using
                errcode = 'TD010',
                message = format(
                    'pg_cron works in database %s of this server, not in %s',
                    current_setting('cron.database_name'), current_database()),
                hint    = format(
                    'Set cron.database_name = %L in postgresql.conf and restart the server, '
                    'or connect to the other database.', current_database());
        end if;

        execute format('create extension %I', v_extension);
        execute format(
            'comment on extension %I is %L', v_extension, 'Created by TinyDevCRM''s migrations.');
    end loop;
end
$$;
