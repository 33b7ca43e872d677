-- Which deliveries can be received next: the first pending one of each view, its head.

create function tinydevcrm._list_heads(subscription_id bigint)
    returns setof tinydevcrm.deliveries
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
    with recursive heads as (
        select -1::bigint as matview_id,
               null::tinydevcrm.deliveries as delivery
        union all
        select next.*
          from heads
         cross join lateral (
            select pending.matview_id,
                   deliveries as delivery
              from (
                select first.matview_id,
                       first.delivery_id
                  from tinydevcrm.pending_deliveries as first
                 where first.subscription_id = _list_heads.subscription_id
                   and first.matview_id > heads.matview_id
                 order by first.matview_id, first.event_id, first.row_number
                 limit 1
              ) as pending
              join tinydevcrm.deliveries
                on deliveries.id = pending.delivery_id
         ) as next
    )
    select (heads.delivery).*
      from heads
     where heads.matview_id >= 0
$$;

comment on function tinydevcrm._list_heads(bigint) is
    'The first pending delivery of each materialized view of a subscription: the only ones that '
    'can be received next.';

create function tinydevcrm._choose_start(subscription_id bigint)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_first_id bigint;
    v_last_id  bigint;
begin
    select pending.matview_id
      into v_first_id
      from tinydevcrm.pending_deliveries as pending
     where pending.subscription_id = _choose_start.subscription_id
     order by pending.matview_id, pending.event_id, pending.row_number
     limit 1;

    select pending.matview_id
      into v_last_id
      from tinydevcrm.pending_deliveries as pending
     where pending.subscription_id = _choose_start.subscription_id
     order by pending.matview_id desc, pending.event_id desc, pending.row_number desc
     limit 1;

    return coalesce(v_first_id + floor(random() * (v_last_id - v_first_id + 1))::bigint, 0);
end
$$;

comment on function tinydevcrm._choose_start(bigint) is
    'A random number from that of the first materialized view with pending deliveries of a '
    'subscription to that of the last.';

create function tinydevcrm._list_due_heads(subscription_id bigint, head_limit integer)
    returns table (matview_id bigint, event_id bigint, delivery_id bigint)
    language plpgsql
    -- Reads what the calling statement sees, which locks what this finds.
    stable
    set search_path = pg_catalog, pg_temp
    -- A plan that was made while the queue was small would read or sort all of it once for each view,
    -- and planning and compiling take longer than receiving.
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_start_id constant bigint := tinydevcrm._choose_start(_list_due_heads.subscription_id);
begin
    return query
        -- From view to view, so that many that wait behind a head cost nothing: from the start up,
        -- and then, in the second lap, from 0 up to the start.
        with recursive heads (lap, matview_id, event_id, delivery_id) as (
            select 1,
                   v_start_id - 1,
                   0::bigint,
                   0::bigint
            union all
            select next.*
              from heads
             cross join lateral (
                (select heads.lap,
                        pending.matview_id,
                        pending.event_id,
                        pending.delivery_id
                   from tinydevcrm.pending_deliveries as pending
                  where pending.subscription_id = _list_due_heads.subscription_id
                    and pending.matview_id > heads.matview_id
                    -- A bound of the index: a filter would read all that follows for the last one.
                    and pending.matview_id < case
                            when heads.lap = 1 then 9223372036854775807
                            else v_start_id
                        end
                  order by pending.matview_id, pending.event_id, pending.row_number
                  limit 1)
                union all
                (select 2,
                        pending.matview_id,
                        pending.event_id,
                        pending.delivery_id
                   from tinydevcrm.pending_deliveries as pending
                  where pending.subscription_id = _list_due_heads.subscription_id
                    and heads.lap = 1
                    and pending.matview_id < v_start_id
                  order by pending.matview_id, pending.event_id, pending.row_number
                  limit 1)
                limit 1
             ) as next
        )
        select heads.matview_id,
               heads.event_id,
               heads.delivery_id
          from heads
         cross join lateral (
            select deliveries.visible_at
              from tinydevcrm.deliveries
             where deliveries.id = heads.delivery_id
             limit 1
         ) as head
         where head.visible_at <= clock_timestamp()
         limit _list_due_heads.head_limit;
end
$$;

comment on function tinydevcrm._list_due_heads(bigint, integer) is
    'The heads of a subscription that may be received now, up to a number. When '
    'there are more, chance decides from which view on, so that each view has its turn.';

revoke execute on function
    tinydevcrm._list_heads(bigint),
    tinydevcrm._choose_start(bigint),
    tinydevcrm._list_due_heads(bigint, integer)
from public;

grant execute on function
    tinydevcrm._list_heads(bigint),
    tinydevcrm._choose_start(bigint),
    tinydevcrm._list_due_heads(bigint, integer)
to tinydevcrm_user;
