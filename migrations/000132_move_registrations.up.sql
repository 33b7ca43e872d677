-- A registration can move to another materialized view of its owner: when the query of a view is
-- altered, a new materialized view takes the place of the old one.

-- Users write it too: the trigger lets only other views of the same owner through.
grant update (relation) on tinydevcrm.matviews to tinydevcrm_user;

create function tinydevcrm._matviews_check_move()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select
          from pg_class
         where pg_class.oid = new.relation
           and pg_class.relkind = 'm'
           and pg_class.relowner = old.owner
    ) then
        raise exception using
            errcode = '42501',
            message = format(
                '%s is not a materialized view of %s',
                coalesce(new.relation::text, 'null'), old.owner);
    end if;

    new.content_hash := null;
    return new;
end
$$;

comment on function tinydevcrm._matviews_check_move() is
    'Lets a registration move only to another materialized view of its owner. Row-level security '
    'has checked that the caller has the rights of that owner. Forgets the hash of the rows. Raises '
    '42501.';

create trigger _100_check_move
    before update of relation on tinydevcrm.matviews
    for each row
    when (old.relation is distinct from new.relation)
    execute function tinydevcrm._matviews_check_move();

create function tinydevcrm._list_compared_columns(relation regclass, ignored_columns text[])
    returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array_agg(
               format('%I %s', attname, format_type(atttypid, atttypmod)) order by attnum)
      from pg_attribute
     where attrelid = _list_compared_columns.relation
       and attnum > 0
       and not attisdropped
       and attname <> all (_list_compared_columns.ignored_columns)
$$;

comment on function tinydevcrm._list_compared_columns(regclass, text[]) is
    'The columns that a baseline compares, with their types, in order.';

create trigger _500_forget_baseline_of_columns
    before update of relation on tinydevcrm.matviews
    for each row
    when (
        tinydevcrm._list_compared_columns(old.relation, old.ignored_columns)
        is distinct from tinydevcrm._list_compared_columns(new.relation, new.ignored_columns)
    )
    execute function tinydevcrm._matviews_forget_baseline();

create function tinydevcrm._matviews_move_embed()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A trigger on the widget fills its relation in when the origins are written.
    update tinydevcrm.embeds
       set origins = embeds.origins
     where embeds.matview_id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._matviews_move_embed() is
    'Makes the widget of a view follow its registration to another relation.';

create trigger _500_move_embed
    after update of relation on tinydevcrm.matviews
    for each row
    when (old.relation <> new.relation)
    execute function tinydevcrm._matviews_move_embed();

create function tinydevcrm._renew_baseline(matview tinydevcrm.matviews)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refresh tinydevcrm._refresh;
begin
    v_refresh.notify_when := (matview).notify_when;
    v_refresh.ignored_columns := (matview).ignored_columns;
    v_refresh.compares := true;
    v_refresh.has_baseline := false;
    v_refresh.row_limit := 0;
    perform tinydevcrm._compare_rows(matview, v_refresh);

    update tinydevcrm.matviews
       set has_baseline = true
     where matviews.id = (matview).id;
end
$$;

comment on function tinydevcrm._renew_baseline(tinydevcrm.matviews) is
    'Makes a baseline of the rows that a view has now, so that the next refresh finds what changes '
    'after this. Raises 42501 when the session has not logged in as the owner.';

create function tinydevcrm._move_registration(
    old          regclass,
    new          regclass,
    out kept     text[],
    out warnings text[]
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_before  tinydevcrm.matviews;
    v_matview tinydevcrm.matviews;
    v_columns constant text[] := array(
        select attname::text
          from pg_attribute
         where attrelid = _move_registration.new
           and attnum > 0
           and not attisdropped
    );
begin
    select matviews.*
      into v_before
      from tinydevcrm.matviews
     where matviews.relation = _move_registration.old;

    if not found then
        return;
    end if;

    -- With no snapshot it is stale: the next round of its schedule compares the new rows.
    update tinydevcrm.matviews
       set relation = _move_registration.new,
           is_analyzed = false,
           seen_snapshot = null,
           key = case when matviews.key <@ v_columns then matviews.key end
     where matviews.id = v_before.id
    returning matviews.*
         into v_matview;

    if v_matview.has_baseline then
        kept := '{baseline}';
    elsif v_before.has_baseline then
        perform tinydevcrm._renew_baseline(v_matview);
        warnings := array['the baseline is made anew: other columns are compared now'];
    end if;

    if v_before.key is not null and v_matview.key is null then
        warnings := warnings || format('key (%s) is gone', array_to_string(v_before.key, ', '));
    end if;

    warnings := warnings || array(
        select format('column %I, which comparisons ignore, is gone', ignored.name)
          from unnest(v_before.ignored_columns) as ignored (name)
         where ignored.name <> all (v_columns)
    );
    perform tinydevcrm._copy_rows(v_matview.id);
end
$$;

comment on function tinydevcrm._move_registration(regclass, regclass) is
    'Registers another materialized view in the place of one, if that one is registered: with the '
    'same number, rule, schedule, widget and subscriptions, and with its baseline when the '
    'compared columns are the same. Returns whether it has kept that, and what it cannot keep.';

create function tinydevcrm._move_registrations(
    old          regclass[],
    new          regclass[],
    out kept     text[],
    out warnings text[]
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_place integer;
    v_moved record;
begin
    -- From here on, a session that writes an event of one of them waits. So this comes last.
    for v_place in 1 .. cardinality(_move_registrations.old) loop
        v_moved := tinydevcrm._move_registration(
            _move_registrations.old[v_place], _move_registrations.new[v_place]);
        kept := kept || v_moved.kept;
        warnings := warnings || v_moved.warnings;
    end loop;
end
$$;

comment on function tinydevcrm._move_registrations(regclass[], regclass[]) is
    'Calls tinydevcrm._move_registration() for each pair.';

revoke execute on function
    tinydevcrm._matviews_check_move(),
    tinydevcrm._matviews_move_embed(),
    tinydevcrm._list_compared_columns(regclass, text[]),
    tinydevcrm._renew_baseline(tinydevcrm.matviews),
    tinydevcrm._move_registration(regclass, regclass),
    tinydevcrm._move_registrations(regclass[], regclass[])
from public;

grant execute on function
    tinydevcrm._list_compared_columns(regclass, text[]),
    tinydevcrm._renew_baseline(tinydevcrm.matviews),
    tinydevcrm._move_registration(regclass, regclass),
    tinydevcrm._move_registrations(regclass[], regclass[])
to tinydevcrm_user;
