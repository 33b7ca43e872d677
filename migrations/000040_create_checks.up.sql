-- What may be wrong with an installation, each with what to type.

create function tinydevcrm._check_workers()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_extension where extname = 'citus') then
        return;
    end if;

    return query
    select format('worker %s:%s is ready', asked.nodename, asked.nodeport),
           asked.success and asked.result = 'on',
           case
               when asked.success then 'Citus preloaded: ' || asked.result
               else asked.result
           end,
           case
               when asked.success then
                   'Set shared_preload_libraries = ''citus'' in its postgresql.conf and restart '
                   'it: as it is, it answers with no rows.'
               else 'See that it runs, and lets this server in.'
           end
      from run_command_on_workers($command$
               select case
                          when current_setting('shared_preload_libraries') ~ '\mcitus\M' then 'on'
                          else 'off'
                      end
           $command$) as asked
    union all
    select 'the workers let users in as often as Citus needs',
           count(*) = 0,
           coalesce(
               'limited: ' || string_agg(quote_ident(rolname), ', ' order by rolname),
               'no user''s connections are limited'),
           coalesce(
               string_agg(format('alter role %I connection limit -1;', rolname), ' ' order by rolname),
               'alter role … connection limit -1;')
      from pg_roles
     where rolconnlimit >= 0
       and pg_has_role(oid, 'tinydevcrm_user', 'member');
end
$$;

comment on function tinydevcrm._check_workers() is
    'Whether the workers of Citus, where it is, are up and as TinyDevCRM needs them; as in '
    'check_installation().';

create function tinydevcrm.check_installation()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with last_runs as (
        select distinct on (schedules.id)
               schedules.schedule,
               schedules.owner,
               job_run_details.status,
               job_run_details.return_message
          from tinydevcrm.schedules
          join cron.job_run_details
            on job_run_details.jobid = schedules.job_id
         where pg_has_role(session_user, schedules.owner, 'usage')
           -- What a crash of the server has ended is no fault of the installation.
           and coalesce(job_run_details.start_time, now()) >= pg_postmaster_start_time()
         order by schedules.id, job_run_details.runid desc
    )
    select finding,
           is_ok,
           detail,
           hint
      from tinydevcrm._check_server()
    union all
    select finding,
           is_ok,
           detail,
           hint
      from tinydevcrm._check_workers()
    union all
    select 'pg_cron is running',
           tinydevcrm._cron_is_running(),
           'looked for its launcher in pg_stat_activity',
           'Restart the server, and look into its log if that does not help.'
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
    select format('jobs of %s have a minute', loops.owner),
           coalesce(limits.statement_timeout >= interval '1 minute', true),
           'statement_timeout = ' || coalesce(limits.statement_timeout::text, '0'),
           format(
               'Where a job makes seconds itself, it takes a minute: '
               'alter role %s set statement_timeout = ''2 minutes'';', loops.owner)
      from (
        select distinct schedules.owner
          from tinydevcrm.schedules
         where schedules.seconds is not null
           and schedules.cron_schedule <> schedules.schedule
           and pg_has_role(session_user, schedules.owner, 'usage')
      ) as loops
      left join lateral (
          select regexp_replace(split_part(setting, '=', 2), '^(\d+)$', '\1ms')::interval
                     as statement_timeout
            from pg_db_role_setting
           cross join unnest(setconfig) as setting
           where setting like 'statement\_timeout=%'
             and setrole in (loops.owner, 0)
             and setdatabase in (
                 0, (select oid from pg_database where datname = current_database())
             )
           order by setrole desc, setdatabase desc
           limit 1
      ) as limits
        on limits.statement_timeout > interval '0'
    union all
    select 'each schedule has its job, and jobs connect to this server',
           count(*) = 0,
           coalesce(string_agg(what, '; '), 'looked in cron.job'),
           'call tinydevcrm.settle_jobs(); as a superuser, or start the orchestrator, which does.'
      from tinydevcrm._unsettled_jobs() as unsettled
      left join tinydevcrm.schedules
        on schedules.id = unsettled.schedule_id
     where unsettled.schedule_id is null
        or pg_has_role(session_user, schedules.owner, 'usage')
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

revoke execute on function
    tinydevcrm._check_workers(),
    tinydevcrm.check_installation()
from public;

grant execute on function tinydevcrm.check_installation() to tinydevcrm_user;
