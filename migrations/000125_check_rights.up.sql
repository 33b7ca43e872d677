-- Checks what the role of TinyDevCRM may do, where it is no superuser.

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

revoke execute on function tinydevcrm._check_rights() from public;

grant execute on function tinydevcrm._check_rights() to tinydevcrm_user;
