-- Fifty views that fail for one reason are one message. The first failure waits for others like it;
-- these join it, and recoveries likewise.

create function tinydevcrm._find_delivery_before(
    subscription_id bigint,
    matview_id      bigint,
    event_id        bigint
)
    returns bigint
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
    select coalesce(deliveries.leader_event_id, deliveries.event_id)
      from tinydevcrm.pending_deliveries as pending
      join tinydevcrm.deliveries
        on deliveries.id = pending.delivery_id
     where pending.subscription_id = _find_delivery_before.subscription_id
       and pending.matview_id = _find_delivery_before.matview_id
       and pending.event_id < _find_delivery_before.event_id
     order by pending.event_id desc
     limit 1
$$;

comment on function tinydevcrm._find_delivery_before(bigint, bigint, bigint) is
    'The event whose delivery carries the last pending one of a materialized view before an event; '
    'null when none is pending.';

create function tinydevcrm._find_leader(
    subscription_id bigint,
    event           tinydevcrm.matview_refresh_events
)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- The lock keeps the leader from being received, or ended by hand, before this transaction ends.
    -- Others may join it at the same time.
    select deliveries.event_id
      from tinydevcrm.deliveries
      join tinydevcrm.matview_refresh_events as events
        on events.id = deliveries.event_id
     where deliveries.subscription_id = _find_leader.subscription_id
       and deliveries.is_leading
       and deliveries.attempts = 0
       and deliveries.visible_at > clock_timestamp()
       -- An event waits only for an earlier one, so no two wait for each other.
       and deliveries.event_id < (event).id
       and (
           select count(*)
             from tinydevcrm.deliveries as carried
            where carried.leader_event_id = deliveries.event_id
              and carried.subscription_id = deliveries.subscription_id
       ) <= 1000
       -- A session that keeps its transaction open keeps the leader: only that of its own owner.
       and events.owner = (event).owner
       -- Both come right after the same delivery, or after none: neither view leaves its order, or
       -- waits for what is before the other.
       and tinydevcrm._find_delivery_before(
               deliveries.subscription_id, deliveries.matview_id, deliveries.event_id)
           is not distinct from tinydevcrm._find_delivery_before(
               deliveries.subscription_id, coalesce((event).matview_id, 0), (event).id)
       and events.outcome = (event).outcome
       and events.error_code is not distinct from (event).error_code
       and events.error_message is not distinct from (event).error_message
     limit 1
       for share of deliveries skip locked
$$;

comment on function tinydevcrm._find_leader(bigint, tinydevcrm.matview_refresh_events) is
    'The event whose delivery an event joins: one of the same owner, the same outcome and the same '
    'error that still waits for others, of which up to 1000 join it, and that is in the same place '
    'of the order. Null when there is none.';

create function tinydevcrm._group_failure(event tinydevcrm.matview_refresh_events)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.deliveries
       set leader_event_id = coalesce(grouped.leader_event_id, (event).id),
           visible_at = case
               when grouped.leader_event_id is null then
                   clock_timestamp() + grouped.failure_grouping
               else 'infinity'
           end
      from (
        select subscriptions.id,
               settings.failure_grouping,
               tinydevcrm._find_leader(subscriptions.id, event) as leader_event_id
          from tinydevcrm.settings
         cross join tinydevcrm.subscriptions
         where settings.failure_grouping > interval '0'
           and subscriptions.groups_failures
           and subscriptions.matview_id is null
           and subscriptions.id in (
               select waiting.subscription_id
                 from tinydevcrm.deliveries as waiting
                where waiting.event_id = (event).id
           )
        offset 0
      ) as grouped
     where deliveries.event_id = (event).id
       and deliveries.subscription_id = grouped.id;
end
$$;

comment on function tinydevcrm._group_failure(tinydevcrm.matview_refresh_events) is
    'Makes the deliveries of a failure or a recovery wait for others like it, or join one that '
    'waits, where the subscription groups failures.';

create function tinydevcrm._matview_refresh_events_group()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- As in tinydevcrm._matview_refresh_events_fan_out().
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
begin
    -- A recovery that finds other rows than before is a message of its own, which carries them.
    perform tinydevcrm._group_failure(events)
       from (
         select written.id
           from written
          where written.is_notified
            and written.outcome in ('failed', 'recovered')
            and coalesce(written.added_count, 0) + coalesce(written.removed_count, 0) = 0
          order by written.id
       ) as alike
       join tinydevcrm.matview_refresh_events as events
         on events.id = alike.id;

    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_group() is
    'Groups the failures and recoveries among new events. Security definer: the role that refreshes '
    'may not see the subscriptions of other roles. As a trigger it changes only deliveries of the '
    'events, which nobody else sees yet.';

create trigger _510_group
    after insert on tinydevcrm.matview_refresh_events
    referencing new table as written
    for each statement
    execute function tinydevcrm._matview_refresh_events_group();

create function tinydevcrm._deliveries_lead()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Its snapshot may be older than one that has joined meanwhile, which would never be received.
    if old.attempts = 0
       and current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
    then
        raise exception using
            errcode = 'serialization_failure',
            message = format('others may have joined delivery %s', new.id),
            hint    = 'Retry with the isolation level read committed, or receive it first.';
    end if;

    update tinydevcrm.deliveries
       set state = new.state,
           acknowledged_at = new.acknowledged_at,
           parked_at = new.parked_at
     where deliveries.leader_event_id = new.event_id
       and deliveries.subscription_id = new.subscription_id
       and deliveries.id <> new.id;

    return null;
end
$$;

comment on function tinydevcrm._deliveries_lead() is
    'Gives the deliveries that another one carries the state of that one. Raises 40001 when others may '
    'have joined it that a transaction of the isolation level repeatable read does not see.';

create trigger _500_lead
    after update on tinydevcrm.deliveries
    for each row
    when (new.leader_event_id = new.event_id and new.state <> old.state)
    execute function tinydevcrm._deliveries_lead();

create function tinydevcrm.grouped_events(delivery_id bigint)
    returns setof tinydevcrm.matview_refresh_events
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select events.*
      from tinydevcrm.deliveries
      join tinydevcrm.deliveries as carried
        on carried.leader_event_id = deliveries.event_id
       and carried.subscription_id = deliveries.subscription_id
       and carried.id <> deliveries.id
      join tinydevcrm.matview_refresh_events as events
        on events.id = carried.event_id
     where deliveries.id = grouped_events.delivery_id
     order by events.id
$$;

comment on function tinydevcrm.grouped_events(bigint) is
    'The events that a delivery carries besides its own: failures of other views for the same '
    'reason, or other recoveries. See tinydevcrm.subscriptions.groups_failures.';

revoke execute on function
    tinydevcrm._find_delivery_before(bigint, bigint, bigint),
    tinydevcrm._find_leader(bigint, tinydevcrm.matview_refresh_events),
    tinydevcrm._group_failure(tinydevcrm.matview_refresh_events),
    tinydevcrm._matview_refresh_events_group(),
    tinydevcrm._deliveries_lead(),
    tinydevcrm.grouped_events(bigint)
from public;

grant execute on function tinydevcrm.grouped_events(bigint) to tinydevcrm_user;
