-- Which watched views are stale: a table that they read has changed since their last refresh.

create table tinydevcrm.matview_sources (
    matview_id bigint not null,
    relation   regclass not null,

    constraint matview_sources_pkey primary key (matview_id, relation),
    constraint matview_sources_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade
);

comment on table tinydevcrm.matview_sources is
    'What a refresh of each view reads: tables with their partitions, views, and materialized '
    'views, but not what the latter read. Triggers keep it true.';
comment on column tinydevcrm.matview_sources.matview_id is
    'The view that reads.';
comment on column tinydevcrm.matview_sources.relation is
    'What it reads.';

create index matview_sources_relation_idx on tinydevcrm.matview_sources (relation);

alter table tinydevcrm.matview_sources enable row level security;

create policy matview_sources_owner on tinydevcrm.matview_sources
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = matview_sources.matview_id
    ));

grant select on tinydevcrm.matview_sources to tinydevcrm_user;

-- The policy of what views read decides whose changes the caller sees.
create policy table_changes_reader on tinydevcrm.table_changes
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matview_sources
         where matview_sources.relation = table_changes.relation
    ));

grant select on tinydevcrm.table_changes to tinydevcrm_user;

alter table tinydevcrm.matviews
    add column untracked_reason text default 'it has not been analyzed yet',
    add column is_tracked boolean not null generated always as (untracked_reason is null) stored,
    add column is_analyzed boolean not null default false,
    add column depth integer not null default 0,
    add column seen_snapshot text,
    add column content_hash text,
    add column is_on_change boolean not null default false,
    add column refresh_interval interval not null default interval '1 second',
    add column tried_snapshot text,
    add constraint matviews_refresh_interval_range check (
        refresh_interval between interval '100 milliseconds' and interval '7 days'
    ),
    add constraint matviews_tried_snapshot_readable check (
        tried_snapshot is null
        or octet_length(tried_snapshot) <= 1000000
           and tried_snapshot::txid_snapshot is not null
    ),
    add constraint matviews_content_hash_short check (octet_length(content_hash) <= 200),
    add constraint matviews_seen_snapshot_readable check (
        seen_snapshot is null
        or octet_length(seen_snapshot) <= 1000000
           and seen_snapshot::txid_snapshot is not null
    );

comment on column tinydevcrm.matviews.untracked_reason is
    'Why its result may change although no tracked table does; null when it is tracked.';
comment on column tinydevcrm.matviews.is_tracked is
    'Whether its result depends only on tables whose changes are tracked. Its schedule then '
    'refreshes it only after a change.';
comment on column tinydevcrm.matviews.is_analyzed is
    'Whether matview_sources and untracked_reason are true. Set it to false to have them found again.';
comment on column tinydevcrm.matviews.seen_snapshot is
    'The transactions whose changes its rows contain for certain, as a txid_snapshot. Null: none, so '
    'it is stale.';

comment on column tinydevcrm.matviews.depth is
    '0 when it reads no watched view, else one more than the deepest of those that it reads. A round '
    'refreshes views in this order.';
comment on column tinydevcrm.matviews.content_hash is
    'Hash of its rows after its last refresh, while another watched view reads it: see '
    'tinydevcrm._detect_change(). Null when that is not known.';

comment on column tinydevcrm.matviews.is_on_change is
    'Whether its schedule is "on change". A trigger sets it.';
comment on column tinydevcrm.matviews.refresh_interval is
    'On change: shortest time between the starts of two refreshes, 100 ms to 7 days. The first '
    'change after that is refreshed at once.';
comment on column tinydevcrm.matviews.tried_snapshot is
    'On change: what its last refresh has read, as a txid_snapshot, also when that failed or could '
    'not notify. Null before the first.';

grant update (is_analyzed, seen_snapshot, content_hash, refresh_interval, tried_snapshot)
   on tinydevcrm.matviews to tinydevcrm_user;

create function tinydevcrm._find_untracked_reason(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               tinydevcrm._find_call_reason(_find_untracked_reason.relation),
               tinydevcrm._find_read_reason(_find_untracked_reason.relation),
               (
                   select case reads.kind
                              when 'm' then
                                  format(
                                      'it reads the materialized view %s, which is not watched',
                                      reads.oid::regclass)
                              else
                                  format('the table %s is not tracked', reads.oid::regclass)
                          end
                     from tinydevcrm._list_reads(_find_untracked_reason.relation) as reads
                    where reads.kind in ('r', 'p')
                      and not tinydevcrm._is_table_tracked(reads.oid)
                       or reads.kind = 'm'
                      and not exists (
                          select
                            from tinydevcrm.matviews
                           where matviews.relation = reads.oid
                      )
                    order by reads.oid
                    limit 1
               ))
$$;

comment on function tinydevcrm._find_untracked_reason(regclass) is
    'Why a materialized view cannot be tracked; null when it can.';

