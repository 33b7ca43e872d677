-- The two extensions that everything else needs. An extension that the database already has is used
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
          from (values ('pg_cron'), ('plpython3u')) as wanted (extension)
         where wanted.extension not in (select extname from pg_catalog.pg_extension)
    loop
        execute format('create extension %I', v_extension);
        execute format(
            'comment on extension %I is %L', v_extension, 'Created by TinyDevCRM''s migrations.');
    end loop;
end
$$;

create function tinydevcrm._may_edit_jobs()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select has_table_privilege('cron.job', 'update') and not row_security_active('cron.job')
$$;

comment on function tinydevcrm._may_edit_jobs() is
    'Whether the current role sees pg_cron''s jobs of all roles, and may give a job to another role: '
    'a superuser, and at some providers the first role too.';

revoke execute on function tinydevcrm._may_edit_jobs() from public;

-- Elsewhere each role creates its own jobs: see tinydevcrm._run_as().
do $$
begin
    if not tinydevcrm._may_edit_jobs() then
        grant usage on schema cron to tinydevcrm_user;
    end if;
end
$$;

-- pg_cron lets every role delete from its history. Any role could then lock that table, which stops
-- all jobs. Only who created pg_cron can change that.
revoke delete on cron.job_run_details from public;
