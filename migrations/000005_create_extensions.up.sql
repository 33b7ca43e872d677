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
          -- From 13 on Postgres itself makes random numbers that are good enough for secrets, and
          -- composes characters; before, PL/Python does that where it can be had.
          from (
            select current_setting('server_version_num')::integer < 130000 as is_old,
                   exists (
                       select
                         from pg_catalog.pg_available_extensions
                        where name = 'plpython3u'
                   ) and current_setting('is_superuser') = 'on' as has_python
          ) as server
         cross join lateral (
            values
                ('pg_cron', not tinydevcrm._has_clock()),
                ('pgcrypto', is_old),
                ('plpython3u', is_old and has_python)
         ) as wanted (extension, is_wanted)
         where wanted.is_wanted
        except
        select extname::text
          from pg_catalog.pg_extension
    loop
        begin
            execute format('create extension %I', v_extension);
        exception
            when insufficient_privilege then
                raise exception using
                    errcode = 'TD010',
                    message = sqlerrm,
                    hint    = format(
                        'As a superuser, or where the provider lets you choose extensions: create '
                        'extension %I;%s', v_extension,
                        case when v_extension = 'pg_cron' then ' Or start orchestrator up --clock.' end);
        end;
        execute format(
            'comment on extension %I is %L', v_extension, 'Created by TinyDevCRM''s migrations.');
    end loop;
end
$$;

-- Where the orchestrator is the clock, what we use of pg_cron is made here by the same names. All
-- that reads and writes jobs is then the same.
do $do$
begin
    if not tinydevcrm._has_clock() then
        return;
    end if;

    create schema cron;
    comment on schema cron is
        'Created by TinyDevCRM''s migrations, in place of pg_cron: orchestrator up --clock runs the '
        'jobs.';

    create table cron.job (
        jobid    bigint generated always as identity,
        schedule text not null,
        command  text not null,
        nodename text not null default coalesce(tinydevcrm._setting('cron.host'), 'localhost'),
        nodeport integer not null default current_setting('port')::integer,
        database text not null default current_database(),
        username text not null default current_user,
        active   boolean not null default true,
        jobname  text,
        next_at  timestamptz,

        constraint job_pkey primary key (jobid),
        constraint jobname_username_uniq unique (jobname, username)
    );
    comment on table cron.job is
        'The jobs. Columns are those of pg_cron, and next_at: when a job is due; null for one that '
        'no clock has seen.';

    create sequence cron.runid_seq;
    create table cron.job_run_details (
        jobid          bigint,
        runid          bigint not null default nextval('cron.runid_seq'),
        job_pid        integer,
        database       text,
        username       text,
        command        text,
        status         text,
        return_message text,
        start_time     timestamptz,
        end_time       timestamptz,
        due_at         timestamptz,

        constraint job_run_details_pkey primary key (runid)
    );
    comment on table cron.job_run_details is
        'The runs of jobs. Columns are those of pg_cron, and due_at: the time that a run is for.';

    create function cron.schedule(job_name text, schedule text, command text)
        returns bigint
        language sql
        volatile
        set search_path = pg_catalog, pg_temp
    as $$
        insert into cron.job (jobname, schedule, command)
        values (schedule.job_name, schedule.schedule, schedule.command)
        on conflict on constraint jobname_username_uniq do update
           set schedule = excluded.schedule,
               command = excluded.command
        returning job.jobid
    $$;

    create function cron.schedule(schedule text, command text)
        returns bigint
        language sql
        volatile
        set search_path = pg_catalog, pg_temp
    as $$
        select cron.schedule(null, schedule.schedule, schedule.command)
    $$;

    create function cron.unschedule(job_id bigint)
        returns boolean
        language sql
        volatile
        set search_path = pg_catalog, pg_temp
    as $$
        with removed as (
            delete
              from cron.job
             where job.jobid = unschedule.job_id
            returning job.jobid
        )
        select exists (select from removed)
    $$;

    -- What a changed schedule is due for is found anew.
    create function cron._forget_next()
        returns trigger
        language plpgsql
        volatile
        set search_path = pg_catalog, pg_temp
    as $$
    begin
        new.next_at := null;
        return new;
    end
    $$;

    create trigger _100_forget_next
        before update of schedule on cron.job
        for each row
        when (new.schedule <> old.schedule)
        execute function cron._forget_next();

    revoke execute on all functions in schema cron from public;
end
$do$;

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

create function tinydevcrm._may_read_job_runs()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
          from pg_class
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where pg_namespace.nspname = 'cron'
           and pg_class.relname = 'job_run_details'
           and has_schema_privilege(pg_namespace.oid, 'usage')
           and has_table_privilege(pg_class.oid, 'select')
    )
$$;

comment on function tinydevcrm._may_read_job_runs() is
    'Whether the current role may read pg_cron''s history.';

create function tinydevcrm._read_job_runs()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute 'create or replace view tinydevcrm._job_runs as '
            || case
                when tinydevcrm._may_read_job_runs() then
                    'select jobid, runid, username::text, command, status, return_message, '
                    'start_time, end_time from cron.job_run_details'
                else
                    'select null::bigint as jobid, null::bigint as runid, null::text as username, '
                    'null::text as command, null::text as status, null::text as return_message, '
                    'null::timestamptz as start_time, null::timestamptz as end_time where false'
            end;
end
$$;

comment on function tinydevcrm._read_job_runs() is
    'Makes tinydevcrm._job_runs show pg_cron''s history, or nothing where the role that migrates may '
    'not read it. To be called when that has changed.';

select tinydevcrm._read_job_runs();

comment on view tinydevcrm._job_runs is
    'The runs of jobs, of all roles where the role that migrates may see them. Only that role may '
    'read it.';
comment on column tinydevcrm._job_runs.jobid is
    'The job: cron.job.jobid.';
comment on column tinydevcrm._job_runs.runid is
    'Number of the run.';
comment on column tinydevcrm._job_runs.username is
    'Role as which it ran.';
comment on column tinydevcrm._job_runs.command is
    'What it ran.';
comment on column tinydevcrm._job_runs.status is
    'starting, running, sending, connecting, succeeded or failed.';
comment on column tinydevcrm._job_runs.return_message is
    'What the server said at the end.';
comment on column tinydevcrm._job_runs.start_time is
    'When it started.';
comment on column tinydevcrm._job_runs.end_time is
    'When it ended.';

revoke execute on function
    tinydevcrm._may_read_job_runs(),
    tinydevcrm._read_job_runs()
from public;

-- pg_cron lets every role delete from its history. Any role could then lock that table, which stops
-- all jobs. Only who created pg_cron can change that: the statement of others fails, or does nothing.
do $$
begin
    revoke delete on cron.job_run_details from public;
exception
    when insufficient_privilege then
        null;
end
$$;
