-- Which tables have changed. A trigger on a tracked table writes one row per transaction and table.
-- No writer updates or locks a row that another one needs, so writers wait neither for each other
-- nor for a refresh.

create table tinydevcrm.table_changes (
    relation regclass not null,
    xid      bigint not null,

    constraint table_changes_pkey primary key (relation, xid)
);

comment on table tinydevcrm.table_changes is
    'Transactions that have changed a tracked table, until every view that reads the table has '
    'been refreshed. A refreshed materialized view that others read counts as a table. A trigger '
    'on the table writes the rows: see tinydevcrm.track_table().';
comment on column tinydevcrm.table_changes.relation is
    'The table or materialized view. For a partition: the partition.';
comment on column tinydevcrm.table_changes.xid is
    'Number of the transaction, as txid_current() gives it.';

alter table tinydevcrm.table_changes enable row level security;

create table tinydevcrm.change_watches (
    relation        regclass not null,
    schedule_id     bigint not null,
    looked_snapshot txid_snapshot not null default txid_current_snapshot(),

    constraint change_watches_pkey primary key (relation, schedule_id)
);

comment on table tinydevcrm.change_watches is
    'What is read by views that are refreshed on change. A writer reads this table to decide '
    'whether to notify. Triggers keep it true, and upkeep.';
comment on column tinydevcrm.change_watches.relation is
    'A table, or a materialized view that others read.';
comment on column tinydevcrm.change_watches.schedule_id is
    'The schedule "on change" of the owner of the views that read it.';
comment on column tinydevcrm.change_watches.looked_snapshot is
    'The changes that are visible in it have been looked at. While there is a later one, nobody '
    'needs to notify. A trigger sets it to the present at any update.';

create index change_watches_schedule_idx on tinydevcrm.change_watches (schedule_id);

alter table tinydevcrm.change_watches enable row level security;

create function tinydevcrm._change_watches_look()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.looked_snapshot := txid_current_snapshot();
    return new;
end
$$;

comment on function tinydevcrm._change_watches_look() is
    'Sets what has been looked at: what is committed by now.';

create trigger _100_look
    before update of looked_snapshot on tinydevcrm.change_watches
    for each row
    execute function tinydevcrm._change_watches_look();

create function tinydevcrm._notify_change()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A transaction that has notified cannot be prepared.
    if current_setting('max_prepared_transactions') = '0'
       and pg_notification_queue_usage() < 0.5
    then
        perform pg_notify('matview_refresh_channel', 'changed');
    end if;
end
$$;

comment on function tinydevcrm._notify_change() is
    'Sends "changed" on matview_refresh_channel when the transaction commits. Not where '
    'transactions can be prepared: there, what has changed is looked for each second.';

create function tinydevcrm._may_change_silently()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select current_setting('max_prepared_transactions') <> '0'
        or exists (
            select
              from pg_locks
             where pg_locks.locktype = 'relation'
               and pg_locks.database = (
                   select pg_database.oid
                     from pg_database
                    where pg_database.datname = current_database()
               )
               and pg_locks.relation = 'tinydevcrm.table_changes'::regclass
               and pg_locks.mode = 'RowExclusiveLock'
               and pg_locks.granted
               and pg_locks.pid is distinct from pg_backend_pid()
        )
$$;

comment on function tinydevcrm._may_change_silently() is
    'Whether a transaction that runs now may commit a change without notifying: it has seen a '
    'pending change, which may meanwhile have been looked at.';

-- Runs for each statement that writes a tracked table. To set a search_path would take as long as
-- the rest, so it qualifies all names.
create function tinydevcrm._table_changes_record()
    returns trigger
    language plpgsql
    volatile
    security definer
as $$
declare
    v_is_first boolean;
begin
    -- A savepoint that is rolled back takes the row with it, so each statement looks again.
    -- Transactions that notify wait for each other at their commit, so a burst notifies once: none
    -- does while a change is pending that has not been looked at. An old snapshot may show one that
    -- has been. One statement, because writers pay for it.
    insert into tinydevcrm.table_changes (relation, xid)
    values (tg_relid, pg_catalog.txid_current())
    on conflict on constraint table_changes_pkey do nothing
    returning exists (
        select
          from tinydevcrm.change_watches
          left join lateral (
              select true as is_there
                from tinydevcrm.table_changes as earlier
               where earlier.relation operator(pg_catalog.=) change_watches.relation
                 and earlier.xid operator(pg_catalog.>=)
                     pg_catalog.txid_snapshot_xmin(change_watches.looked_snapshot)
                 and not pg_catalog.txid_visible_in_snapshot(
                         earlier.xid, change_watches.looked_snapshot)
                 and pg_catalog.current_setting('transaction_isolation')
                     operator(pg_catalog.=) 'read committed'
               order by earlier.xid desc
               limit 1
          ) as pending
            on true
         where change_watches.relation operator(pg_catalog.=) tg_relid
           and pending.is_there is null
    )
    into v_is_first;

    if v_is_first then
        perform tinydevcrm._notify_change();
    end if;
    return null;
