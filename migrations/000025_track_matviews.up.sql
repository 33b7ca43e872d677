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

create table tinydevcrm._analysis_requests (
    id         bigint generated always as identity,
    matview_id bigint not null,

    constraint _analysis_requests_pkey primary key (id)
);

comment on table tinydevcrm._analysis_requests is
    'Views to analyze again whose rows in the registry another session had locked when a command '
    'changed what they read. Such a view is stale until upkeep has analyzed it. No constraint '
    'makes the command wait.';
comment on column tinydevcrm._analysis_requests.id is
    'Number of the request.';
comment on column tinydevcrm._analysis_requests.matview_id is
    'The view: tinydevcrm.matviews.id. It may have been dropped since.';

create index _analysis_requests_matview_idx on tinydevcrm._analysis_requests (matview_id);

alter table tinydevcrm._analysis_requests enable row level security;

create policy _analysis_requests_read on tinydevcrm._analysis_requests
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = _analysis_requests.matview_id
    ));

grant select on tinydevcrm._analysis_requests to tinydevcrm_user;

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
    add column notify_deadline interval not null default interval '0',
    add column deadline_set_at timestamptz,
    add column silent_noted_at timestamptz,
    add constraint matviews_notify_deadline_range check (
        notify_deadline = interval '0'
        or notify_deadline between interval '2 minutes' and interval '10 years'
    ),
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

comment on column tinydevcrm.matviews.notify_deadline is
    'When none of the tables that it reads has changed for so long, an event notifies, and another '
    'one when they change again: 2 minutes to 10 years; 0 for none. See tinydevcrm._note_silent().';
comment on column tinydevcrm.matviews.deadline_set_at is
    'When notify_deadline was last changed; null when it was not since the registration.';
comment on column tinydevcrm.matviews.silent_noted_at is
    'When an event said that its tables have not changed within notify_deadline; null once they '
    'have.';
comment on column tinydevcrm.matviews.is_on_change is
    'Whether its schedule is "on change". A trigger sets it.';
comment on column tinydevcrm.matviews.refresh_interval is
    'On change: shortest time between the starts of two refreshes, 100 ms to 7 days. The first '
    'change after that is refreshed at once.';
comment on column tinydevcrm.matviews.tried_snapshot is
    'On change: what its last refresh has read, as a txid_snapshot, also when that failed or could '
    'not notify. Null before the first.';

grant insert (notify_deadline),
      update (
          notify_deadline, is_analyzed, seen_snapshot, content_hash, refresh_interval,
          tried_snapshot)
   on tinydevcrm.matviews to tinydevcrm_user;

create function tinydevcrm._matviews_set_deadline()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.deadline_set_at := now();
    new.silent_noted_at := null;
    return new;
end
$$;

comment on function tinydevcrm._matviews_set_deadline() is
    'Begins anew to wait for a change of the tables when notify_deadline is changed.';

create trigger _100_set_deadline
    before update of notify_deadline on tinydevcrm.matviews
    for each row
    when (new.notify_deadline <> old.notify_deadline)
    execute function tinydevcrm._matviews_set_deadline();

create function tinydevcrm._find_untracked_reason(relation regclass)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
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
               ));
end
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

create function tinydevcrm._is_analysis_requested(matview_id bigint)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
          from tinydevcrm._analysis_requests
         where _analysis_requests.matview_id = _is_analysis_requested.matview_id
    );
end
$$;

comment on function tinydevcrm._is_analysis_requested(bigint) is
    'Whether a view is to be analyzed again: see tinydevcrm._analysis_requests.';

