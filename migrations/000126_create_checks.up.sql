-- Checks an installation: each finding says what to type.

create function tinydevcrm._check_workers()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language plpgsql
    stable
    security definer
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
                   'it. Without that it answers with no rows.'
               else 'Check that it runs and accepts connections from this server.'
           end
      from run_command_on_workers($command$
               select case
                          when current_setting('shared_preload_libraries') ~ '\mcitus\M' then 'on'
                          else 'off'
                      end
           $command$) as asked
    union all
    select 'users have as many connections to the workers as Citus needs',
           count(*) = 0,
           coalesce(
               'limited: ' || string_agg(quote_ident(rolname), ', ' order by rolname),
               'no user''s connections are limited'),
           coalesce(
               string_agg(
                   format('alter role %I connection limit -1;', rolname), ' ' order by rolname),
               'alter role … connection limit -1;')
      from pg_roles
     where rolconnlimit >= 0
       and pg_has_role(oid, 'tinydevcrm_user', 'member');
end
$$;

comment on function tinydevcrm._check_workers() is
    'Checks the workers of Citus, if it is installed: whether they run, and are set up as '
    'TinyDevCRM needs it. Returns rows as check_installation() does. Security definer: lends the '
    'right to run this one query on them.';

create function tinydevcrm._check_load()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    -- A loop over seconds keeps its connection for the whole minute.
    select 'pg_cron can run all loops at once',
           count(distinct schedules.job_id) < setting.max_running_jobs,
           format(
               '%s jobs loop over seconds, cron.max_running_jobs = %s',
               count(distinct schedules.job_id), setting.max_running_jobs),
           format(
               'alter system set cron.max_running_jobs = %s; with max_connections, and '
               'max_worker_processes, to match; then restart the server. Or install pg_cron 1.5, '
               'which has seconds itself.',
               2 * count(distinct schedules.job_id))
      from (
        select coalesce(tinydevcrm._setting('cron.max_running_jobs'), '32')::integer
                   as max_running_jobs
      ) as setting
      left join tinydevcrm.schedules
        on tinydevcrm._is_loop(schedules)
     where not tinydevcrm._has_clock()
     group by setting.max_running_jobs
$$;

comment on function tinydevcrm._check_load() is
    'Checks whether pg_cron can run what all users have scheduled. Returns rows as '
    'check_installation() does. Security definer: counts the schedules of all users, and shows '
    'only their number.';

create function tinydevcrm._check_timeouts()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select 'statements take as long as they need',
           count(*) = 0,
           coalesce(
               string_agg(
                   format('%s = %s ms', pg_settings.name, pg_settings.setting), ', '
                   order by pg_settings.name)
               || ': a longer import or refresh fails',
               'no timeout ends an import or a refresh'),
           coalesce(
               string_agg(
                   format('alter role %I set %s = 0;', current_user, pg_settings.name), ' '
                   order by pg_settings.name),
               format('alter role %I set statement_timeout = 0;', current_user))
      from pg_settings
     where pg_settings.name ~ '^(statement|transaction|idle_in_transaction_session)_timeout$'
       and pg_settings.setting <> '0'
       -- The orchestrator bounds some of its statements itself.
       and pg_settings.source <> 'client'
       -- create_user() bounds the statements of users.
       and (
           pg_has_role('tinydevcrm_orchestrator', 'member')
           or pg_has_role('tinydevcrm_admin', 'member')
       )
$$;

comment on function tinydevcrm._check_timeouts() is
    'Whether a provider bounds how long the statements of this role may take.';

