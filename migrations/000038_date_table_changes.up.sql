-- When tables last changed, to about a minute, and the deadline of a view.

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

revoke execute on function
    tinydevcrm._note_changed_tables(),
    tinydevcrm._list_dated_sources(bigint),
    tinydevcrm._find_last_change(bigint),
    tinydevcrm._check_deadline(tinydevcrm.matviews)
from public;

grant execute on function
    tinydevcrm._list_dated_sources(bigint),
    tinydevcrm._find_last_change(bigint),
    tinydevcrm._check_deadline(tinydevcrm.matviews)
to tinydevcrm_user;