create function tinydevcrm._analyze_again(ids bigint[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[];
begin
    with free as materialized (
        select matviews.id
          from tinydevcrm.matviews
         where matviews.id = any (_analyze_again.ids)
           for no key update skip locked
    ),
    analyzed as (
        update tinydevcrm.matviews
           set is_analyzed = false,
               seen_snapshot = null,
               content_hash = null
          from free
         where matviews.id = free.id
        returning matviews.id
    )
    select array_agg(analyzed.id)
      into v_ids
      from analyzed;

    insert into tinydevcrm._analysis_requests (matview_id)
    select wanted.id
      from unnest(_analyze_again.ids) as wanted (id)
     where wanted.id <> all (coalesce(v_ids, '{}'));
exception
    -- In a transaction that keeps one snapshot, another one has changed the registry since.
    when serialization_failure then
        insert into tinydevcrm._analysis_requests (matview_id)
        select unnest(_analyze_again.ids);
end
$$;

comment on function tinydevcrm._analyze_again(bigint[]) is
    'Makes views stale and analyzes them again: at once, or by upkeep when another session has '
    'locked them. Never waits.';

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
        or tinydevcrm._has_changed_since((matview).id, (matview).seen_snapshot)
        or tinydevcrm._is_analysis_requested((matview).id);
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
    xid      bigint not null,
    noted_snapshot txid_snapshot,

    constraint _change_horizon_pkey primary key (id),
    constraint _change_horizon_one_row check (id)
);

comment on table tinydevcrm._change_horizon is
    'A snapshot that upkeep has taken, in one row.';
comment on column tinydevcrm._change_horizon.id is
    'Always true: keeps the table at one row.';
comment on column tinydevcrm._change_horizon.snapshot is
    'When every transaction that had a number then has ended, each refresh that still runs has seen '
    'the changes that are visible in it.';
comment on column tinydevcrm._change_horizon.xid is
    'Greater than the numbers of the transactions that had one then. The snapshot does not say '
    'that: it ends with the last transaction that has ended.';
comment on column tinydevcrm._change_horizon.noted_snapshot is
    'The changes whose time is in tinydevcrm.table_change_times: those visible in it.';

alter table tinydevcrm._change_horizon enable row level security;

create policy _change_horizon_admin on tinydevcrm._change_horizon
    for select
    to tinydevcrm_admin
    using (true);

grant select on tinydevcrm._change_horizon to tinydevcrm_admin;

insert into tinydevcrm._change_horizon (snapshot, xid)
values (tinydevcrm._current_snapshot()::txid_snapshot, txid_current());

create function tinydevcrm._remove_seen_changes()
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_now     constant txid_snapshot := tinydevcrm._current_snapshot()::txid_snapshot;
    v_horizon txid_snapshot;
    v_xid     bigint;
    v_count   bigint;
begin
    select _change_horizon.snapshot,
           _change_horizon.xid
      into v_horizon,
           v_xid
      from tinydevcrm._change_horizon;

    -- A refresh that began before the horizon and still runs is not yet in the registry. It has a
    -- number: it took its lock before its snapshot.
    if v_xid >= txid_snapshot_xmin(v_now) then
        -- The database was restored from a dump of another server.
        if v_xid >= txid_snapshot_xmax(v_now) then
            update tinydevcrm._change_horizon
               set snapshot = v_now,
                   xid = txid_current();
        end if;
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
       set snapshot = v_now,
           xid = txid_current();

    return v_count;
end
$$;

comment on function tinydevcrm._remove_seen_changes() is
    'Removes changes that no view needs any more, and returns how many. Upkeep calls it.';

create table tinydevcrm.table_change_times (
    relation   regclass not null,
    changed_at timestamptz not null,

    constraint table_change_times_pkey primary key (relation)
);

comment on table tinydevcrm.table_change_times is
    'When the tracked tables that views read last changed. Upkeep writes it each minute, so that '
    'writers need not.';
comment on column tinydevcrm.table_change_times.relation is
    'The table; for a partition: the partition. Or a materialized view that another one reads.';
comment on column tinydevcrm.table_change_times.changed_at is
    'When upkeep last found a change, which was committed at most about a minute earlier.';

alter table tinydevcrm.table_change_times enable row level security;

-- As table_changes_reader.
create policy table_change_times_reader on tinydevcrm.table_change_times
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matview_sources
         where matview_sources.relation = table_change_times.relation
    ));

grant select on tinydevcrm.table_change_times to tinydevcrm_user;

create function tinydevcrm._note_changed_tables()
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- Before the statements below take theirs, so that the next call sees what they miss.
    v_now   constant txid_snapshot := tinydevcrm._current_snapshot()::txid_snapshot;
    v_noted txid_snapshot;
begin
    select _change_horizon.noted_snapshot
      into v_noted
      from tinydevcrm._change_horizon
       for update skip locked;

    if not found then
        return false;
    end if;

    insert into tinydevcrm.table_change_times (relation, changed_at)
    select table_changes.relation,
           clock_timestamp()
      from tinydevcrm.table_changes
      join tinydevcrm.matview_sources
        on matview_sources.relation = table_changes.relation
     where v_noted is null
        -- The snapshot is of another server, as in _is_stale().
        or txid_snapshot_xmax(v_noted) > txid_snapshot_xmax(v_now)
        or table_changes.xid >= txid_snapshot_xmin(v_noted)
       and not txid_visible_in_snapshot(table_changes.xid, v_noted)
     group by table_changes.relation
    on conflict on constraint table_change_times_pkey do update
       set changed_at = excluded.changed_at;

    delete
      from tinydevcrm.table_change_times
     where not exists (
        select
          from tinydevcrm.matview_sources
         where matview_sources.relation = table_change_times.relation
     );

    update tinydevcrm._change_horizon
       set noted_snapshot = v_now;

    return true;
