-- What is built on a view, and the locks for changing both: against refreshes while the new rows
-- are computed, and against readers at the end.

create type tinydevcrm._built_on as (
    relation   regclass,
    kind       "char",
    owner      regrole,
    is_filled  boolean,
    definition text
);

comment on type tinydevcrm._built_on is
    'A view or materialized view (kind: pg_class.relkind) that reads another one, with its owner, '
    'whether it has been filled, and its query, in which every name has its schema.';

create function tinydevcrm._list_built_on(relation regclass)
    returns tinydevcrm._built_on[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive readers (oid, depth) as (
        select _list_built_on.relation::oid,
               0
         union
        select pg_rewrite.ev_class,
               readers.depth + 1
          from readers
          join pg_depend
            on pg_depend.refclassid = 'pg_class'::regclass
           and pg_depend.refobjid = readers.oid
           and pg_depend.classid = 'pg_rewrite'::regclass
          join pg_rewrite
            on pg_rewrite.oid = pg_depend.objid
           and pg_rewrite.ev_class <> readers.oid
          join pg_class
            on pg_class.oid = pg_rewrite.ev_class
           and pg_class.relkind in ('v', 'm')
    )
    select coalesce(
               array_agg(
                   row(
                       pg_class.oid,
                       pg_class.relkind,
                       pg_class.relowner,
                       pg_class.relispopulated,
                       rtrim(pg_get_viewdef(pg_class.oid), ';')
                   )::tinydevcrm._built_on
                   order by deepest.depth, pg_class.oid),
               '{}')
      from (
        select readers.oid,
               max(readers.depth) as depth
          from readers
         where readers.depth > 0
         group by readers.oid
      ) as deepest
      join pg_class
        on pg_class.oid = deepest.oid
$$;

comment on function tinydevcrm._list_built_on(regclass) is
    'The views and materialized views that read a relation, directly or through others, each after '
    'those that it reads.';

create function tinydevcrm._lock_for_change(matview tinydevcrm.matviews)
    returns tinydevcrm.matviews
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A refresh takes these locks first, too: so the two wait for each other and cannot deadlock.
    perform
       from tinydevcrm._locks
      where _locks.what = 'matview'
        and _locks.id in (
            select matviews.id
              from tinydevcrm.matviews
              left join unnest(tinydevcrm._list_built_on((matview).relation)) as readers
                on readers.relation = matviews.relation
             where matviews.id = (matview).id
                or readers.relation is not null
        )
      order by _locks.id
        for update of _locks;

    -- While this waited, another session may have altered the query, or dropped the view.
    return tinydevcrm._find_registration(
        coalesce(
            (
                select matviews.relation
                  from tinydevcrm.matviews
                 where matviews.id = (matview).id
            ),
            (matview).relation));
end
$$;

comment on function tinydevcrm._lock_for_change(tinydevcrm.matviews) is
    'Keeps a view, and the views that read it, from being refreshed until the transaction ends. '
    'Waits for refreshes that run. Returns the registration as it is after that. Raises TD001 when '
    'it is gone.';

create function tinydevcrm._check_built_on(relation regclass)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_foreign text;
begin
    select string_agg(format('%s of %s', readers.relation, readers.owner), ', ')
      into v_foreign
      from unnest(tinydevcrm._list_built_on(_check_built_on.relation)) as readers
     where not tinydevcrm._is_session_of(readers.owner);

    if v_foreign is not null then
        raise exception using
            errcode = '2BP01',
            message = format(
                'views of other owners read %s: %s', _check_built_on.relation, v_foreign),
            hint    = 'They would have to be built again, as their owners. Ask the owners to drop '
                      'them first.';
    end if;
end
$$;

comment on function tinydevcrm._check_built_on(regclass) is
    'Raises 2BP01, with the names, when other owners have built views on a relation.';

create function tinydevcrm._check_not_read(relation regclass, copy regclass)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_not_read.relation = any (tinydevcrm._list_read_relations(_check_not_read.copy)) then
        raise exception using
            errcode = 'TD002',
            message = format('the query of %1$s reads %1$s itself', _check_not_read.relation),
            hint    = 'Write the query that the view has now in place of its name, or build '
                      'another view on it.';
    end if;
end
$$;

comment on function tinydevcrm._check_not_read(regclass, regclass) is
    'Raises TD002 when the copy of a view with its new query reads the view, directly or through '
    'others.';

create function tinydevcrm._try_locks(relations regclass[])
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '300ms'
as $$
declare
    v_class pg_class;
begin
    for v_class in
        select pg_class.*
          from unnest(_try_locks.relations) with ordinality as wanted (oid, place)
          join pg_class
            on pg_class.oid = wanted.oid
         order by wanted.place
    loop
        -- "Lock table" refuses materialized views. This locks and changes nothing.
        execute format(
            'alter %s %s owner to %I',
            case v_class.relkind when 'm' then 'materialized view' else 'view' end,
            v_class.oid::regclass,
            pg_get_userbyid(v_class.relowner));
    end loop;

    return true;
exception
    when lock_not_available or deadlock_detected then
        return false;
end
$$;

comment on function tinydevcrm._try_locks(regclass[]) is
    'Locks views and materialized views of the caller in this order, against readers too. False, '
    'without a lock, when one of them is in use.';

create function tinydevcrm._lock_against_readers(relation regclass)
    returns tinydevcrm._built_on[]
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- A reader locks a view before what the view reads.
    v_relations constant regclass[] := array(
        select readers.relation
          from unnest(tinydevcrm._list_built_on(_lock_against_readers.relation)) with ordinality
                   as readers (relation, kind, owner, is_filled, definition, place)
         order by readers.place desc
    ) || _lock_against_readers.relation;
begin
    -- Readers that come while this waits would wait too. So it waits shortly, again and again.
    while not tinydevcrm._try_locks(v_relations) loop
        perform pg_sleep(0.05);
    end loop;

    -- Until now, another session may have changed what is built on it.
    perform tinydevcrm._check_built_on(_lock_against_readers.relation);
    return tinydevcrm._list_built_on(_lock_against_readers.relation);
end
$$;

comment on function tinydevcrm._lock_against_readers(regclass) is
    'Locks a view and what is built on it against readers, once nobody reads them. Returns what is '
    'built on it. Raises 2BP01 when some of that belongs to other owners.';

revoke execute on function
    tinydevcrm._list_built_on(regclass),
    tinydevcrm._lock_for_change(tinydevcrm.matviews),
    tinydevcrm._check_built_on(regclass),
    tinydevcrm._check_not_read(regclass, regclass),
    tinydevcrm._try_locks(regclass[]),
    tinydevcrm._lock_against_readers(regclass)
from public;

grant execute on function
    tinydevcrm._list_built_on(regclass),
    tinydevcrm._lock_for_change(tinydevcrm.matviews),
    tinydevcrm._check_built_on(regclass),
    tinydevcrm._check_not_read(regclass, regclass),
    tinydevcrm._try_locks(regclass[]),
    tinydevcrm._lock_against_readers(regclass)
to tinydevcrm_user;
