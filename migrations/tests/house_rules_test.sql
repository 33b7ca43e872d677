-- The house rules that a query can check. A failure prints the offenders.

begin;

select plan(23);

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and not exists (
              select
                from unnest(p.proconfig) as setting
               where setting = 'search_path=pg_catalog, pg_temp'
          )
          and p.proname not in (
              -- These run a caller's SQL, or commit.
              'create_matview', '_set_up_matview', 'alter_matview_query', '_rebuild_reader', 'restore_matview', '_refresh_matview', '_refresh_concurrently', 'refresh_matview', 'schedule_matview',
              'refresh_scheduled', 'refresh_by_seconds', 'refresh_changed', '_refresh_stale', '_refresh_due_matview', '_refresh_round', 'refresh_requested', 'import_fetched', 'remove_expired',
              '_check_query', '_make_view', 'preview_query', '_summarize_column', '_summarize_columns',
              '_prints_alike', '_define_view', '_define', '_define_views', '_define_all', 'apply_definitions',
              'check_definitions', '_try_all', '_make_stand_in', '_stand_in',
              -- These print names as the session would write them.
              '_show_query', 'describe_matview', '_print_queries',
              -- These run for each row of a queue, and for each statement that writes a tracked table.
              '_deliveries_set_ended', '_deliveries_set_visible', '_table_changes_record'
          ) $$,
    'every function pins its search_path, but those that run a caller''s SQL, commit, or run for each row or statement');

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and 'enable_seqscan=off' = any (p.proconfig)
          and 'jit=off' <> all (p.proconfig) $$,
    'where scans are off, plans without another way seem so expensive that they would be compiled');

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and has_function_privilege('public', p.oid, 'execute') $$,
    'no function is callable by public');

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and p.prosecdef
          and obj_description(p.oid, 'pg_proc') not like '%Security definer:%' $$,
    'a security definer function says why in its comment');

select is_empty(
    $$ select p.oid::regprocedure::text
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and obj_description(p.oid, 'pg_proc') is null
        union all
       select c.oid::regclass::text
         from pg_class c
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and c.relkind in ('r', 'v', 'm')
          and obj_description(c.oid, 'pg_class') is null
        union all
       select t.oid::regtype::text
         from pg_type t
         join pg_class c
           on c.oid = t.typrelid
        where t.typnamespace = 'tinydevcrm'::regnamespace
          and c.relkind = 'c'
          and obj_description(t.oid, 'pg_type') is null $$,
    'every function, table, view and type has a comment');

select is_empty(
    $$ select format('%s.%s', c.oid::regclass, a.attname)
         from pg_class c
         join pg_attribute a
           on a.attrelid = c.oid
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and c.relkind in ('r', 'v')
          and a.attnum > 0
          and not a.attisdropped
          and col_description(c.oid, a.attnum) is null $$,
    'every column has a comment');

select is_empty(
    $$ select k.conname
         from pg_constraint k
        where k.connamespace = 'tinydevcrm'::regnamespace
          and k.contype = 'f'
          and not exists (
              select
                from pg_index i
               where i.indrelid = k.conrelid
                 and i.indpred is null
                 and (i.indkey::smallint[])[0:array_length(k.conkey, 1) - 1] = k.conkey
          ) $$,
    'every foreign key has an index');

select is_empty(
    $$ select format('%s.%s %s', c.oid::regclass, a.attname, a.atttypid::regtype)
         from pg_class c
         join pg_attribute a
           on a.attrelid = c.oid
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and c.relkind = 'r'
          and a.atttypid in ('timestamp'::regtype, 'varchar'::regtype, 'json'::regtype) $$,
    'no column is a timestamp, varchar or json');

select is_empty(
    $$ select c.oid::regclass
         from pg_class c
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and c.relkind = 'r'
          and not (
              c.relrowsecurity
              and exists (
                  select
                    from pg_policy p
                   where p.polrelid = c.oid
              )
          ) $$,
    'every table has row-level security and a policy');

select is_empty(
    $$ select c.oid::regclass
         from pg_class c
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and c.relkind = 'v'
          -- Only its owner may read it: see "public has no right on our tables".
          and c.relname <> '_job_runs'
          and (
              pg_get_viewdef(c.oid) !~ '(pg_has_role|tinydevcrm\._may_see)\('
              or not coalesce(c.reloptions @> array['security_barrier=true'], false)
                 and not coalesce(c.reloptions @> array['security_barrier'], false)
          ) $$,
    'every view limits itself to the rows that the caller may see');

select is_empty(
    $$ select t.tgname
         from pg_trigger t
         join pg_class c
           on c.oid = t.tgrelid
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and not t.tgisinternal
          and t.tgname !~ '^_[0-9]{3}_' $$,
    'the name of a trigger gives the firing order');

select is_empty(
    $$ select c.oid::regclass, acl.privilege_type
         from pg_class c
        cross join lateral aclexplode(c.relacl) as acl
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and acl.grantee <> c.relowner
          and (
              acl.grantee = 0
              or acl.is_grantable
              or acl.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
          ) $$,
    'public has no right on our tables, and others only rights to read and write rows');

select is_empty(
    $$ select acl.privilege_type
         from pg_namespace n
        cross join lateral aclexplode(n.nspacl) as acl
        where n.nspname = 'tinydevcrm'
          and acl.grantee <> n.nspowner
          and (acl.grantee <> 'tinydevcrm_user'::regrole or acl.privilege_type <> 'USAGE') $$,
    'users may use our schema, and nobody may create an object in it');

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and p.proisstrict
          and p.provolatile = 'v'
          and (
              has_function_privilege('tinydevcrm_user', p.oid, 'execute')
              or has_function_privilege('tinydevcrm_admin', p.oid, 'execute')
          ) $$,
    'no function with an effect silently does nothing for null');

