-- Which deliveries are received next: those of each view from its first pending one on, its head.

create function tinydevcrm._list_heads(subscription_id bigint)
    returns setof tinydevcrm.deliveries
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
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

create function tinydevcrm._lock_due_deliveries(
    subscription_id bigint,
    batch_size      integer,
    run_length      integer
)
    returns tid[]
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_places     tid[];
    v_found      tid[];
    v_head_limit integer;
    v_run_length integer;
    v_head_count bigint;
    v_ids        bigint[];
    v_views      bigint[];
    v_locked     bigint[];
begin
    -- Mostly the views of ten heads fill a batch; one more shows whether there are others. When what
    -- waits behind them is locked or not due, the last pass takes the heads alone, or those of other
    -- views would be left out.
    for v_pass in 1 .. 3 loop
        v_head_limit := case
            when v_pass = 1 then 11
            else least(_lock_due_deliveries.batch_size, 1000000) + 100
        end;
        v_run_length := case when v_pass < 3 then _lock_due_deliveries.run_length else 1 end;

        -- Who locks a head has its view, so a head is locked before those behind it.
        with due as (
            select heads.*
              from tinydevcrm._list_due_heads(
                       _lock_due_deliveries.subscription_id,
                       v_head_limit) as heads
             order by heads.event_id
        ),
        waiting as (
            select head.matview_id,
                   run.delivery_id
              from due
             cross join lateral (
                select deliveries.matview_id,
                       deliveries.event_id
                  from tinydevcrm.deliveries
                 where deliveries.id = due.delivery_id
                   and deliveries.state = 'pending'
                   and deliveries.visible_at <= clock_timestamp()
                   for update skip locked
             ) as head
             cross join lateral (
                select pending.delivery_id
                  from tinydevcrm.pending_deliveries as pending
                 where pending.subscription_id = _lock_due_deliveries.subscription_id
                   and pending.matview_id = head.matview_id
                   and pending.event_id >= head.event_id
                 order by pending.event_id, pending.row_number
                 limit v_run_length
             ) as run
             limit _lock_due_deliveries.batch_size
        )
        select array_agg(waiting.delivery_id),
               array_agg(waiting.matview_id),
               (select count(*) from due)
          into v_ids,
               v_views,
               v_head_count
          from waiting;

        exit when v_ids is null and v_head_count < v_head_limit;

        select array_agg(locked.id),
               array_agg(locked.place)
          into v_locked,
               v_found
          from (
            select deliveries.id,
                   deliveries.ctid as place
              from tinydevcrm.deliveries
             where deliveries.id = any (v_ids)
               and deliveries.state = 'pending'
               and deliveries.visible_at <= clock_timestamp()
               for update skip locked
          ) as locked;

        -- Not those behind one that another worker or transaction has.
        if cardinality(v_locked) < cardinality(v_ids) then
            v_found := array(
                select judged.place
                  from (
                    select locked.place,
                           bool_and(locked.id is not null)
                               over (partition by waiting.matview_id order by waiting.number) as is_next
                      from unnest(v_ids, v_views) with ordinality as waiting (id, matview_id, number)
                      left join unnest(v_locked, v_found) as locked (id, place)
                        on locked.id = waiting.id
                  ) as judged
                 where judged.is_next
            );
        end if;

        if v_places is null or cardinality(v_found) > cardinality(v_places) then
            v_places := v_found;
        end if;

        exit when cardinality(v_places) >= _lock_due_deliveries.batch_size
               or v_head_count < v_head_limit
                  and coalesce(cardinality(v_ids), 0) < _lock_due_deliveries.batch_size;
    end loop;

    return v_places;
end
$$;

comment on function tinydevcrm._lock_due_deliveries(bigint, integer, integer) is
    'Locks the deliveries that are received next, up to a number, and up to run_length of each '
    'materialized view. Returns their ctids.';

revoke execute on function
    tinydevcrm._list_heads(bigint),
    tinydevcrm._choose_start(bigint),
    tinydevcrm._list_due_heads(bigint, integer),
    tinydevcrm._lock_due_deliveries(bigint, integer, integer)
from public;

grant execute on function
    tinydevcrm._list_heads(bigint),
    tinydevcrm._choose_start(bigint),
    tinydevcrm._list_due_heads(bigint, integer),
    tinydevcrm._lock_due_deliveries(bigint, integer, integer)
to tinydevcrm_user;