create function tinydevcrm._list_findings()
    returns table (finding text, is_ok boolean, weight text, detail text, hint text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with last_runs as (
        select distinct on (job_runs.schedule_id)
               job_runs.schedule,
               job_runs.owner,
               job_runs.status,
               job_runs.return_message
          from tinydevcrm.job_runs
         where pg_has_role(job_runs.owner, 'usage')
           -- A run that a crash of the server has ended says nothing about the installation.
           and coalesce(job_runs.started_at, now()) >= pg_postmaster_start_time()
         order by job_runs.schedule_id, job_runs.run_id desc
    )
    select finding,
           is_ok,
           case when is_needed then 'needed' else 'wanted' end,
           detail,
           hint
      from tinydevcrm._check_server()
    union all
    select finding,
           is_ok,
           'wanted',
           detail,
           hint
      from tinydevcrm._check_workers()
    union all
    select finding,
           is_ok,
           'wanted',
           detail,
           hint
      from tinydevcrm._check_timeouts()
    union all
    select finding,
           is_ok,
           'limit',
           detail,
           hint
      from tinydevcrm._check_rights()
    union all
    select finding,
           is_ok,
           'wanted',
           detail,
           hint
      from tinydevcrm._check_load()
    union all
    select 'pg_cron is running',
           tinydevcrm._cron_is_running(),
           'needed',
           'looked for its launcher, or for the last run of upkeep',
           'Restart the server. If that does not help, read its log.'
     where not tinydevcrm._has_clock()
    union all
    select 'a clock is running',
           tinydevcrm._cron_is_running(),
           'wanted',
           'this database is without pg_cron',
           'Start orchestrator up --clock. It runs the schedules. With --idle-after it is asleep '
           'until one is due.'
     where tinydevcrm._has_clock()
    union all
    select format('jobs of %s run', owner),
           bool_and(status <> 'failed'),
           'wanted',
           coalesce(
               string_agg(schedule || ': ' || coalesce(return_message, ''), '; ')
                   filter (where status = 'failed'),
               'the last runs of its schedules have not failed'),
           format(
               'If it says "connection failed", let the role connect, by a line '
               '"local %s %s trust" (or peer with a map) in pg_hba.conf.',
               current_database(), owner)
           || case
                  when tinydevcrm._has_clock() then
                      format(
                          ' Or write "*:*:%s:%s:PASSWORD" into the file that the orchestrator''s '
                          'PGPASSFILE names.', current_database(), owner)
                  else ''
              end
      from last_runs
     group by owner
    union all
    select format('jobs of %s leave connections for log-ins', owned.owner),
           owned.job_count < pg_roles.rolconnlimit - 1,
           'wanted',
           format('%s jobs, %s connections', owned.job_count, pg_roles.rolconnlimit),
           format(
               'When all jobs run at once, nobody can log in as that role: alter role %s '
               'connection limit %s;', owned.owner, owned.job_count + 5)
      from (
        select schedules.owner,
               count(distinct schedules.job_id) as job_count
          from tinydevcrm.schedules
         where pg_has_role(schedules.owner, 'usage')
         group by schedules.owner
      ) as owned
      join pg_roles
        on pg_roles.oid = owned.owner
     where pg_roles.rolconnlimit >= 0
    union all
    select 'each schedule has its job, and jobs connect to this server',
           count(*) = 0,
           'wanted',
           coalesce(
               string_agg(concat_ws(': ', schedules.schedule, what), '; '), 'looked in cron.job'),
           'call tinydevcrm.settle_jobs(); as the role that migrates, or start the orchestrator.'
      from tinydevcrm._list_unsettled_jobs() as unsettled
      left join tinydevcrm.schedules
        on schedules.id = unsettled.schedule_id
     where unsettled.schedule_id is null
        or pg_has_role(schedules.owner, 'usage')
    union all
    select format('notifications reach the programs of %s', listeners.owner),
           not listeners.is_deaf,
           'wanted',
           format('probed at %s', date_trunc('second', listeners.probed_at)),
           'A pooler in transaction mode loses LISTEN, and events are found ten seconds later. '
           'Give the orchestrator a LISTEN_URL of Postgres itself, or of a pooler in session mode.'
      from tinydevcrm.listeners
     where listeners.probed_at > clock_timestamp() - interval '2 minutes'
       and (
           pg_has_role(listeners.owner, 'usage')
           or pg_has_role(listeners.owner, 'tinydevcrm_orchestrator', 'usage')
       )
    union all
    select 'e-mails have a mail server',
           settings.mail_server is not null or counted.count = 0,
           'wanted',
           coalesce(
               settings.mail_server,
               format('none, and %s subscriptions by e-mail wait', counted.count)),
           'Start the orchestrator with SMTP_URL, such as '
           'smtp://user:password@smtp.example.com:587?from=alerts@example.com.'
      from tinydevcrm.settings
     cross join (
        select count(*) as count
          from tinydevcrm.webhooks
         where webhooks.format = 'email'
           and (
               pg_has_role(webhooks.owner, 'usage') or pg_has_role('tinydevcrm_admin', 'usage')
           )
     ) as counted
    union all
    select 'sources are fetched and imported',
           count(*) = 0,
           'wanted',
           coalesce(
               string_agg(source_status.name, ', ' order by source_status.name),
               'no source is late'),
           'An orchestrator fetches them: start orchestrator up. What it has fetched for other roles '
           'is imported by a pg_cron job of each role, which has to be able to log in.'
      from tinydevcrm.source_status
     where source_status.status = 'late'
    union all
    select 'you may use TinyDevCRM',
           pg_has_role('tinydevcrm_user', 'usage'),
           'needed',
           'as ' || current_user,
           format('grant tinydevcrm_user to %I;', current_user)
$$;

comment on function tinydevcrm._list_findings() is
    'What check_installation() returns, each with a weight. needed: nothing works without it; wanted: '
    'something is wrong; limit: the rights of TinyDevCRM''s role do not reach for it, and what then '
    'happens is in the detail.';

create function tinydevcrm.check_installation()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select finding,
           is_ok,
           detail,
           hint
      from tinydevcrm._list_findings()
$$;

comment on function tinydevcrm.check_installation() is
    'Checks whether the server is set up as TinyDevCRM needs it. Each finding says what was seen '
    'and, where it is not ok, what to type. It covers the jobs of those roles whose rights you '
    'have.';

revoke execute on function
    tinydevcrm._check_timeouts(),
    tinydevcrm._check_workers(),
    tinydevcrm._check_load(),
    tinydevcrm._list_findings(),
    tinydevcrm.check_installation()
from public;

grant execute on function
    tinydevcrm._check_server(),
    tinydevcrm._check_timeouts(),
    tinydevcrm._check_workers(),
    tinydevcrm._check_load(),
    tinydevcrm._list_findings(),
    tinydevcrm.check_installation()
to tinydevcrm_user;
