-- Which views are stale, and what a refresh sees for certain.

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
        or not (matview).is_analyzed
        or tinydevcrm._has_changed_since((matview).id, (matview).seen_snapshot)
        or tinydevcrm._is_analysis_requested((matview).id)
        or exists (
            select
              from pg_class
             where pg_class.oid = (matview).relation
               and not pg_class.relispopulated
        );
end
$$;

comment on function tinydevcrm._is_stale(tinydevcrm.matviews) is
    'Whether a refresh of a view may find other rows: a table that it reads has a committed change '
    'that its last refresh has not seen. Always true for a view that is not tracked, analyzed '
    'or populated.';

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

revoke execute on function
    tinydevcrm._has_changed_since(bigint, text),
    tinydevcrm._is_stale(tinydevcrm.matviews),
    tinydevcrm._current_snapshot()
from public;

grant execute on function
    tinydevcrm._has_changed_since(bigint, text),
    tinydevcrm._is_stale(tinydevcrm.matviews),
    tinydevcrm._current_snapshot()
to tinydevcrm_user;
