-- Many users on one server: each is a role of Postgres with a schema of its own, and Postgres is
-- the authority on what anyone may do.

-- administrators see all, and change the settings

create policy imports_admin on tinydevcrm.imports
    for select
    to tinydevcrm_admin
    using (true);

create policy import_problems_admin on tinydevcrm.import_problems
    for select
    to tinydevcrm_admin
    using (true);

create policy matviews_admin on tinydevcrm.matviews
    for select
    to tinydevcrm_admin
    using (true);

create policy matview_baselines_admin on tinydevcrm.matview_baselines
    for select
    to tinydevcrm_admin
    using (true);

create policy schedules_admin on tinydevcrm.schedules
    for select
    to tinydevcrm_admin
    using (true);

create policy matview_refresh_events_admin on tinydevcrm.matview_refresh_events
    for select
    to tinydevcrm_admin
    using (true);

create policy subscriptions_admin on tinydevcrm.subscriptions
    for select
    to tinydevcrm_admin
    using (true);

create policy deliveries_admin on tinydevcrm.deliveries
    for select
    to tinydevcrm_admin
    using (true);

create policy webhooks_admin on tinydevcrm.webhooks
    for select
    to tinydevcrm_admin
    using (true);

create policy settings_admin on tinydevcrm.settings
    for update
    to tinydevcrm_admin
    using (true);

grant update on tinydevcrm.settings to tinydevcrm_admin;

-- the orchestrator settles jobs when it starts

grant execute on procedure tinydevcrm.settle_jobs() to tinydevcrm_orchestrator;

-- the orchestrator receives the events of all, posts their webhooks, and counts what there is

create policy matview_refresh_events_orchestrator on tinydevcrm.matview_refresh_events
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy imports_orchestrator on tinydevcrm.imports
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy matviews_orchestrator on tinydevcrm.matviews
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy schedules_orchestrator on tinydevcrm.schedules
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy subscriptions_orchestrator_read on tinydevcrm.subscriptions
    for select
    to tinydevcrm_orchestrator
    using (true);

-- An endpoint that is gone: the subscription of a webhook stays, and can only be paused.
create policy subscriptions_orchestrator_answer on tinydevcrm.subscriptions
    for update
    to tinydevcrm_orchestrator
    using (exists (
        select
          from tinydevcrm.webhooks
         where webhooks.subscription_id = subscriptions.id
    ))
    with check (is_paused and not is_dropped);

create policy webhooks_orchestrator_read on tinydevcrm.webhooks
    for select
    to tinydevcrm_orchestrator
    using (true);

-- An endpoint that asks for a rest.
create policy webhooks_orchestrator_answer on tinydevcrm.webhooks
    for update
    to tinydevcrm_orchestrator
    using (true);

create policy deliveries_orchestrator_read on tinydevcrm.deliveries
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy deliveries_orchestrator_answer on tinydevcrm.deliveries
    for update
    to tinydevcrm_orchestrator
    using (exists (
        select
          from tinydevcrm.webhooks
         where webhooks.subscription_id = deliveries.subscription_id
    ))
    with check (true);

-- Whoever starts the program looks whether there is something to migrate. psql has no such table.
do $$
begin
    if to_regclass('public.schema_migrations') is not null then
        grant select on public.schema_migrations to tinydevcrm_user;
    end if;
end
$$;

-- users

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
       -- HTTP Basic parts name and password by the first colon.
       or create_user.name like '%:%'
       or lower(create_user.name) in ('public', 'none', 'cron', 'information_schema')
    then
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be the name of a user', create_user.name),
            hint    = 'A name has 1 to 63 bytes and no colon, does not begin with pg_ or '
                      'tinydevcrm, and is no word of the system''s.';
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
            message = format('there is a role or a schema %I already', create_user.name),
            hint    = 'Choose another name.';
    end if;

    select settings.*
      into v_settings
      from tinydevcrm.settings;

    execute format(
        'create role %I login password %L connection limit %s in role tinydevcrm_user',
        create_user.name,
        create_user.password,
        case
            -- The workers would have the limit too, and to each of them one query makes many.
            when exists (select from pg_extension where extname = 'citus') then -1
            else v_settings.user_connections
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
    'Makes a user: a role that logs in, in tinydevcrm_user, with a schema of its own name, and '
    'limits as tinydevcrm.settings says. Raises TD004 when there is a role or schema of that name, '
    'TD007 for a bad name or a short password. Security definer: lends administrators the right to '
    'make such roles, and no others.';

create function tinydevcrm._own_user(name text)
    returns regrole
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select
          from pg_roles
         where rolname = _own_user.name
           and shobj_description(oid, 'pg_authid') = 'Created by tinydevcrm.create_user().'
    ) then
        raise exception using
            errcode = 'TD001',
            message = format('there is no user %I', coalesce(_own_user.name, 'null')),
            hint    = 'Users are those made by tinydevcrm.create_user().';
    end if;

    return quote_ident(_own_user.name)::regrole;
