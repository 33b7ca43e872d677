-- A superuser gives each pg_cron job to its owner. Where pg_cron belongs to somebody else, as on a
-- rented server, nobody can give a job away, and each role sees only its own: there, the statement
-- that creates a job runs as its owner.

create function tinydevcrm._is_job_owner(owner regrole)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._may_edit_jobs()
        or _is_job_owner.owner = quote_ident(current_user)::regrole
$$;

comment on function tinydevcrm._is_job_owner(regrole) is
    'Whether the current role can itself create and see the jobs of an owner.';

create function tinydevcrm._run_as(owner regrole, statement text)
    returns jsonb
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_result jsonb;
begin
    if tinydevcrm._is_job_owner(_run_as.owner) then
        execute _run_as.statement
           into v_result;
        return v_result;
    end if;

    if not pg_has_role(_run_as.owner, 'usage') then
        raise exception using
            errcode = '42501',
            message = format('TinyDevCRM cannot create jobs of %s', _run_as.owner),
            hint    = format('grant %s to %I;', _run_as.owner, current_user);
    end if;

    -- A security definer function cannot "set role", but can call one that belongs to the owner. No
    -- other session sees the function before it is gone: its owner cannot change it.
    execute format(
        'create function pg_temp._run_as_owner() returns pg_catalog.jsonb language sql '
        'security definer set search_path = pg_catalog, pg_temp as %L', _run_as.statement);
    execute format('alter function pg_temp._run_as_owner() owner to %s', _run_as.owner);
    execute 'select pg_temp._run_as_owner()'
       into v_result;
    drop function pg_temp._run_as_owner();

    return v_result;
end
$$;

comment on function tinydevcrm._run_as(regrole, text) is
    'Runs a statement of ours on pg_cron''s tables and functions as the owner of jobs, and returns '
    'its one value. It must run no code of the owner: qualify each name that is not in pg_catalog. '
    'Raises 42501 when this role is not a member of the owner.';

create function tinydevcrm._create_job_as_owner(
    owner         regrole,
    job_name      text,
    cron_schedule text,
    command       text
)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._run_as(
               _create_job_as_owner.owner,
               format(
                   'select coalesce('
                   '    (select to_jsonb(jobid) from cron.job where jobname = %1$L '
                   '     and schedule = %2$L and command = %3$L and username = current_user), '
                   '    to_jsonb(cron.schedule(%1$L, %2$L, %3$L)))',
                   _create_job_as_owner.job_name,
                   _create_job_as_owner.cron_schedule,
                   _create_job_as_owner.command)
           )::bigint
$$;

comment on function tinydevcrm._create_job_as_owner(regrole, text, text, text) is
    'Creates the pg_cron job of this name, or replaces its schedule and command, as its owner, and '
    'returns its number.';

create function tinydevcrm._take_jobs(job_ids bigint[])
    returns setof bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tinydevcrm._may_edit_jobs() then
        return query
        select job.jobid
          from cron.job
         where job.jobid = any (_take_jobs.job_ids)
           for update skip locked;
    else
        return query
        select unnest(_take_jobs.job_ids);
    end if;
end
$$;

comment on function tinydevcrm._take_jobs(bigint[]) is
    'Those of these jobs that no other session has locked, locked. Where the role may not lock '
    'pg_cron''s jobs: all of them.';

revoke execute on function
    tinydevcrm._is_job_owner(regrole),
    tinydevcrm._run_as(regrole, text),
    tinydevcrm._create_job_as_owner(regrole, text, text, text),
    tinydevcrm._take_jobs(bigint[])
from public;