select is(
    array(
        select p.proname::text
          from pg_proc p
         where p.pronamespace = 'tinydevcrm'::regnamespace
           and p.prosecdef
           and has_function_privilege('tinydevcrm_user', p.oid, 'execute')
         order by p.oid),
    array[
        '_check_server',
        -- The owner of a table creates the trigger.
        '_table_changes_record',
        '_describe_lock_holder', '_cron_timezone', '_cron_is_running', '_follow_own_drop',
        '_list_unsettled_jobs', '_find_last_upkeep', '_check_rights', '_check_workers', '_check_load'
    ],
    'users may run only a few known functions with the rights of others');

-- Users: migrations/README.md says why.

select is(
    array(
        select c.relname::text
          from pg_policy p
          join pg_class c
            on c.oid = p.polrelid
         where c.relnamespace = 'tinydevcrm'::regnamespace
           and p.polcmd in ('a', '*')
           and pg_get_expr(p.polwithcheck, p.polrelid) ~ 'pg_has_role\(\(owner\)::oid, .*NOT tinydevcrm._is_group\(owner\)'
         order by 1),
    array(
        select c.relname::text
          from pg_class c
          join pg_attribute a
            on a.attrelid = c.oid
           and a.attname = 'owner'
         where c.relnamespace = 'tinydevcrm'::regnamespace
           and c.relkind = 'r'
           and has_any_column_privilege('tinydevcrm_user', c.oid, 'insert')
           -- Their owner is that of the subscription, and of the view.
           and c.relname not in ('deliveries', 'embeds')
         order by 1),
    'what users insert belongs to a role that they have the rights of, and that is no group');

create view pg_temp.column_grants as
select c.oid::regclass as relation,
       c.oid,
       a.attnum,
       a.attname,
       a.atttypid,
       acl.privilege_type
  from pg_class c
  join pg_attribute a
    on a.attrelid = c.oid
 cross join lateral aclexplode(a.attacl) as acl
 where c.relnamespace = 'tinydevcrm'::regnamespace
   and acl.grantee <> c.relowner;

select is_empty(
    $$ select c.oid::regclass, acl.grantee::regrole, acl.privilege_type
         from pg_class c
        cross join lateral aclexplode(c.relacl) as acl
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and acl.grantee <> c.relowner
          and acl.privilege_type <> 'SELECT'
          -- Administrators change settings, and are trusted with their lock.
          and (c.relname, acl.grantee) <> ('settings', 'tinydevcrm_admin'::regrole) $$,
    'users may write columns, not tables: more would let them lock a table, set ids and delete');

select is_empty(
    $$ select relation, attname, privilege_type
         from pg_temp.column_grants
        where attname in ('id', 'owner')
           or atttypid in ('timestamptz'::regtype, 'regrole'::regtype)
           or attname like '%\_id' and privilege_type <> 'INSERT'
       except
       -- A policy bounds these: see user_rights_test.sql.
       select 'tinydevcrm.deliveries'::regclass, bounded, 'UPDATE'
         from unnest(array['visible_at', 'acknowledged_at', 'parked_at']) as bounded $$,
    'no user writes ids, owners or times, or changes what a row refers to');

select is_empty(
    $$ select distinct g.relation, g.attname
         from pg_temp.column_grants g
        where (g.atttypid in ('text'::regtype, 'json'::regtype, 'jsonb'::regtype, 'bytea'::regtype)
               or g.atttypid::regtype::text like '%[]')
          and not exists (
              select
                from pg_constraint k
               where k.conrelid = g.oid
                 and g.attnum = any (k.conkey)
                 and (k.contype = 'f' or pg_get_constraintdef(k.oid) ~ 'length\(|= ANY|_are_origins\(')
          ) $$,
    'texts, documents and arrays that users write have a limit');

select is_empty(
    $$ select distinct g.relation, g.attname
         from pg_temp.column_grants g
        where g.atttypid in ('integer'::regtype, 'bigint'::regtype, 'interval'::regtype)
          and g.attname not like '%\_id'
          and not exists (
              select
                from pg_constraint k
               where k.conrelid = g.oid
                 and k.contype = 'c'
                 and g.attnum = any (k.conkey)
          ) $$,
    'every number that users write has a range');

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and p.prosrc ~ '\msession_user\M|(current_setting|set_config)\(.role'
          -- That of a drop is written down for people to read.
          and p.proname not in ('_is_session_of', '_record_drop') $$,
    'who a session is, is asked in one place, which lends no rights: Postgres has no name of the caller for a definer');

select is_empty(
    $$ select p.oid::regprocedure
         from pg_proc p
        where p.pronamespace = 'tinydevcrm'::regnamespace
          and p.prosrc ~ 'advisory_(xact_)?lock' $$,
    'no function uses an advisory lock, because anyone can take one');

select is_empty(
    $$ select attrelid::regclass, attname
         from pg_attribute
        where attrelid::regclass::text like 'tinydevcrm.%'
          and atthasmissing
          and attrelid in (
              select tgrelid from pg_trigger where tgnewtable is not null or tgoldtable is not null
          ) $$,
    'a table whose triggers get all rows of a statement has no column that was added with its default');

select * from finish();

rollback;
