-- When a recorded change may be removed: see tinydevcrm._remove_seen_changes().

create table tinydevcrm._change_horizon (
    id       boolean not null default true,
    snapshot txid_snapshot not null,
    xid      bigint not null,
    noted_snapshot txid_snapshot,
    server_id bigint not null default (pg_control_system()).system_identifier,

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
comment on column tinydevcrm._change_horizon.server_id is
    'System identifier of the server whose transactions these are. A restored dump has those of '
    'another server.';

alter table tinydevcrm._change_horizon enable row level security;

create policy _change_horizon_admin on tinydevcrm._change_horizon
    for select
    to tinydevcrm_admin
    using (true);

grant select on tinydevcrm._change_horizon to tinydevcrm_admin;

insert into tinydevcrm._change_horizon (snapshot, xid)
values (tinydevcrm._current_snapshot()::txid_snapshot, txid_current());

create function tinydevcrm._forget_other_server()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_server_id constant bigint := (pg_control_system()).system_identifier;
begin
    update tinydevcrm._change_horizon
       set snapshot = tinydevcrm._current_snapshot()::txid_snapshot,
           xid = txid_current(),
           server_id = v_server_id
     where _change_horizon.server_id <> v_server_id;

    if not found then
        return;
    end if;

    -- A refresh that runs now sets its own snapshot, and needs the changes of this server.
    perform tinydevcrm._analyze_again(array(select matviews.id from tinydevcrm.matviews));
    delete
      from tinydevcrm.table_changes
     where table_changes.xid >= txid_snapshot_xmax(txid_current_snapshot())
       and table_changes.xid <> txid_current();
end
$$;

comment on function tinydevcrm._forget_other_server() is
    'After the database was restored from a dump of another server: makes each view stale, and '
    'removes changes by transactions that this server has not had yet. The numbers of the other '
    'server''s transactions may come again.';

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
    perform tinydevcrm._forget_other_server();

    select _change_horizon.snapshot,
           _change_horizon.xid
      into v_horizon,
           v_xid
      from tinydevcrm._change_horizon;

    -- A refresh that began before the horizon and still runs is not yet in the registry. It has a
    -- number: it took its lock before its snapshot.
    if v_xid >= txid_snapshot_xmin(v_now) then
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

revoke execute on function
    tinydevcrm._forget_other_server(),
    tinydevcrm._remove_seen_changes()
from public;
