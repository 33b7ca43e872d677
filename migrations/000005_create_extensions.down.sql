-- Drops the extensions that the up migration created. An extension stays when an object of the
-- user's depends on it, such as a job of their own.

do $$
begin
    grant delete on cron.job_run_details to public;
exception
    when insufficient_privilege then
        null;
end
$$;

do $$
begin
    if not tinydevcrm._may_edit_jobs() then
        revoke usage on schema cron from tinydevcrm_user;
    end if;
end
$$;

drop view tinydevcrm._job_runs;
drop function tinydevcrm._read_job_runs();
drop function tinydevcrm._may_read_job_runs();
drop function tinydevcrm._may_edit_jobs();

do $$
declare
    v_extension text;
begin
    if tinydevcrm._has_clock() then
        drop table cron.job_run_details;
        drop sequence cron.runid_seq;
        drop table cron.job;
        drop function cron._forget_next();
        drop function cron.unschedule(bigint);
        drop function cron.schedule(text, text);
        drop function cron.schedule(text, text, text);
        drop schema cron;
    end if;

    for v_extension in
        select extname
          from pg_catalog.pg_extension
         where obj_description(oid, 'pg_extension') = 'Created by TinyDevCRM''s migrations.'
    loop
        if v_extension = 'pg_cron' then
            perform
               from cron.job;

            if found then
                raise notice 'extension pg_cron stays: it has jobs that are not TinyDevCRM''s';
                continue;
            end if;
        end if;

        begin
            execute format('drop extension %I', v_extension);
        exception
            when dependent_objects_still_exist then
                raise notice 'extension % stays: %', v_extension, sqlerrm;
        end;
    end loop;
end
$$;
