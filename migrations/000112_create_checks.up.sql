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

create table tinydevcrm.listeners (
    owner     regrole not null default quote_ident(current_user)::regrole,
    is_deaf   boolean not null,
    probed_at timestamptz not null default clock_timestamp(),

    constraint listeners_pkey primary key (owner)
);

comment on table tinydevcrm.listeners is
    'Whether notifications reach the programs of a role: one row for each role. The orchestrator '
    'notifies itself at its start and each minute, every ten seconds while that does not arrive, '
    'and records the result here.';
comment on column tinydevcrm.listeners.owner is
    'Role of the program.';
comment on column tinydevcrm.listeners.is_deaf is
    'Whether the last probe did not arrive within five seconds, as through a pooler in '
    'transaction mode. The program then looks for events every ten seconds.';
comment on column tinydevcrm.listeners.probed_at is
    'When the last probe was sent.';

alter table tinydevcrm.listeners enable row level security;

create policy listeners_read on tinydevcrm.listeners
    for select
    to tinydevcrm_user
    using (true);

create policy listeners_create on tinydevcrm.listeners
    for insert
    to tinydevcrm_user
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

create policy listeners_change on tinydevcrm.listeners
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select,
      insert (is_deaf),
      update (is_deaf)
   on tinydevcrm.listeners
   to tinydevcrm_user;

create function tinydevcrm._listeners_set_time()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.probed_at := clock_timestamp();
    return new;
end
$$;

comment on function tinydevcrm._listeners_set_time() is
    'Sets the time of a probe.';

create trigger _100_set_time
    before update on tinydevcrm.listeners
    for each row
    execute function tinydevcrm._listeners_set_time();

create function tinydevcrm._record_listener(is_deaf boolean)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    insert into tinydevcrm.listeners (is_deaf)
    values (_record_listener.is_deaf)
    on conflict on constraint listeners_pkey do update
       set is_deaf = excluded.is_deaf
$$;

comment on function tinydevcrm._record_listener(boolean) is
    'Records whether the last probe of a program of the caller''s role did not arrive.';

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

create function tinydevcrm._check_rights()
    returns table (finding text, is_ok boolean, detail text, hint text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with own as (
        select quote_ident(current_user) as role,
               tinydevcrm._may_edit_jobs() as edits_jobs,
               (
                   select string_agg(
                              distinct quote_ident(pg_get_userbyid(owner)), ', ')
                     from tinydevcrm.matviews
                    where not pg_has_role(matviews.owner, 'usage')
               ) as foreign_owners
          from pg_roles
         where pg_roles.rolname = current_user
           and not pg_roles.rolsuper
    )
    select 'drops, renames and changed definitions are followed at once',
           tinydevcrm._follows_at_once(),
           case
               when tinydevcrm._follows_at_once() then 'by event triggers'
               else 'there are no event triggers: upkeep follows within a minute, and does not see '
                    'who dropped a view, or a "refresh materialized view" by hand'
           end,
           'Only a superuser, and at some providers the first role, creates event triggers. Drop and '
           'refresh views with tinydevcrm.drop_matview() and tinydevcrm.refresh_matview().'
      from own
    union all
    select 'the settings of the server are visible',
           pg_has_role('pg_read_all_settings', 'usage'),
           case
               when pg_has_role('pg_read_all_settings', 'usage') then 'to ' || role
               else 'those of pg_cron are not checked, and its time zone is taken to be GMT'
           end,
           format('grant pg_read_all_settings to %s;', role)
      from own
    union all
    select 'the sessions of all roles are visible',
           pg_has_role('pg_read_all_stats', 'usage'),
           case
               when pg_has_role('pg_read_all_stats', 'usage') then 'to ' || role
               else 'that pg_cron has stopped is noticed three minutes later; a refresh that waits '
                    'may not say for whom'
           end,
           format('grant pg_read_all_stats to %s;', role)
      from own
    union all
    select 'sessions of users that block everyone are ended',
           pg_has_role('pg_signal_backend', 'usage'),
           case
               when pg_has_role('pg_signal_backend', 'usage') then 'by ' || role
               else format('only those of users of whom %s is a member', role)
           end,
           format('grant pg_signal_backend to %s;', role)
      from own
    union all
    select 'the views of all owners have their jobs',
           edits_jobs
           or foreign_owners is null and has_schema_privilege('tinydevcrm_user', 'cron', 'usage'),
           case
               when edits_jobs then format('%s gives jobs to their owners', role)
               when not has_schema_privilege('tinydevcrm_user', 'cron', 'usage') then
                   format('users may not create jobs: only views of %s are scheduled', role)
               when foreign_owners is not null then 'not those of ' || foreign_owners
               else 'each owner creates their own, and may create others in pg_cron'
           end,
           concat_ws(
               ' ',
               case
                   when not has_schema_privilege('tinydevcrm_user', 'cron', 'usage') then
                       'As the owner of pg_cron: grant usage on schema cron to tinydevcrm_user;'
               end,
               case when foreign_owners is not null then
                   format('grant %s to %s;', foreign_owners, role)
               end)
      from own
    union all
    select 'administrators see the runs of all jobs',
           edits_jobs,
           case
               when edits_jobs then 'in tinydevcrm.job_runs'
               else 'pg_cron shows them to the owner of a job, in tinydevcrm.job_runs'
           end,
           'Only a superuser, or a role that pg_cron''s row-level security does not apply to, sees all.'
      from own
    union all
    select 'the history of jobs can be read',
           pg_get_viewdef('tinydevcrm._job_runs'::regclass) ~ 'job_run_details',
           'without it a job that cannot start shows as late, and its reason is unknown',
           format(
               'As the owner of pg_cron: grant usage on schema cron to %1$I; grant select on '
               'cron.job_run_details to %1$I; and then: select tinydevcrm._read_job_runs();',
               current_user)
      from own
    union all
    select 'users cannot stop pg_cron',
           acl.grantor is null,
           case
               when acl.grantor is null then 'its history belongs to its owner'
               else 'everyone may delete from cron.job_run_details, and so lock it, which stops all '
                    'jobs until the watchdog or somebody else ends the session'
           end,
           format(
               'As %s: revoke delete on cron.job_run_details from public;',
               coalesce(acl.grantor::regrole::text, 'the owner of pg_cron'))
      from own
      left join lateral (
          select granted.grantor
            from pg_class
           cross join lateral aclexplode(pg_class.relacl) as granted
           where pg_class.oid = 'cron.job_run_details'::regclass
             and granted.grantee = 0
             and granted.privilege_type = 'DELETE'
      ) as acl
        on true
$$;

comment on function tinydevcrm._check_rights() is
    'Where TinyDevCRM does not belong to a superuser: what it may do, what the rest costs, and what '
    'to type. Returns rows as check_installation() does; none for a superuser. Security definer: '
    'lends the sight of these rights, and of the names of owners of views who need one.';

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
    tinydevcrm._listeners_set_time(),
    tinydevcrm._record_listener(boolean),
    tinydevcrm._check_load(),
    tinydevcrm._check_rights(),
    tinydevcrm._list_findings(),
    tinydevcrm.check_installation()
from public;

grant execute on function
    tinydevcrm._check_server(),
    tinydevcrm._check_timeouts(),
    tinydevcrm._check_workers(),
    tinydevcrm._record_listener(boolean),
    tinydevcrm._check_load(),
    tinydevcrm._check_rights(),
    tinydevcrm._list_findings(),
    tinydevcrm.check_installation()
to tinydevcrm_user;