end
$$;

comment on function tinydevcrm._table_changes_record() is
    'Records that the current transaction has changed a table, and notifies. Security definer: '
    'roles that may write the table need no rights in TinyDevCRM. It lends insert of this table''s '
    'number and this transaction, and a notification without content.';

create function tinydevcrm._record_change(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into tinydevcrm.table_changes (relation, xid)
    values (_record_change.relation, txid_current())
    on conflict on constraint table_changes_pkey do nothing;

    if exists (
        select
          from tinydevcrm.change_watches
         where change_watches.relation = _record_change.relation
    ) then
        perform tinydevcrm._notify_change();
    end if;
end
$$;

comment on function tinydevcrm._record_change(regclass) is
    'Records a change that no trigger on the table sees, such as "alter table", and notifies.';

create function tinydevcrm._is_table_tracked(relation oid)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- "Always" is with logical replication too, and under session_replication_role = replica.
    select exists (
        select
          from pg_trigger
         where pg_trigger.tgrelid = _is_table_tracked.relation
           and pg_trigger.tgfoid = 'tinydevcrm._table_changes_record()'::regprocedure
           and pg_trigger.tgenabled = 'A'
    )
$$;

comment on function tinydevcrm._is_table_tracked(oid) is
    'Whether a table has our trigger, and the trigger is enabled for every session.';

create function tinydevcrm._list_with_children(relation regclass)
    returns setof regclass
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive tables (oid) as (
        select _list_with_children.relation::oid
         union
        select pg_inherits.inhrelid
          from tables
          join pg_inherits
            on pg_inherits.inhparent = tables.oid
    )
    select tables.oid::regclass
      from tables
$$;

comment on function tinydevcrm._list_with_children(regclass) is
    'A table with its partitions and the tables that inherit from it, at all depths.';

create function tinydevcrm._create_change_trigger(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select
          from pg_trigger
         where tgrelid = _create_change_trigger.relation
           and tgfoid = 'tinydevcrm._table_changes_record()'::regprocedure
    ) then
        execute format(
            'create trigger tinydevcrm_record_change
                 after insert or update or delete or truncate on %s
                 for each statement
                 execute function tinydevcrm._table_changes_record()',
            _create_change_trigger.relation);
    end if;
    execute format(
        'alter table only %s enable always trigger tinydevcrm_record_change',
        _create_change_trigger.relation);
end
$$;

comment on function tinydevcrm._create_change_trigger(regclass) is
    'Creates the trigger on one table that records its changes, or enables it again, for sessions '
    'with session_replication_role = replica too.';

create function tinydevcrm._drop_change_triggers(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_table regclass;
begin
    for v_table in
        select pg_trigger.tgrelid
          from tinydevcrm._list_with_children(_drop_change_triggers.relation) as tables (oid)
          join pg_trigger
            on pg_trigger.tgrelid = tables.oid
         where pg_trigger.tgfoid = 'tinydevcrm._table_changes_record()'::regprocedure
         order by pg_trigger.tgrelid
    loop
        execute format('drop trigger tinydevcrm_record_change on %s', v_table);
    end loop;
end
$$;

comment on function tinydevcrm._drop_change_triggers(regclass) is
    'Drops the triggers that record the changes of a table and its partitions.';

revoke execute on function
    tinydevcrm._drop_change_triggers(regclass),
    tinydevcrm._change_watches_look(),
    tinydevcrm._notify_change(),
    tinydevcrm._may_change_silently(),
    tinydevcrm._table_changes_record(),
    tinydevcrm._record_change(regclass),
    tinydevcrm._is_table_tracked(oid),
    tinydevcrm._list_with_children(regclass),
    tinydevcrm._create_change_trigger(regclass)
from public;

-- The owner of a table creates the trigger.
grant execute on function
    tinydevcrm._drop_change_triggers(regclass),
    tinydevcrm._may_change_silently(),
    tinydevcrm._table_changes_record(),
    tinydevcrm._is_table_tracked(oid),
    tinydevcrm._list_with_children(regclass),
    tinydevcrm._create_change_trigger(regclass)
to tinydevcrm_user;
