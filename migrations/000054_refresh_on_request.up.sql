-- The job that does the refreshes which somebody other than the owner has requested.

create procedure tinydevcrm.refresh_requested()
    language plpgsql
as $$
-- Commits, so it cannot set a search_path and qualifies all names.
declare
    v_matview  tinydevcrm.matviews;
    v_last_id  bigint := 0;
    v_began_at timestamptz;
begin
    perform tinydevcrm._record_ended_requests();
    commit;

    loop
        v_began_at := pg_catalog.clock_timestamp();
        v_matview := tinydevcrm._find_requested_matview(v_last_id);
        exit when v_matview.id is null;
        perform tinydevcrm._mark_lock('matview', v_matview.id, array[v_matview.id]);
        commit;

        begin
            perform tinydevcrm._refresh_matview(
                v_matview,
                (
                    select refresh_requests.schedule_id
                      from tinydevcrm.refresh_requests
                     where refresh_requests.matview_id operator(pg_catalog.=) v_matview.id
                ),
                is_job => true);
            perform tinydevcrm._mark_lock('matview', v_matview.id, null);
            v_last_id := v_matview.id;
        exception
            -- As in _refresh_round(): the refresh is tried again.
            when query_canceled then
                if not tinydevcrm._is_round_timeout(v_began_at)
                   and not tinydevcrm._is_overdue(v_began_at)
                then
                    raise;
                end if;
        end;
        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_requested() is
    'Refreshes the materialized views of this session''s role that others have requested, each in '
    'a transaction of its own: see tinydevcrm.refresh_requests. A pg_cron job of the owner calls '
    'it while there are requests.';

create function tinydevcrm._record_ended_requests()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._record_ended_refresh(ended, null)
      from (
        select _locks.what,
               array_agg(_locks.id) as ids
          from tinydevcrm.refresh_requests
          join tinydevcrm.matviews
            on matviews.id = refresh_requests.matview_id
           and tinydevcrm._is_session_of(matviews.owner)
          join tinydevcrm._locks
            on matviews.id = any (_locks.matview_ids)
         group by _locks.what
      ) as left_marks
     cross join lateral tinydevcrm._take_ended_refreshes(
         left_marks.what, left_marks.ids) as ended
$$;

comment on function tinydevcrm._record_ended_requests() is
    'Records the refreshes that have ended the session of their job, when what that job has left '
    'is requested from this session''s role. With the event the request is gone.';

create function tinydevcrm._find_requested_matview(after_id bigint)
    returns tinydevcrm.matviews
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select matviews.*
      from tinydevcrm.refresh_requests
      join tinydevcrm.matviews
        on matviews.id = refresh_requests.matview_id
      -- A view that has just got another owner waits for settle_jobs().
      join pg_class
        on pg_class.oid = matviews.relation
       and pg_class.relowner = matviews.owner
     where matviews.id > _find_requested_matview.after_id
       and tinydevcrm._is_session_of(matviews.owner)
     order by matviews.id
     limit 1
$$;

comment on function tinydevcrm._find_requested_matview(bigint) is
    'The next materialized view of this session''s role whose refresh is requested; null when '
    'there is none.';

revoke execute on procedure tinydevcrm.refresh_requested() from public;

revoke execute on function
    tinydevcrm._record_ended_requests(),
    tinydevcrm._find_requested_matview(bigint)
from public;

grant execute on procedure tinydevcrm.refresh_requested() to tinydevcrm_user;

grant execute on function
    tinydevcrm._record_ended_requests(),
    tinydevcrm._find_requested_matview(bigint)
to tinydevcrm_user;