end
$$;

comment on function tinydevcrm._note_changed_tables() is
    'Notes which tables have changed since the last call. Upkeep calls it before it removes '
    'changes. False when another session is doing that.';

create function tinydevcrm._list_dated_sources(matview_id bigint)
    returns table (relation regclass, changed_at timestamptz)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select sources.relation,
           greatest(
               table_change_times.changed_at,
               (
                   select max(imports.finished_at)
                     from tinydevcrm.imports
                    where imports.relation = sources.relation
               ))
      from tinydevcrm.matview_sources as sources
      left join tinydevcrm.table_change_times
        on table_change_times.relation = sources.relation
     where sources.matview_id = _list_dated_sources.matview_id
       and (
           tinydevcrm._is_table_tracked(sources.relation)
           or exists (
               select
                 from tinydevcrm.imports
                where imports.relation = sources.relation
           )
           or exists (
               select
                 from tinydevcrm.matviews
                where matviews.relation = sources.relation
           )
       )
$$;

comment on function tinydevcrm._list_dated_sources(bigint) is
    'Of what a view reads: the tables whose changes we see, because they are tracked or because '
    'imports fill them, and watched views, each with the time of its last known change or import; '
    'null when none is known.';

create function tinydevcrm._find_last_change(matview_id bigint)
    returns timestamptz
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select max(sources.changed_at)
      from tinydevcrm._list_dated_sources(_find_last_change.matview_id) as sources
$$;

comment on function tinydevcrm._find_last_change(bigint) is
    'When one of the tables that a view reads last changed, to about a minute, as far as it is '
    'known: see tinydevcrm._list_dated_sources().';

create function tinydevcrm._check_deadline(matview tinydevcrm.matviews)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (matview).notify_deadline > interval '0'
       and not exists (select from tinydevcrm._list_dated_sources((matview).id))
    then
        raise exception using
            errcode = 'TD007',
            message = format(
                '%s cannot have a deadline: no table that it reads is tracked or imported',
                (matview).relation),
            hint    = 'Track a table: select tinydevcrm.track_table(''…'').';
    end if;
end
$$;

comment on function tinydevcrm._check_deadline(tinydevcrm.matviews) is
    'Raises TD007 for a view with a notify_deadline that reads no table whose changes we see.';

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
    tinydevcrm._find_untracked_reason(regclass),
    tinydevcrm._is_analysis_requested(bigint),
    tinydevcrm._analyze_again(bigint[]),
    tinydevcrm._matviews_analyze(),
    tinydevcrm._has_changed_since(bigint, text),
    tinydevcrm._is_stale(tinydevcrm.matviews),
    tinydevcrm._current_snapshot(),
    tinydevcrm._analyze_readers(regclass),
    tinydevcrm.track_table(regclass),
    tinydevcrm.untrack_table(regclass),
    tinydevcrm._track_reads(regclass),
    tinydevcrm._remove_seen_changes(),
    tinydevcrm._matviews_set_deadline(),
    tinydevcrm._note_changed_tables(),
    tinydevcrm._list_dated_sources(bigint),
    tinydevcrm._find_last_change(bigint),
    tinydevcrm._check_deadline(tinydevcrm.matviews),
    tinydevcrm._settle_tracking()
from public;

grant execute on function
    tinydevcrm._find_untracked_reason(regclass),
    tinydevcrm._is_analysis_requested(bigint),
    tinydevcrm._has_changed_since(bigint, text),
    tinydevcrm._is_stale(tinydevcrm.matviews),
    tinydevcrm._current_snapshot(),
    tinydevcrm._analyze_readers(regclass),
    tinydevcrm.track_table(regclass),
    tinydevcrm.untrack_table(regclass),
    tinydevcrm._list_dated_sources(bigint),
    tinydevcrm._find_last_change(bigint),
    tinydevcrm._check_deadline(tinydevcrm.matviews),
    tinydevcrm._track_reads(regclass)
to tinydevcrm_user;
