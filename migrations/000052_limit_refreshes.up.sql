-- How long a refresh waits for locks, and how long it takes at most.

create function tinydevcrm._limit_lock_waits(
    matview     tinydevcrm.matviews,
    refresh     tinydevcrm._refresh,
    is_job      boolean,
    lock_wait   interval,
    looks_first boolean
)
    returns interval
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_own    interval := nullif(current_setting('lock_timeout')::interval, interval '0');
    v_limit  interval := case
        when v_own is null or _limit_lock_waits.is_job then
            least((refresh).lock_timeout, _limit_lock_waits.lock_wait, v_own)
        else v_own
    end;
    v_holder text;
begin
    if _limit_lock_waits.looks_first then
        v_holder := tinydevcrm._describe_lock_holder(
            (matview).relation, (refresh).method = 'concurrently', v_limit);
        if v_holder is not null then
            raise exception using
                errcode = '55P03',
                message = 'did not wait for ' || v_holder;
        end if;
    end if;

    perform set_config(
        'lock_timeout', ceil(extract(epoch from v_limit) * 1000)::bigint::text, true);
    return v_limit;
end
$$;

comment on function tinydevcrm._limit_lock_waits(
    tinydevcrm.matviews, tinydevcrm._refresh, boolean, interval, boolean
) is
    'Sets the lock_timeout of the transaction, and returns it: tinydevcrm.settings.'
    'refresh_lock_timeout, in a job at most lock_wait and the session''s own lock_timeout. Else '
    'the session''s own lock_timeout counts, if it has one. When it looks first, raises 55P03 '
    'instead of waiting for a transaction that is older than that.';

create function tinydevcrm._is_round_timeout(started_at timestamptz)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ends_at timestamptz := statement_timestamp()
        + nullif(current_setting('statement_timeout')::interval, interval '0');
begin
    return coalesce(
        _is_round_timeout.started_at < v_ends_at and clock_timestamp() >= v_ends_at, false);
end
$$;

comment on function tinydevcrm._is_round_timeout(timestamptz) is
    'Whether statement_timeout has canceled what a job began at that time. It counts from the call '
    'of the job''s procedure on, over all refreshes, and cancels once.';

create function tinydevcrm._is_overdue(started_at timestamptz, share real default 1)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               clock_timestamp() - _is_overdue.started_at >= found.timeout * _is_overdue.share,
               false)
      from tinydevcrm._find_refresh_timeout() as found
$$;

comment on function tinydevcrm._is_overdue(timestamptz, real) is
    'Whether a refresh that a job began at that time takes longer than it may, or than a share of '
    'that.';

revoke execute on function
    tinydevcrm._limit_lock_waits(
        tinydevcrm.matviews, tinydevcrm._refresh, boolean, interval, boolean),
    tinydevcrm._is_round_timeout(timestamptz),
    tinydevcrm._is_overdue(timestamptz, real)
from public;

grant execute on function
    tinydevcrm._limit_lock_waits(
        tinydevcrm.matviews, tinydevcrm._refresh, boolean, interval, boolean),
    tinydevcrm._is_round_timeout(timestamptz),
    tinydevcrm._is_overdue(timestamptz, real)
to tinydevcrm_user;
