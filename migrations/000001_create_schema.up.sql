-- The group roles, the schema of everything we own, and the checks of whose a schema, role or relation is.

do $$
declare
    v_role text;
begin
    -- The workers of a Citus coordinator need the roles too: roles own the tables there.
    if current_setting('citus.enable_ddl_propagation', true) is not null then
        perform set_config('citus.enable_ddl_propagation', 'on', true);
    end if;

    foreach v_role in array array[
        'tinydevcrm_user', 'tinydevcrm_admin', 'tinydevcrm_orchestrator'
    ] loop
        -- Roles belong to the server, so another database may have created them already.
        if not exists (
            select
              from pg_catalog.pg_roles
             where rolname = v_role
        ) then
            execute format('create role %I nologin', v_role);
        end if;
    end loop;

    comment on role tinydevcrm_user is
        'Group of the roles that may use TinyDevCRM''s functions. Grant it to a login role.';
    comment on role tinydevcrm_admin is
        'Group of administrators: they see what all users of TinyDevCRM have, change its settings, '
        'and create and drop users. Grant it to a login role.';
    comment on role tinydevcrm_orchestrator is
        'Group of the orchestrator: it receives the events of all users and posts their webhooks. '
        'Grant it to the role of the orchestrator''s DATABASE_URL, which then need not be a '
        'superuser.';

    grant tinydevcrm_user to tinydevcrm_admin, tinydevcrm_orchestrator;

    -- A superuser has the rights of all roles. From Postgres 16 on, another role that creates one
    -- has the right to grant it, and no other.
    if not exists (
        select
          from pg_catalog.pg_roles
         where rolname = current_user
           and rolsuper
    ) then
        execute format(
            'grant tinydevcrm_user, tinydevcrm_admin, tinydevcrm_orchestrator to %I', current_user);
    end if;
exception
    when insufficient_privilege then
        raise exception using
            errcode = '42501',
            message = sqlerrm,
            hint    = format(
                'The role that migrates creates three groups, and later users: alter role %1$I '
                'createrole; From Postgres 16 on, if another role has created the groups: grant '
                'tinydevcrm_user, tinydevcrm_admin, tinydevcrm_orchestrator to %1$I with admin '
                'option;', current_user);
end
$$;

-- Everything else stays on the coordinator.
do $$
begin
    if current_setting('citus.enable_ddl_propagation', true) is not null then
        perform set_config('citus.enable_ddl_propagation', 'off', true);
    end if;
end
$$;

create schema tinydevcrm;

comment on schema tinydevcrm is
    'TinyDevCRM: upload a CSV, ask a question of it in SQL, be notified when the answer changes. '
    'Start with \d+ tinydevcrm.* and \df+ tinydevcrm.*; names that start with _ are internals.';

grant usage on schema tinydevcrm to tinydevcrm_user;

create function tinydevcrm._check_schema(schema_name name)
    returns void
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_schema.schema_name is null then
        raise exception using
            errcode = 'TD007',
            message = 'no schema of your search_path exists',
            hint    = 'Create one, or set search_path to a schema that exists.';
    end if;

    if _check_schema.schema_name in ('tinydevcrm', 'cron', 'information_schema')
       or _check_schema.schema_name like 'pg\_%'
    then
        raise exception using
            errcode = 'TD007',
            message = format(
                'schema %I is not for your tables and views', _check_schema.schema_name),
            hint    = 'Name a schema of your own, such as public.' || case
                -- "$user" comes first in the default search_path.
                when _check_schema.schema_name = 'tinydevcrm' then
                    ' A role named tinydevcrm needs: alter role tinydevcrm set search_path = public'
                else '' end;
    end if;
end
$$;

comment on function tinydevcrm._check_schema(name) is
    'Checks that users may create tables and views in a schema. Raises TD007 when it is null or '
    'belongs to the system or to TinyDevCRM.';

create function tinydevcrm._is_group(role regrole)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
          from pg_roles
         where oid = _is_group.role
           and rolname in ('tinydevcrm_user', 'tinydevcrm_admin', 'tinydevcrm_orchestrator')
    )
$$;

comment on function tinydevcrm._is_group(regrole) is
    'Whether a role is one of our groups. A group owns nothing in the registry: every user has the '
    'rights of tinydevcrm_user, so what it owned would be of all users.';

create function tinydevcrm._is_session_of(owner regrole)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        session_user = current_user and current_user = pg_get_userbyid(_is_session_of.owner),
        false);
end
$$;

comment on function tinydevcrm._is_session_of(regrole) is
    'True when the session has logged in as this role and acts as it; false for null. Functions in '
    'indexes, defaults, checks, triggers and policies of a relation run as the role that reads or '
    'writes it. So TinyDevCRM reads and writes a relation only in a session of its owner. '
    'Membership in the owner is not enough, and neither is "set role", which such a function can '
    'reset.';

create function tinydevcrm._check_session_of(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
begin
    select relowner
      into v_owner
      from pg_class
     where oid = _check_session_of.relation;

    if not tinydevcrm._is_session_of(v_owner) then
        raise exception using
            errcode = '42501',
            message = format(
                '%s belongs to %s, and this session has not logged in as that role',
                coalesce(_check_session_of.relation::text, 'null'),
                coalesce(v_owner::text, 'nobody')),
            hint    = 'Log in as its owner: code in indexes, defaults, checks and triggers of a '
                      'table runs as the role that writes or reads it.';
    end if;
end
$$;

comment on function tinydevcrm._check_session_of(regclass) is
    'Raises 42501 unless the session has logged in as the owner of a relation: see '
    'tinydevcrm._is_session_of(). Functions call it before they read, write, index or plan on a '
    'relation of a user. Volatile, so that it sees a relation that was created after the calling '
    'statement began: names are resolved by what is committed now.';

create function tinydevcrm._lock_own_table(table_name text, lock_mode text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Locks before it checks: until it is locked, another role can put a table of its own under
    -- that name.
    execute format(
        'lock table %s in %s mode', _lock_own_table.table_name, _lock_own_table.lock_mode);
    perform tinydevcrm._check_session_of(_lock_own_table.table_name::regclass);
end
$$;

comment on function tinydevcrm._lock_own_table(text, text) is
    'Locks a table, given by its qualified and quoted name, and checks that the session has logged '
    'in as its owner. Raises 42501 when it has not.';

revoke execute on function
    tinydevcrm._check_schema(name),
    tinydevcrm._is_group(regrole),
    tinydevcrm._is_session_of(regrole),
    tinydevcrm._check_session_of(regclass),
    tinydevcrm._lock_own_table(text, text)
from public;

grant execute on function
    tinydevcrm._check_schema(name),
    tinydevcrm._is_group(regrole),
    tinydevcrm._is_session_of(regrole),
    tinydevcrm._check_session_of(regclass),
    tinydevcrm._lock_own_table(text, text)
to tinydevcrm_user;
