-- The queue: which deliveries are pending, in the order in which they are received. It holds only
-- their numbers, so it is small and stays so however many are acknowledged. What is known of a
-- delivery is in tinydevcrm.deliveries. Triggers on that keep the two the same.

create table tinydevcrm.pending_deliveries (
    subscription_id bigint,
    matview_id      bigint,
    event_id        bigint,
    delivery_id     bigint not null,
    row_number      integer,
    owner           regrole not null,

    constraint pending_deliveries_pkey
        primary key (subscription_id, matview_id, event_id, row_number)
);

comment on table tinydevcrm.pending_deliveries is
    'The deliveries that are pending: the queue of each subscription, in order. '
    'tinydevcrm.deliveries says the rest.';
comment on column tinydevcrm.pending_deliveries.subscription_id is
    'The subscription.';
comment on column tinydevcrm.pending_deliveries.matview_id is
    'The registration of the event''s materialized view; 0 when that had been removed.';
comment on column tinydevcrm.pending_deliveries.event_id is
    'The event.';
comment on column tinydevcrm.pending_deliveries.delivery_id is
    'The delivery.';
comment on column tinydevcrm.pending_deliveries.row_number is
    'The part of the event that it carries; 0 for the whole event.';
comment on column tinydevcrm.pending_deliveries.owner is
    'Owner of the subscription.';

-- Parts of events: see tinydevcrm._gathers().
create index pending_deliveries_parts_idx
    on tinydevcrm.pending_deliveries (subscription_id)
 where row_number > 0;

alter table tinydevcrm.pending_deliveries enable row level security;

create policy pending_deliveries_read on tinydevcrm.pending_deliveries
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select on tinydevcrm.pending_deliveries to tinydevcrm_user;

create function tinydevcrm._deliveries_enqueue()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- The plan of the first call stays, which may have had very many rows.
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
begin
    insert into tinydevcrm.pending_deliveries (
               subscription_id, matview_id, event_id, row_number, delivery_id, owner)
    select written.subscription_id,
           written.matview_id,
           written.event_id,
           written.row_number,
           written.id,
           written.owner
      from written
     where written.state = 'pending';

    return null;
end
$$;

comment on function tinydevcrm._deliveries_enqueue() is
    'Adds new deliveries to the queue. Security definer: users do not write the queue. As a trigger '
    'it runs only for rows that row-level security has let through.';

create trigger _500_enqueue
    after insert on tinydevcrm.deliveries
    referencing new table as written
    for each statement
    execute function tinydevcrm._deliveries_enqueue();

create function tinydevcrm._deliveries_dequeue()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- The plan of the first call stays, which may have had very many rows.
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
begin
    -- "Limit 1" makes every plan go from the rows to the queue. The statistics of a queue are as of
    -- the time when it was analyzed, perhaps empty, and a join could read all of it for each row.
    delete
      from tinydevcrm.pending_deliveries
     where pending_deliveries.ctid = any (array(
               select place.ctid
                 from ended
                cross join lateral (
                   select queue.ctid
                     from tinydevcrm.pending_deliveries as queue
                    where queue.subscription_id = ended.subscription_id
                      and queue.matview_id = ended.matview_id
                      and queue.event_id = ended.event_id
                      and queue.row_number = ended.row_number
                      -- Otherwise it is delivered again, with a new number.
                      and queue.delivery_id = ended.id
                    limit 1
                ) as place
                where ended.state <> 'pending'
                  and (
                      ended.leader_event_id is null
                      -- The trigger of the one that carries it may have made it pending since.
                      or not exists (
                          select
                            from tinydevcrm.deliveries
                           where deliveries.id = ended.id
                             and deliveries.state = 'pending'
                      )
                  )
           ));

    return null;
end
$$;

comment on function tinydevcrm._deliveries_dequeue() is
    'Removes deliveries from the queue that are acknowledged or parked. Security definer: as for '
    'tinydevcrm._deliveries_enqueue().';

-- One statement for all rows: a trigger for each row would cost as much as the acknowledgement.
create trigger _500_dequeue
    after update on tinydevcrm.deliveries
    referencing new table as ended
    for each statement
    execute function tinydevcrm._deliveries_dequeue();

create function tinydevcrm._deliveries_remove()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.pending_deliveries
     where pending_deliveries.subscription_id = old.subscription_id
       and pending_deliveries.matview_id = old.matview_id
       and pending_deliveries.event_id = old.event_id
       and pending_deliveries.row_number = old.row_number;

    return null;
end
$$;

comment on function tinydevcrm._deliveries_remove() is
    'Removes a pending delivery that is gone from the queue. Security definer: as for '
    'tinydevcrm._deliveries_enqueue().';

-- For each row: few are pending when they are removed.
create trigger _500_remove
    after delete on tinydevcrm.deliveries
    for each row
    when (old.state = 'pending')
    execute function tinydevcrm._deliveries_remove();

create function tinydevcrm._deliveries_requeue()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.leader_event_id is not null then
        -- The trigger of the one that carries it may have ended it since.
        if not exists (
            select
              from tinydevcrm.deliveries
             where deliveries.id = new.id
               and deliveries.state = 'pending'
        ) then
            return null;
        end if;

        -- The lock keeps the one that carries it from ending, and from being carried itself, before this
        -- transaction ends.
        perform
           from tinydevcrm.deliveries as leader
          where leader.event_id = new.leader_event_id
            and leader.leader_event_id = new.leader_event_id
            and leader.subscription_id = new.subscription_id
            and leader.state = 'pending'
            for share;

        -- It leaves its group when there is none: it would never be received.
        if not found then
            update tinydevcrm.deliveries
               set leader_event_id = null,
                   visible_at = clock_timestamp()
             where deliveries.id = new.id
               and deliveries.leader_event_id <> deliveries.event_id;
        end if;
    end if;

    insert into tinydevcrm.pending_deliveries (
               subscription_id, matview_id, event_id, row_number, delivery_id, owner)
    values (new.subscription_id, new.matview_id, new.event_id, new.row_number, new.id, new.owner)
    on conflict on constraint pending_deliveries_pkey do update
       set delivery_id = excluded.delivery_id;

    return null;
end
$$;

comment on function tinydevcrm._deliveries_requeue() is
    'Puts a delivery back into the queue, or gives it its new number there. Security definer: as for '
    'tinydevcrm._deliveries_enqueue().';

create trigger _400_requeue
    after update on tinydevcrm.deliveries
    for each row
    when (new.state = 'pending' and (old.state <> 'pending' or new.id <> old.id))
    execute function tinydevcrm._deliveries_requeue();

revoke execute on function
    tinydevcrm._deliveries_enqueue(),
    tinydevcrm._deliveries_dequeue(),
    tinydevcrm._deliveries_remove(),
    tinydevcrm._deliveries_requeue()
from public;
