-- Makes a dropped materialized view again.

create function tinydevcrm._matviews_take_number()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    -- One that is watched already keeps its number.
    if exists (select from tinydevcrm.matviews where matviews.relation = new.relation) then
        return new;
    end if;

    delete
      from tinydevcrm.dropped_matviews
     where dropped_matviews.id = (
               select newest.id
                 from tinydevcrm.dropped_matviews as newest
                 join pg_class
                   on pg_class.oid = new.relation
                  and pg_class.relname = newest.name::name
                 join pg_namespace
                   on pg_namespace.oid = pg_class.relnamespace
                  and pg_namespace.nspname = newest.schema_name::name
                where newest.owner = new.owner
                order by newest.dropped_at desc
                limit 1
           )
    returning dropped_matviews.id
         into v_id;

    new.id := coalesce(v_id, new.id);
    return new;
end
$$;

comment on function tinydevcrm._matviews_take_number() is
    'Gives a new registration the number of the materialized view of this name that its owner had '
    'and that was dropped, so that the subscriptions to it go on. Security definer: users cannot '
    'delete what is known of a dropped view. As a trigger it runs for a registration alone, and '
    'takes only what the owner of that had.';

create trigger _200_take_number
    before insert on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_take_number();

create function tinydevcrm._find_dropped(name text)
    returns tinydevcrm.dropped_matviews
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_dropped tinydevcrm.dropped_matviews;
begin
    select dropped_matviews.*
      into v_dropped
      from tinydevcrm.dropped_matviews
     where dropped_matviews.owner = quote_ident(current_user)::regrole
       and _find_dropped.name in (
           dropped_matviews.name,
           quote_ident(dropped_matviews.name),
           dropped_matviews.schema_name || '.' || dropped_matviews.name,
           format('%I.%I', dropped_matviews.schema_name, dropped_matviews.name))
     order by dropped_matviews.dropped_at desc
     limit 1;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('you have dropped no materialized view %s', _find_dropped.name),
            hint    = 'tinydevcrm.dropped_matviews lists those that can be restored.';
    end if;

    return v_dropped;
end
$$;

comment on function tinydevcrm._find_dropped(text) is
    'The dropped materialized view of yours that this name means: the last one, with or without '
    'its schema, quoted or not. Raises TD001 when there is none.';

-- As create_matview(): no search_path of its own.
create function tinydevcrm.restore_matview(name text)
    returns regclass
    language plpgsql
    volatile
as $$
declare
    v_dropped  tinydevcrm.dropped_matviews := tinydevcrm._find_dropped(restore_matview.name);
    v_former   tinydevcrm.matviews := pg_catalog.jsonb_populate_record(
        null::tinydevcrm.matviews, v_dropped.registration);
    v_relation pg_catalog.regclass := tinydevcrm.create_matview(
        name => v_dropped.name,
        query => v_dropped.query,
        notify_when => v_former.notify_when,
        schema_name => v_dropped.schema_name::pg_catalog.name,
        key => v_former.key,
        ignored_columns => v_former.ignored_columns,
        notify_interval => v_former.notify_interval);
begin
    update tinydevcrm.matviews
       set schedule = v_former.schedule,
           is_paused = v_former.is_paused
     where matviews.relation operator(pg_catalog.=) v_relation;

    return v_relation;
end
$$;

comment on function tinydevcrm.restore_matview(text) is
    'Makes a materialized view of yours again that was dropped, with its query, notify rule, key '
    'and schedule. The subscriptions to it go on. Grants, indexes other than that of the key, and '
    'its widget do not come back, and the next refresh has nothing to compare with. Raises TD001 '
    'when none of that name was dropped, TD004 when the name is in use, 42501 after "set role", '
    'and the errors of the query, such as 42P01 while a table that it reads is gone.';

revoke execute on function
    tinydevcrm._matviews_take_number(),
    tinydevcrm._find_dropped(text),
    tinydevcrm.restore_matview(text)
from public;

grant execute on function
    tinydevcrm._find_dropped(text),
    tinydevcrm.restore_matview(text)
to tinydevcrm_user;
