-- Records what materialized views are made of, keeps that true, and makes a dropped one again.

create function tinydevcrm._print_query(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select btrim(pg_get_viewdef(_print_query.relation), E' \n;')
$$;

comment on function tinydevcrm._print_query(regclass) is
    'The query of a materialized view, as Postgres prints it, with qualified names.';

create function tinydevcrm._matviews_record_definition()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into tinydevcrm.matview_definitions (
               matview_id, schema_name, name, query, fingerprint)
    select new.id,
           pg_namespace.nspname,
           pg_class.relname,
           tinydevcrm._print_query(new.relation),
           case
               when not tinydevcrm._follows_at_once() then
                   tinydevcrm._find_fingerprint(new.relation)
           end
      from pg_class
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where pg_class.oid = new.relation
    on conflict on constraint matview_definitions_pkey do update
       set schema_name = excluded.schema_name,
           name = excluded.name,
           query = excluded.query,
           fingerprint = excluded.fingerprint;

    update tinydevcrm.matview_definitions
       set is_accepted = true
     where matview_definitions.matview_id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._matviews_record_definition() is
    'Records the query of a new registration, or of one that moves to another view, and what it '
    'reads. Security definer: users do not '
    'write these. As a trigger it runs only for a registration that row-level security has let '
    'through.';

create trigger _600_record_definition
    after insert or update of relation on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_record_definition();

create function tinydevcrm._matview_definitions_print()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    select pg_namespace.nspname,
           pg_class.relname,
           tinydevcrm._print_query(matviews.relation)
      into new.schema_name,
           new.name,
           new.query
      from tinydevcrm.matviews
      join pg_class
        on pg_class.oid = matviews.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where matviews.id = new.matview_id;

    return new;
end
$$;

comment on function tinydevcrm._matview_definitions_print() is
    'Prints a query again when upkeep has found that something which it names has changed.';

create trigger _100_print
    before update of fingerprint on tinydevcrm.matview_definitions
    for each row
    when (old.fingerprint is distinct from new.fingerprint and new.fingerprint is not null)
    execute function tinydevcrm._matview_definitions_print();

create function tinydevcrm._matview_definitions_accept()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.matview_read_names
     where matview_read_names.matview_id = new.matview_id;

    insert into tinydevcrm.matview_read_names (matview_id, relation, schema_name, name)
    select matviews.id,
           pg_class.oid,
           pg_namespace.nspname::text,
           pg_class.relname::text
      from tinydevcrm.matviews
     cross join unnest(
               tinydevcrm._list_read_relations(matviews.relation, '{r,p,f,m,v}')) as read (relation)
      join pg_class
        on pg_class.oid = read.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where matviews.id = new.matview_id;

    return null;
end
$$;

comment on function tinydevcrm._matview_definitions_accept() is
    'Records what a materialized view reads, by present names. Security definer: users do not '
    'write that. As a trigger it runs only for a change that row-level security has let through.';

create trigger _500_accept
    after update of is_accepted on tinydevcrm.matview_definitions
    for each row
    execute function tinydevcrm._matview_definitions_accept();

create function tinydevcrm._follow_renames()
    returns event_trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- To print a query takes a lock on what it reads.
    set lock_timeout = '100ms'
as $$
begin
    with renamed as (
        select commands.classid,
               commands.objid
          from pg_event_trigger_ddl_commands() as commands
        union all
        select 'pg_class'::regclass,
               pg_class.oid
          from pg_event_trigger_ddl_commands() as commands
          join pg_class
            on pg_class.relnamespace = commands.objid
         where commands.classid = 'pg_namespace'::regclass
        union all
        select 'pg_proc'::regclass,
               pg_proc.oid
          from pg_event_trigger_ddl_commands() as commands
          join pg_proc
            on pg_proc.pronamespace = commands.objid
         where commands.classid = 'pg_namespace'::regclass
    ),
    -- A query depends on what it names; that of a materialized view is its rule.
    changed as (
        select pg_rewrite.ev_class as oid
          from renamed
          join pg_depend
            on pg_depend.refclassid = renamed.classid
           and pg_depend.refobjid = renamed.objid
           and pg_depend.classid = 'pg_rewrite'::regclass
          join pg_rewrite
            on pg_rewrite.oid = pg_depend.objid
        union
        select renamed.objid
          from renamed
         where renamed.classid = 'pg_class'::regclass
    )
    update tinydevcrm.matview_definitions
       set query = tinydevcrm._print_query(matviews.relation)
      from tinydevcrm.matviews
     where matview_definitions.matview_id = matviews.id
       and matviews.relation in (select changed.oid from changed)
       and matview_definitions.query is distinct from tinydevcrm._print_query(matviews.relation);
exception
    -- As in _record_drop().
    when others then
        raise warning 'TinyDevCRM could not follow a new name: % (SQLSTATE %)', sqlerrm, sqlstate
            using hint = 'tinydevcrm.matview_definitions still has the old one.';
end
$$;

comment on function tinydevcrm._follow_renames() is
    'Prints the queries of watched materialized views again when something that they name is '
    'altered. Security definer: the role that renames a table may not see the registrations of '
    'views that read it. It lends update on their definitions, which only says what Postgres '
    'shows to everyone.';

select tinydevcrm._create_event_trigger(
    'tinydevcrm_follow_renames', 'ddl_command_end',
    array[
        'ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE',
        'ALTER SCHEMA', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER TYPE', 'ALTER DOMAIN'
    ],
    '_follow_renames',
    'Keeps the recorded queries of TinyDevCRM''s views true when something that they name is '
    'renamed.');

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

    -- Else upkeep would only later find that the view of this name was dropped.
    if not tinydevcrm._follows_at_once() then
        perform tinydevcrm._remove_gone();
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
        notify_interval => v_former.notify_interval,
        notify_after => v_former.notify_after);
begin
    update tinydevcrm.matviews
       set schedule = v_former.schedule,
           is_paused = v_former.is_paused,
           notify_deadline = coalesce(v_former.notify_deadline, '0'),
           catch_up = v_former.catch_up,
           muted_for = case
               when v_former.muted_until operator(pg_catalog.>) pg_catalog.now() then
                   tinydevcrm._compute_mute(v_former.muted_until)
               else '0'
           end
     where matviews.relation operator(pg_catalog.=) v_relation;

    return v_relation;
end
$$;

comment on function tinydevcrm.restore_matview(text) is
    'Makes a materialized view of yours again that was dropped, with its query, notify rule, key, '
    'schedule and mute. The subscriptions to it go on. Grants, indexes other than that of the key, and '
    'its widget do not come back, and the next refresh has nothing to compare with. Raises TD001 '
    'when none of that name was dropped, TD004 when the name is in use, 42501 after "set role", '
    'and the errors of the query, such as 42P01 while a table that it reads is gone.';

revoke execute on function
    tinydevcrm._print_query(regclass),
    tinydevcrm._matviews_record_definition(),
    tinydevcrm._matview_definitions_print(),
    tinydevcrm._matview_definitions_accept(),
    tinydevcrm._follow_renames(),
    tinydevcrm._matviews_take_number(),
    tinydevcrm._find_dropped(text),
    tinydevcrm.restore_matview(text)
from public;

grant execute on function
    tinydevcrm._find_dropped(text),
    tinydevcrm.restore_matview(text)
to tinydevcrm_user;
