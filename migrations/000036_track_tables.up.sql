-- Which tables are tracked, on request and for a new view.

create function tinydevcrm._analyze_readers(relation regclass)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.matviews
       set is_analyzed = false
      from tinydevcrm.matview_sources
     where matview_sources.matview_id = matviews.id
       and matview_sources.relation = _analyze_readers.relation
       and pg_has_role(matviews.owner, 'usage')
$$;

comment on function tinydevcrm._analyze_readers(regclass) is
    'Finds out again whether the views of the caller that read a relation are tracked.';

create function tinydevcrm.track_table(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- The trigger waits for those who write the table, and those who come later wait for it.
    set lock_timeout = '1s'
as $$
declare
    v_table regclass;
begin
    if not exists (
        select
          from pg_class
         where oid = track_table.relation
           and relkind in ('r', 'p')
           and relpersistence = 'p'
    ) then
        raise exception using
            errcode = 'TD007',
            message = format(
                '%s is not a table that can be tracked',
                coalesce(track_table.relation::text, 'null')),
            hint    = 'Triggers track tables and partitioned tables that are neither temporary nor '
                      'unlogged.';
    end if;

    perform tinydevcrm._check_session_of(track_table.relation);

    -- Changes that name a partition do not fire the trigger of the table that it is part of.
    for v_table in
        select tables.oid
          from tinydevcrm._list_with_children(track_table.relation) as tables (oid)
          join pg_class
            on pg_class.oid = tables.oid
         where pg_class.relkind in ('r', 'p')
           and not tinydevcrm._is_table_tracked(tables.oid)
         order by tables.oid
    loop
        perform tinydevcrm._check_session_of(v_table);

        perform tinydevcrm._create_change_trigger(v_table);
    end loop;

    perform tinydevcrm._analyze_readers(track_table.relation);
end
$$;

comment on function tinydevcrm.track_table(regclass) is
    'Tracks the changes of a table and of its partitions with a trigger, tinydevcrm_record_change, '
    'so that views that read it are refreshed only after a change. Imports do that themselves, and '
    'so does watch_matview() for the tables of a view. Costs each statement that writes the table '
    'some microseconds. Raises TD007 when it is not a table that can be tracked, 42501 when the '
    'session has not logged in as its owner, 55P03 when other sessions lock it for over a second.';

create function tinydevcrm.untrack_table(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s'
as $$
begin
    perform tinydevcrm._drop_change_triggers(untrack_table.relation);
    perform tinydevcrm._analyze_readers(untrack_table.relation);
end
$$;

comment on function tinydevcrm.untrack_table(regclass) is
    'Removes the triggers of track_table() from a table and its partitions. Views that read it are '
    'then refreshed at each round of their schedule. Raises 42501 when it is not yours, 55P03 when '
    'other sessions lock it for over a second.';

create function tinydevcrm._track_reads(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- Those of a registered view have been found already.
    v_reads constant oid[] := coalesce(
        (
            select array_agg(matview_sources.relation::oid)
              from tinydevcrm.matviews
              join tinydevcrm.matview_sources
                on matview_sources.matview_id = matviews.id
             where matviews.relation = _track_reads.relation
        ),
        array(select listed.oid from tinydevcrm._list_reads(_track_reads.relation) as listed));
    v_table regclass;
begin
    for v_table in
        select pg_class.oid
          from pg_class
         where pg_class.oid = any (v_reads)
           and pg_class.relkind in ('r', 'p')
           and not tinydevcrm._is_table_tracked(pg_class.oid)
         order by pg_class.oid
    loop
        exit when tinydevcrm._find_call_reason(_track_reads.relation, v_reads) is not null
               or tinydevcrm._find_read_reason(_track_reads.relation, v_reads) is not null;

        begin
            perform tinydevcrm.track_table(v_table);
            raise notice 'the changes of % are tracked from now on', v_table
                using hint = format('To undo: select tinydevcrm.untrack_table(%L).', v_table);
        exception
            -- The view works without it: its schedule refreshes it at each round.
            when lock_not_available or insufficient_privilege or feature_not_supported then
                raise notice 'the changes of % are not tracked: %', v_table, sqlerrm
                    using hint = format(
                        'To try again: select tinydevcrm.track_table(%L).', v_table);
        end;
    end loop;
end
$$;

comment on function tinydevcrm._track_reads(regclass) is
    'Tracks the tables that a view reads, if nothing else stands in the way of tracking the view.';

create function tinydevcrm._settle_tracking()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row. Upkeep tries again the next minute.
    set lock_timeout = '100ms'
as $$
begin
    -- A request that comes meanwhile is for the next minute.
    with taken as (
        select matviews.id
          from tinydevcrm.matviews
         where matviews.id in (select _analysis_requests.matview_id from tinydevcrm._analysis_requests)
           for no key update skip locked
    ),
    done as (
        delete
          from tinydevcrm._analysis_requests
         using taken
         where _analysis_requests.matview_id = taken.id
    )
    update tinydevcrm.matviews
       set is_analyzed = false,
           seen_snapshot = null,
           content_hash = null
      from taken
     where matviews.id = taken.id;

    delete
      from tinydevcrm._analysis_requests
     where not exists (
        select
          from tinydevcrm.matviews
         where matviews.id = _analysis_requests.matview_id
     );

    update tinydevcrm.matviews
       set is_analyzed = false
     where matviews.id in (
               select changed.id
                 from tinydevcrm.matviews as changed
                where not changed.is_analyzed
                   or changed.is_tracked
                  and exists (
                      select
                        from tinydevcrm.matview_sources
                        left join pg_class
                          on pg_class.oid = matview_sources.relation
                        left join pg_subscription_rel
                          on pg_subscription_rel.srrelid = pg_class.oid
                       where matview_sources.matview_id = changed.id
                         and (
                             pg_class.relowner is distinct from changed.owner
                             or pg_subscription_rel.srrelid is not null
                             or pg_class.relkind in ('r', 'p')
                            and not tinydevcrm._is_table_tracked(pg_class.oid)
                         )
                  )
                  for no key update skip locked
           );
end
$$;

comment on function tinydevcrm._settle_tracking() is
    'Analyzes views again when that is requested, or when their tables have lost their trigger or '
    'changed their owner, or logical replication fills them now. Upkeep calls it: no trigger sees '
    'these changes everywhere.';

revoke execute on function
    tinydevcrm._analyze_readers(regclass),
    tinydevcrm.track_table(regclass),
    tinydevcrm.untrack_table(regclass),
    tinydevcrm._track_reads(regclass),
    tinydevcrm._settle_tracking()
from public;

grant execute on function
    tinydevcrm._analyze_readers(regclass),
    tinydevcrm.track_table(regclass),
    tinydevcrm.untrack_table(regclass),
    tinydevcrm._track_reads(regclass)
to tinydevcrm_user;