create function tinydevcrm._matviews_analyze()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_reads oid[] := array(
        select reads.oid
          from tinydevcrm._list_reads(new.relation) as reads
    );
    v_depth integer;
begin
    delete
      from tinydevcrm.matview_sources
     where matview_sources.matview_id = new.id
       and matview_sources.relation <> all (v_reads);

    insert into tinydevcrm.matview_sources (matview_id, relation)
    select new.id,
           reads.oid
      from unnest(v_reads) as reads (oid)
    on conflict on constraint matview_sources_pkey do nothing;

    select coalesce(max(matviews.depth) + 1, 0)
      into v_depth
      from tinydevcrm.matviews
     where matviews.relation = any (v_reads);

    update tinydevcrm.matviews
       set untracked_reason = tinydevcrm._find_untracked_reason(new.relation),
           depth = v_depth,
           is_analyzed = true
     where matviews.id = new.id;

    -- Views that read this one can be tracked from now on, or are deeper.
    if tg_op = 'INSERT' or v_depth <> new.depth then
        update tinydevcrm.matviews
           set is_analyzed = false
          from tinydevcrm.matview_sources
         where matview_sources.matview_id = matviews.id
           and matview_sources.relation = new.relation;
    end if;

    return null;
end
$$;

comment on function tinydevcrm._matviews_analyze() is
    'Finds what a view reads, and whether it is tracked. Reads catalogs only. Security definer: '
    'users write neither. As a trigger it runs only for a registration that row-level security has '
    'let through.';

create trigger _600_analyze
    after insert on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_analyze();

create trigger _600_analyze_again
    after update of is_analyzed, owner on tinydevcrm.matviews
    for each row
    when (not new.is_analyzed or new.owner <> old.owner)
    execute function tinydevcrm._matviews_analyze();

