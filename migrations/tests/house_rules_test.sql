-- The house rules that a query can check. A failure prints the offenders.

begin;

select plan(13);

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
              'create_matview', '_refresh_matview', '_refresh_concurrently', 'refresh_matview', 'schedule_matview',
              'refresh_scheduled', 'remove_expired', '_check_query', '_make_view', 'preview_query',
              -- This runs for each row of a queue.
              '_deliveries_set_times'
          ) $$,
    'every function pins its search_path, but those that run a caller''s SQL, commit, or run for each row of a queue');

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
          and (
              pg_get_viewdef(c.oid) not like '%pg_has_role(%'
              or not coalesce(c.reloptions @> array['security_barrier=true'], false)
                 and not coalesce(c.reloptions @> array['security_barrier'], false)
          ) $$,
    'every view says itself whose rows the caller may see');

select is_empty(
    $$ select t.tgname
         from pg_trigger t
         join pg_class c
           on c.oid = t.tgrelid
        where c.relnamespace = 'tinydevcrm'::regnamespace
          and not t.tgisinternal
          and t.tgname !~ '^_[0-9]{3}_' $$,
    'the name of a trigger gives its place in the firing order');

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
    'public has no right on our tables, and nobody more than to read and write rows');

select is_empty(
    $$ select acl.privilege_type
         from pg_namespace n
        cross join lateral aclexplode(n.nspacl) as acl
        where n.nspname = 'tinydevcrm'
          and acl.grantee <> n.nspowner
          and (acl.grantee <> 'tinydevcrm_user'::regrole or acl.privilege_type <> 'USAGE') $$,
    'users may use our schema, and nobody may make anything in it');

select is(
    array(
        select p.proname::text
          from pg_proc p
         where p.pronamespace = 'tinydevcrm'::regnamespace
           and p.prosecdef
           and has_function_privilege('tinydevcrm_user', p.oid, 'execute')
         order by p.oid),
    array[
        '_cron_timezone', '_cron_is_running', '_upkeep_ran_at',
        'check_installation'
    ],
    'what users may run with others'' rights is known, and little');

select * from finish();

rollback;
