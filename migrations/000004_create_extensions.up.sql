-- The extensions that everything else needs. An extension that the database already has is used
-- as it is. One that this migration creates gets a mark in its comment, by which the down migration
-- recognizes it.

do $$
declare
    v_problem   record;
    v_extension text;
begin
    select server.*
      into v_problem
      from tinydevcrm._check_server() as server
     where server.is_needed
       and not server.is_ok
     limit 1;

    if found then
        raise exception using
            errcode = 'TD010',
            message = format('requirement not met: %s (%s)', v_problem.finding, v_problem.detail),
            hint    = v_problem.hint;
    end if;

    -- On a Citus coordinator the workers need neither the extensions nor the rights on their
    -- objects.
    if current_setting('citus.enable_ddl_propagation', true) is not null then
        perform set_config('citus.enable_ddl_propagation', 'off', true);
    end if;

    for v_extension in
        select wanted.extension
          -- Postgres itself makes random numbers that are good enough for secrets from 13 on.
          from (values ('pg_cron', 0), ('pgcrypto', 12)) as wanted (extension, last_major)
         where wanted.last_major = 0
               or current_setting('server_version_num')::integer / 10000 <= wanted.last_major
        except
        select extname::text
          from pg_catalog.pg_extension
    loop
        execute format('create extension %I', v_extension);
        execute format(
            'comment on extension %I is %L', v_extension, 'Created by TinyDevCRM''s migrations.');
    end loop;
end
$$;

-- pg_cron lets every role delete from its history. Any role could then lock that table, which stops
-- all jobs. Users need no right on pg_cron, because triggers create their jobs.
revoke delete on cron.job_run_details from public;