create function tinydevcrm._has_changed_since(matview_id bigint, snapshot text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_seen constant txid_snapshot := _has_changed_since.snapshot;
begin
    return v_seen is null
        -- The snapshot is of another server: the database was restored from a dump.
        or txid_snapshot_xmax(v_seen) > txid_snapshot_xmax(txid_current_snapshot())
        or exists (
            select
              from tinydevcrm.matview_sources
             cross join lateral (
                 select
                   from tinydevcrm.table_changes
                  where table_changes.relation = matview_sources.relation
                    and table_changes.xid >= txid_snapshot_xmin(v_seen)
                    and not txid_visible_in_snapshot(table_changes.xid, v_seen)
                  -- From the end of the index: most changes there are older than the snapshot.
                  order by table_changes.xid desc
                  limit 1
             ) as unseen
             where matview_sources.matview_id = _has_changed_since.matview_id
        );
end
$$;

comment on function tinydevcrm._has_changed_since(bigint, text) is
    'Whether something that a view reads has a committed change that is not visible in a snapshot. '
    'Always true for null.';

create function tinydevcrm._is_stale(matview tinydevcrm.matviews)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return not (matview).is_tracked
        or tinydevcrm._has_changed_since((matview).id, (matview).seen_snapshot);
end
$$;

comment on function tinydevcrm._is_stale(tinydevcrm.matviews) is
    'Whether a refresh of a view may find other rows: a table that it reads has a committed change '
    'that its last refresh has not seen. Always true for a view that is not tracked.';

create function tinydevcrm._current_snapshot()
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_snapshot constant txid_snapshot := txid_current_snapshot();
    v_own      constant bigint := txid_current_if_assigned();
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        return null;
    end if;

    -- A snapshot does not name its own transaction, which may still write.
    if v_own < txid_snapshot_xmax(v_snapshot) then
        return format(
            '%s:%s:%s',
            least(v_own, txid_snapshot_xmin(v_snapshot)),
            txid_snapshot_xmax(v_snapshot),
            (
                select string_agg(running.xid::text, ',' order by running.xid)
                  from (
                    select txid_snapshot_xip(v_snapshot) as xid
                     union
                    select v_own
                  ) as running
            ));
    end if;

    return v_snapshot;
end
$$;

comment on function tinydevcrm._current_snapshot() is
    'What a statement that runs next sees for certain: the transactions that have ended, so not '
    'this one. Null in a transaction that keeps one snapshot: it may have been taken long before, '
    'and cleaning up relies on the order.';

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
declare
    v_table regclass;
begin
    for v_table in
        select pg_trigger.tgrelid
          from tinydevcrm._list_with_children(untrack_table.relation) as tables (oid)
          join pg_trigger
            on pg_trigger.tgrelid = tables.oid
         where pg_trigger.tgfoid = 'tinydevcrm._table_changes_record()'::regprocedure
         order by pg_trigger.tgrelid
    loop
        execute format('drop trigger tinydevcrm_record_change on %s', v_table);
    end loop;

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
    v_table regclass;
begin
    if tinydevcrm._find_call_reason(_track_reads.relation) is not null
       or tinydevcrm._find_read_reason(_track_reads.relation) is not null
    then
        return;
    end if;

    for v_table in
        select reads.oid
          from tinydevcrm._list_reads(_track_reads.relation) as reads
         where reads.kind in ('r', 'p')
           and not tinydevcrm._is_table_tracked(reads.oid)
         order by reads.oid
    loop
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

    update tinydevcrm.matviews
       set is_analyzed = false
     where matviews.relation = _track_reads.relation;
end
$$;

comment on function tinydevcrm._track_reads(regclass) is
    'Tracks the tables that a view reads, if nothing else stands in the way of tracking the view.';

-- When a cleaning may remove a row. See tinydevcrm._remove_seen_changes().
create table tinydevcrm._change_horizon (
    id       boolean not null default true,
    snapshot txid_snapshot not null,

    constraint _change_horizon_pkey primary key (id),
    constraint _change_horizon_one_row check (id)
);

comment on table tinydevcrm._change_horizon is
    'A snapshot that upkeep has taken, in one row.';
comment on column tinydevcrm._change_horizon.id is
    'Always true: keeps the table at one row.';
comment on column tinydevcrm._change_horizon.snapshot is
    'When every transaction that ran then has ended, each refresh that still runs has seen the '
    'changes that are visible in it.';

alter table tinydevcrm._change_horizon enable row level security;

create policy _change_horizon_admin on tinydevcrm._change_horizon
    for select
    to tinydevcrm_admin
    using (true);

grant select on tinydevcrm._change_horizon to tinydevcrm_admin;

insert into tinydevcrm._change_horizon (snapshot) values (tinydevcrm._current_snapshot()::txid_snapshot);

create function tinydevcrm._remove_seen_changes()
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_now     constant txid_snapshot := tinydevcrm._current_snapshot()::txid_snapshot;
    v_horizon txid_snapshot;
    v_count   bigint;
begin
    select _change_horizon.snapshot
      into v_horizon
      from tinydevcrm._change_horizon;

    -- A refresh that began before the horizon and still runs is not yet in the registry.
    if txid_snapshot_xmax(v_horizon) > txid_snapshot_xmin(v_now) then
        return 0;
    end if;

    -- Of the changes that a view has not seen, it needs one: the last.
    with needed as (
        select distinct
               matview_sources.relation,
               unseen.xid
          from tinydevcrm.matview_sources
          join tinydevcrm.matviews
            on matviews.id = matview_sources.matview_id
         cross join lateral (
             select matviews.seen_snapshot::txid_snapshot as snapshot
         ) as seen
         cross join lateral (
             select table_changes.xid
               from tinydevcrm.table_changes
              where table_changes.relation = matview_sources.relation
                and table_changes.xid >= txid_snapshot_xmin(seen.snapshot)
                and not txid_visible_in_snapshot(table_changes.xid, seen.snapshot)
                and txid_visible_in_snapshot(table_changes.xid, v_horizon)
              order by table_changes.xid desc
              limit 1
         ) as unseen
    )
    delete
      from tinydevcrm.table_changes
     where txid_visible_in_snapshot(table_changes.xid, v_horizon)
       and not exists (
           select
             from needed
            where needed.relation = table_changes.relation
              and needed.xid = table_changes.xid
       );
    get diagnostics v_count = row_count;

    update tinydevcrm._change_horizon
       set snapshot = v_now;

    return v_count;
end
$$;

comment on function tinydevcrm._remove_seen_changes() is
    'Removes changes that no view needs any more, and returns how many. Upkeep calls it.';

create function tinydevcrm._settle_tracking()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row. Upkeep tries again the next minute.
    set lock_timeout = '100ms'
as $$
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
           )
$$;

comment on function tinydevcrm._settle_tracking() is
    'Analyzes views again whose tables have lost their trigger or changed their owner, or that '
    'logical replication fills now. Upkeep calls it: no trigger sees these changes everywhere.';

revoke execute on function
    tinydevcrm._find_untracked_reason(regclass),
    tinydevcrm._matviews_analyze(),
    tinydevcrm._has_changed_since(bigint, text),
    tinydevcrm._is_stale(tinydevcrm.matviews),
    tinydevcrm._current_snapshot(),
    tinydevcrm._analyze_readers(regclass),
    tinydevcrm.track_table(regclass),
    tinydevcrm.untrack_table(regclass),
    tinydevcrm._track_reads(regclass),
    tinydevcrm._remove_seen_changes(),
    tinydevcrm._settle_tracking()
from public;

grant execute on function
    tinydevcrm._find_untracked_reason(regclass),
    tinydevcrm._has_changed_since(bigint, text),
    tinydevcrm._is_stale(tinydevcrm.matviews),
    tinydevcrm._current_snapshot(),
    tinydevcrm._analyze_readers(regclass),
    tinydevcrm.track_table(regclass),
    tinydevcrm.untrack_table(regclass),
    tinydevcrm._track_reads(regclass)
to tinydevcrm_user;
