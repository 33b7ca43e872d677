-- The two extensions everything else stands on. One that is there already is used as it is; one
-- made here carries a mark in its comment, by which the down migration knows it again.

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
            message = format('not so: %s (%s)', v_problem.finding, v_problem.detail),
            hint    = v_problem.hint;
    end if;

    -- On a Citus coordinator the workers need neither of them, nor what is granted on theirs.
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

-- pg_cron lets everybody delete from its history, and so lock it, which stops all jobs. Users need
-- nothing of pg_cron: their jobs are made for them.
revoke delete on cron.job_run_details from public;