end
$$;

comment on function tinydevcrm._own_user(text) is
    'The role of a user that create_user() has made. Raises TD001 when there is none.';

create function tinydevcrm._kept_user(name text)
    returns regrole
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_user constant regrole := tinydevcrm._own_user(_kept_user.name);
begin
    -- The comment that it has: to write it takes the lock on a role for which drop role waits.
    begin
        execute format(
            'comment on role %I is %L',
            _kept_user.name, 'Created by tinydevcrm.create_user().');
    exception
        -- Another transaction has just dropped it: the look below says so.
        when undefined_object then
            null;
    end;

    if tinydevcrm._own_user(_kept_user.name) <> v_user then
        raise exception using
            errcode = 'TD001',
            message = format('user %I has just been dropped', _kept_user.name),
            hint    = 'Another role has that name now.';
    end if;

    return v_user;
end
$$;

comment on function tinydevcrm._kept_user(text) is
    'As _own_user(), and nobody can drop that user until the transaction ends.';

create function tinydevcrm.drop_user(name text, new_owner text default null)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_user    constant regrole := tinydevcrm._own_user(drop_user.name);
    v_heir    regrole;
    v_objects text;
    v_others  text;
begin
    if drop_user.new_owner is not null then
        v_heir := tinydevcrm._kept_user(drop_user.new_owner);
    end if;

    if v_heir = v_user then
        raise exception using
            errcode = 'TD007',
            message = format('user %I cannot be their own new owner', drop_user.name),
            hint    = 'Name another user, who stays.';
    end if;

    select string_agg(pg_describe_object(classid, objid, objsubid), ', ' order by objid)
      into v_objects
      from (
        select distinct classid,
               objid,
               objsubid
          from pg_shdepend
         where refclassid = 'pg_authid'::regclass
           and refobjid = v_user
           and deptype = 'o'
           and dbid in (0, (select oid from pg_database where datname = current_database()))
           and not (
               classid = 'pg_namespace'::regclass
               and objid = (select oid from pg_namespace where nspname = drop_user.name)
           )
      ) as owned;

    if v_objects is not null and v_heir is null then
        raise exception using
            errcode = '2BP01',
            message = format('user %I still owns something', drop_user.name),
            detail  = v_objects,
            hint    = 'Give it to another user: drop_user(name, new_owner).';
    end if;

    select string_agg(distinct quote_ident(datname), ', ')
      into v_others
      from pg_shdepend
      join pg_database
        on pg_database.oid = dbid
     where refclassid = 'pg_authid'::regclass
       and refobjid = v_user
       and datname <> current_database();

    if v_others is not null then
        raise exception using
            errcode = 'TD012',
            message = format(
                'user %I has something in another database: %s', drop_user.name, v_others),
            hint    = format(
                'In each of them, as a superuser: reassign owned by %1$s to postgres; drop owned by '
                '%1$s;', v_user);
    end if;

    perform pg_terminate_backend(pid)
       from pg_stat_activity
      where usesysid = v_user;

    -- Their temporary tables go with them, and must not while they are given away below.
    for v_try in 1 .. 1000 loop
        perform pg_stat_clear_snapshot();
        exit when not exists (select from pg_stat_activity where usesysid = v_user);
        perform pg_sleep(0.01);
    end loop;

    if v_heir is not null then
        execute format('reassign owned by %s to %s', v_user, v_heir);
        perform tinydevcrm._settle_owners();
    end if;

    -- Their own too: they would run for the next user of that name.
    perform cron.unschedule(jobid)
       from cron.job
      where username = drop_user.name;

    delete from tinydevcrm.subscriptions
     where owner = v_user;

    if v_heir is null then
        delete from tinydevcrm.matview_refresh_events
         where owner = v_user;
        delete from tinydevcrm.imports
         where owner = v_user;
    else
        update tinydevcrm.matview_refresh_events
           set owner = v_heir
         where owner = v_user;
        update tinydevcrm.imports
           set owner = v_heir
         where owner = v_user;
    end if;

    execute format('drop owned by %s', v_user);
    execute format('drop role %s', v_user);
end
$$;

comment on function tinydevcrm.drop_user(text, text) is
    'Drops a user that create_user() has made, with their subscriptions, and ends their sessions. '
    'Tables and views go to the new owner, with the schema, schedules, imports and events. Raises '
    'TD001 when there is no such user, TD007 when they are their own new owner, 2BP01 when they own '
    'something and there is no new owner, TD012 when they own something, or have a right to '
    'something, in another database. Upkeep ends a session that has begun meanwhile. '
    'Security definer: lends administrators the right to drop such roles, and no others.';

revoke execute on function
    tinydevcrm.create_user(text, text),
    tinydevcrm._own_user(text),
    tinydevcrm._kept_user(text),
    tinydevcrm.drop_user(text, text)
from public;

grant execute on function
    tinydevcrm.create_user(text, text),
    tinydevcrm.drop_user(text, text)
to tinydevcrm_admin;
