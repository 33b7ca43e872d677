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

-- Runs for each statement that writes a tracked table. To set a search_path would take as long as
-- the rest, so it qualifies all names and uses no operator.
create function tinydevcrm._table_changes_record()
    returns trigger
    language plpgsql
    volatile
    security definer
as $$
begin
    -- A savepoint that is rolled back takes the row with it, so each statement looks again.
    insert into tinydevcrm.table_changes (relation, xid)
    values (tg_relid, pg_catalog.txid_current())
    on conflict on constraint table_changes_pkey do nothing;

    return null;
end
$$;

comment on function tinydevcrm._table_changes_record() is
    'Records that the current transaction has changed a table. Security definer: roles that may '
    'write the table need no rights in TinyDevCRM. It lends insert of this table''s number and '
    'this transaction.';

create function tinydevcrm._record_change(relation regclass)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    insert into tinydevcrm.table_changes (relation, xid)
    values (_record_change.relation, txid_current())
    on conflict on constraint table_changes_pkey do nothing
$$;

comment on function tinydevcrm._record_change(regclass) is
    'Records a change that no trigger on the table sees, such as "alter table".';

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
    tinydevcrm._table_changes_record(),
    tinydevcrm._record_change(regclass),
    tinydevcrm._is_table_tracked(oid),
    tinydevcrm._list_with_children(regclass),
    tinydevcrm._create_change_trigger(regclass)
from public;

-- The owner of a table creates the trigger.
grant execute on function
    tinydevcrm._drop_change_triggers(regclass),
    tinydevcrm._table_changes_record(),
    tinydevcrm._is_table_tracked(oid),
    tinydevcrm._list_with_children(regclass),
    tinydevcrm._create_change_trigger(regclass)
to tinydevcrm_user;
