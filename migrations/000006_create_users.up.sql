-- Many users on one server: each user is a Postgres role with a schema of its own. Postgres decides
-- what a user may do.

create function tinydevcrm.create_user(name text, password text)
    returns regrole
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set password_encryption = 'scram-sha-256'
as $$
declare
    v_settings tinydevcrm.settings;
begin
    if coalesce(octet_length(create_user.name), 0) not between 1 and 63
       or create_user.name ~* '^(pg_|tinydevcrm)'
       -- HTTP Basic separates name and password at the first colon.
       or create_user.name like '%:%'
       or lower(create_user.name) in ('public', 'none', 'cron', 'information_schema')
    then
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be the name of a user', create_user.name),
            hint    = 'A name has 1 to 63 bytes and no colon, does not begin with pg_ or '
                      'tinydevcrm, and is not a name that Postgres or pg_cron uses itself.';
    end if;

    if coalesce(length(create_user.password), 0) < 8 then
        raise exception using
            errcode = 'TD007',
            message = 'the password is too short',
            hint    = 'A password has at least 8 characters.';
    end if;

    if exists (select from pg_roles where rolname = create_user.name)
       or exists (select from pg_namespace where nspname = create_user.name)
    then
        raise exception using
            errcode = 'TD004',
            message = format('a role or a schema %I already exists', create_user.name),
            hint    = 'Choose another name.';
    end if;

    select settings.*
      into v_settings
      from tinydevcrm.settings;

    execute format(
        'create role %I login password %L connection limit %s in role tinydevcrm_user%s',
        create_user.name,
        create_user.password,
        case
            -- The workers would have the limit too, and one query opens many connections to each
            -- worker.
            when exists (select from pg_extension where extname = 'citus') then -1
            else v_settings.user_connections
        end,
        -- Without a superuser's rights only a member of a role makes a schema for it, and ends its
        -- sessions.
        case
            when (select not rolsuper from pg_roles where rolname = current_user) then
                format(' role %I', current_user)
        end);
    execute format(
        'comment on role %I is %L', create_user.name, 'Created by tinydevcrm.create_user().');
    execute format('create schema %1$I authorization %1$I', create_user.name);
    execute format('alter role %1$I set search_path = %1$I', create_user.name);
    execute format(
        'alter role %I set statement_timeout = %L',
        create_user.name, extract(epoch from v_settings.user_timeout)::bigint || 's');
    execute format(
        'grant connect, temporary on database %I to %I', current_database(), create_user.name);

    return quote_ident(create_user.name)::regrole;
end
$$;

comment on function tinydevcrm.create_user(text, text) is
    'Creates a user: a role that can log in, in the group tinydevcrm_user, with a schema of the '
    'same name, and with the limits of tinydevcrm.settings. Raises TD004 when a role or schema of '
    'that name exists, TD007 for a bad name or a short password. Security definer: lends '
    'administrators the right to create such roles, and no others.';

create function tinydevcrm._managed_user(name text)
    returns regrole
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select
          from pg_roles
         where rolname = _managed_user.name
           and shobj_description(oid, 'pg_authid') = 'Created by tinydevcrm.create_user().'
    ) then
        raise exception using
            errcode = 'TD001',
            message = format('there is no user %I', coalesce(_managed_user.name, 'null')),
            hint    = 'Only roles that tinydevcrm.create_user() has created are users.';
    end if;

    return quote_ident(_managed_user.name)::regrole;
end
$$;

comment on function tinydevcrm._managed_user(text) is
    'The role of a user that create_user() has created. Raises TD001 when there is none.';

create function tinydevcrm._lock_managed_user(name text)
    returns regrole
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_user constant regrole := tinydevcrm._managed_user(_lock_managed_user.name);
begin
    -- Writes the comment that the role already has. This takes the lock that "drop role" waits for.
    begin
        execute format(
            'comment on role %I is %L',
            _lock_managed_user.name, 'Created by tinydevcrm.create_user().');
    exception
        -- Another transaction has just dropped the user: the check below raises that.
        when undefined_object then
            null;
    end;

    if tinydevcrm._managed_user(_lock_managed_user.name) <> v_user then
        raise exception using
            errcode = 'TD001',
            message = format('user %I has just been dropped', _lock_managed_user.name),
            hint    = 'Another role has that name now.';
    end if;

    return v_user;
end
$$;

comment on function tinydevcrm._lock_managed_user(text) is
    'The role of a user, as _managed_user(). Until the transaction ends, no other session can drop '
    'the user.';

create function tinydevcrm._join_user(owner oid)
    returns boolean
    language plpgsql
    volatile
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- By the right to connect that create_user() has granted, users are those of this database.
    if not pg_has_role(_join_user.owner, 'member')
       and shobj_description(_join_user.owner, 'pg_authid') = 'Created by tinydevcrm.create_user().'
       and exists (
           select
             from pg_database
            cross join lateral aclexplode(pg_database.datacl) as granted
            where pg_database.datname = current_database()
              and granted.grantee = _join_user.owner
       )
    then
        execute format('grant %I to %I', pg_get_userbyid(_join_user.owner), current_user);
    end if;

    return coalesce(pg_has_role(_join_user.owner, 'usage'), false);
exception
    when insufficient_privilege or lock_not_available then
        return false;
end
$$;

comment on function tinydevcrm._join_user(oid) is
    'Whether the role that migrates has the rights of a role, after it has become a member again of '
    'a user that create_user() has made: before Postgres 15, users can revoke the membership in '
    'themselves.';

revoke execute on function
    tinydevcrm._join_user(oid),
    tinydevcrm.create_user(text, text),
    tinydevcrm._managed_user(text),
    tinydevcrm._lock_managed_user(text)
from public;

grant execute on function tinydevcrm.create_user(text, text) to tinydevcrm_admin;
