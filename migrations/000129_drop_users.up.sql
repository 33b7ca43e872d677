-- Drops a user. What they own goes to another user; without one, they must own nothing.

create function tinydevcrm._check_droppable(dropped regrole, new_owner regrole)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_objects text;
    v_others  text;
begin
    if _check_droppable.new_owner = _check_droppable.dropped then
        raise exception using
            errcode = 'TD007',
            message = format('user %s cannot be their own new owner', _check_droppable.dropped),
            hint    = 'Name another user.';
    end if;

    select string_agg(pg_describe_object(classid, objid, objsubid), ', ' order by objid)
      into v_objects
      from (
        select distinct classid,
               objid,
               objsubid
          from pg_shdepend
         where refclassid = 'pg_authid'::regclass
           and refobjid = _check_droppable.dropped
           and deptype = 'o'
           and dbid in (0, (select oid from pg_database where datname = current_database()))
           and not (
               classid = 'pg_namespace'::regclass
               and objid = (
                   select oid
                     from pg_namespace
                    where nspname = pg_get_userbyid(_check_droppable.dropped)
               )
           )
      ) as owned;

    if v_objects is not null and _check_droppable.new_owner is null then
        raise exception using
            errcode = '2BP01',
            message = format('user %s still owns something', _check_droppable.dropped),
            detail  = v_objects,
            hint    = 'Give it to another user: drop_user(name, new_owner).';
    end if;

    select string_agg(distinct quote_ident(datname), ', ')
      into v_others
      from pg_shdepend
      join pg_database
        on pg_database.oid = dbid
     where refclassid = 'pg_authid'::regclass
       and refobjid = _check_droppable.dropped
       and datname <> current_database();

    if v_others is not null then
        raise exception using
            errcode = 'TD012',
            message = format(
                'user %s has something in another database: %s',
                _check_droppable.dropped, v_others),
            hint    = format(
                'In each of them, as a superuser: reassign owned by %1$s to postgres; '
                'drop owned by %1$s;', _check_droppable.dropped);
    end if;
end
$$;

comment on function tinydevcrm._check_droppable(regrole, regrole) is
    'Checks that a user can be dropped. Raises TD007 when they are their own new owner, 2BP01 when '
    'they own something here and new_owner is null, TD012 when they have something in another '
    'database.';

create function tinydevcrm._end_sessions(ended regrole)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_terminate_backend(pid)
       from pg_stat_activity
      where usesysid = _end_sessions.ended;

    for v_try in 1 .. 1000 loop
        perform pg_stat_clear_snapshot();
        exit when not exists (
            select
              from pg_stat_activity
             where usesysid = _end_sessions.ended
        );
        perform pg_sleep(0.01);
    end loop;
end
$$;

comment on function tinydevcrm._end_sessions(regrole) is
    'Ends the sessions of a role and waits, up to about ten seconds, until they are gone.';

create function tinydevcrm.drop_user(name text, new_owner text default null)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_user constant regrole := tinydevcrm._managed_user(drop_user.name);
    v_new_owner regrole;
begin
    if drop_user.new_owner is not null then
        v_new_owner := tinydevcrm._lock_managed_user(drop_user.new_owner);
    end if;

    perform tinydevcrm._check_droppable(v_user, v_new_owner);
    perform tinydevcrm._join_user(joined)
       from unnest(array[v_user, v_new_owner]::oid[]) as joined;

    -- Their temporary tables end with their sessions: before their tables are given away below.
    perform tinydevcrm._end_sessions(v_user);

    if v_new_owner is not null then
        execute format('reassign owned by %s to %s', v_user, v_new_owner);
        perform tinydevcrm._settle_owners();
    end if;

    -- Also jobs that they created themselves: these would run for the next user of that name.
    perform tinydevcrm._run_as(
        v_user,
        format(
            'select jsonb_agg(cron.unschedule(jobid)) from cron.job where username = %L',
            drop_user.name));

    delete from tinydevcrm.subscriptions
     where owner = v_user;
    delete from tinydevcrm.listeners
     where owner = v_user;
    delete from tinydevcrm.sources
     where owner = v_user;

    if v_new_owner is null then
        delete from tinydevcrm.matview_refresh_events
         where owner = v_user;
        delete from tinydevcrm.imports
         where owner = v_user;
        delete from tinydevcrm.dropped_matviews
         where owner = v_user;
    else
        update tinydevcrm.matview_refresh_events
           set owner = v_new_owner
         where owner = v_user;
        update tinydevcrm.imports
           set owner = v_new_owner
         where owner = v_user;
        update tinydevcrm.dropped_matviews
           set owner = v_new_owner
         where owner = v_user;
    end if;

    execute format('drop owned by %s', v_user);
    execute format('drop role %s', v_user);
end
$$;

comment on function tinydevcrm.drop_user(text, text) is
    'Drops a user that create_user() has made, with their subscriptions, and ends their sessions. '
    'The new owner gets their tables and views, with the schema, schedules, imports and events. '
    'Raises TD001 when there is no such user, TD007 when they are their own new owner, 2BP01 when '
    'they own something and there is no new owner, TD012 when they own something, or have a right '
    'to something, in another database. If a session begins meanwhile, upkeep ends it. Security '
    'definer: lends administrators the right to drop such roles, and no others.';

revoke execute on function
    tinydevcrm._check_droppable(regrole, regrole),
    tinydevcrm._end_sessions(regrole),
    tinydevcrm.drop_user(text, text)
from public;

grant execute on function tinydevcrm.drop_user(text, text) to tinydevcrm_admin;
