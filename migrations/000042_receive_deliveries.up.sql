-- How a worker takes deliveries, and answers each.

create function tinydevcrm._receive_deliveries(
    subscription_id    bigint,
    batch_size         integer,
    visibility_timeout interval
)
    returns table (delivery_id bigint, attempt integer, event tinydevcrm.matview_refresh_events)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(_receive_deliveries.batch_size, 0) < 1
       or _receive_deliveries.visibility_timeout between interval '0' and interval '90 days'
              is not true
    then
        raise exception using
            errcode = 'TD007',
            message = 'the batch size or the visibility timeout is out of range',
            hint    = 'Take at least one delivery, for at most 90 days.';
    end if;

    return query
        -- By ctid: the statistics of a queue are too poor for the planner to find rows by number.
        with taken as (
            select deliveries.ctid,
                   subscriptions.numbers_as_text,
                   deliveries.attempts >= subscriptions.max_attempts as is_last_over
              from tinydevcrm.deliveries
              join tinydevcrm.subscriptions
                on subscriptions.id = deliveries.subscription_id
             where deliveries.subscription_id = _receive_deliveries.subscription_id
               and not subscriptions.is_paused
               and deliveries.acknowledged_at is null
               and deliveries.parked_at is null
               and deliveries.visible_at <= clock_timestamp()
             order by deliveries.visible_at, deliveries.id
             limit _receive_deliveries.batch_size
               for update of deliveries skip locked
        ),
        received as (
            update tinydevcrm.deliveries
               set attempts = deliveries.attempts + (not taken.is_last_over)::integer,
                   state = case when taken.is_last_over then 'parked' else 'pending' end,
                   hidden_for = _receive_deliveries.visibility_timeout,
                   last_error = case
                       when taken.is_last_over then
                           coalesce(deliveries.last_error, 'it was not acknowledged in time')
                       else deliveries.last_error
                   end
              from taken
             where deliveries.ctid = taken.ctid
            returning deliveries.id,
                      deliveries.attempts,
                      deliveries.event_id,
                      deliveries.parked_at,
                      taken.numbers_as_text
        )
        select received.id,
               received.attempts,
               case
                   when received.numbers_as_text then tinydevcrm._print_numbers_as_text(events)
                   else events
               end
          from received
          join tinydevcrm.matview_refresh_events as events
            on events.id = received.event_id
         where received.parked_at is null
         order by received.id;
end
$$;

comment on function tinydevcrm._receive_deliveries(bigint, integer, interval) is
    'As tinydevcrm.receive_events(), by the number of a subscription.';

create function tinydevcrm.receive_events(
    subscription       text,
    batch_size         integer default 100,
    visibility_timeout interval default interval '30 seconds'
)
    returns table (delivery_id bigint, attempt integer, event tinydevcrm.matview_refresh_events)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select received.*
          from tinydevcrm._receive_deliveries(
                   tinydevcrm._find_own_subscription(receive_events.subscription),
                   receive_events.batch_size,
                   receive_events.visibility_timeout) as received;
end
$$;

comment on function tinydevcrm.receive_events(text, integer, interval) is
    'Receives up to batch_size pending deliveries of your subscription, oldest first. A delivery '
    'that is neither acknowledged nor rejected within the visibility timeout is received again, so '
    'make the handling idempotent, by the event''s id. Many workers may call it at once. Raises '
    'TD001 when there is no subscription, TD007 when batch_size is not at least 1 or the timeout '
    'not 0 to 90 days.';

create function tinydevcrm.acknowledge_events(delivery_ids bigint[])
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- The orchestrator posts for many users, and must not wait long for a row that one of them has
    -- locked. "skip locked" would leave out a row that another receiver locks for a moment.
    set lock_timeout = '1s'
as $$
declare
    v_count bigint;
begin
    update tinydevcrm.deliveries
       set state = 'acknowledged'
     where deliveries.id = any (acknowledge_events.delivery_ids)
       and deliveries.acknowledged_at is null;

    get diagnostics v_count = row_count;
    return v_count;
exception
    when lock_not_available then
        return 0;
end
$$;

comment on function tinydevcrm.acknowledge_events(bigint[]) is
    'Acknowledges deliveries: they have been handled. Returns how many were not acknowledged '
    'before. Returns 0 for null, which array_agg() makes of no deliveries. Also returns 0 when '
    'another transaction locks one of them for over a second: they are received again.';

create function tinydevcrm._compute_retry_delay(attempts integer)
    returns interval
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select least(
               interval '5 seconds' * 3 ^ (least(_compute_retry_delay.attempts, 20) - 1),
               interval '6 hours')
           * (0.5 + random())
$$;

comment on function tinydevcrm._compute_retry_delay(integer) is
    'Time until a rejected delivery is retried, by exponential backoff: 5 seconds after the first '
    'attempt, three times as much after each further one, up to 6 hours, ± half by chance, so that '
    'deliveries that failed together are not retried together. Twelve attempts take about a day.';

create function tinydevcrm.reject_event(
    delivery_id bigint,
    reason      text default null,
    retry_after interval default null
)
    returns timestamptz
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '1s'
as $$
declare
    v_delivery tinydevcrm.deliveries;
begin
    update tinydevcrm.deliveries
       set last_error = left(reject_event.reason, 1000),
           hidden_for = least(
               greatest(
                   tinydevcrm._compute_retry_delay(deliveries.attempts), reject_event.retry_after),
               interval '90 days'),
           state = case
               when deliveries.attempts >= subscriptions.max_attempts then 'parked'
               else 'pending'
           end
      from tinydevcrm.subscriptions
     where subscriptions.id = deliveries.subscription_id
       and deliveries.id = reject_event.delivery_id
       and deliveries.acknowledged_at is null
       and deliveries.parked_at is null
    returning deliveries.*
         into v_delivery;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('delivery %s is not pending', reject_event.delivery_id),
            hint    = 'It is gone, acknowledged or parked: see tinydevcrm.deliveries.';
    end if;

    return case when v_delivery.parked_at is null then v_delivery.visible_at end;
exception
    when lock_not_available then
        raise exception using
            errcode = 'TD001',
            message = format(
                'delivery %s is held by another transaction', reject_event.delivery_id),
            hint    = 'It is received again when its visibility timeout is over.';
end
$$;

comment on function tinydevcrm.reject_event(bigint, text, interval) is
    'Rejects a delivery that could not be handled, with the reason. It is retried with exponential '
    'backoff, as tinydevcrm._compute_retry_delay() says, and not before retry_after, at most 90 '
    'days, is over. Returns the time of the retry. After the last attempt the delivery is parked, '
    'and null is returned. Raises TD001 when it is not pending, or when another transaction locks '
    'it for over a second.';

revoke execute on function
    tinydevcrm._receive_deliveries(bigint, integer, interval),
    tinydevcrm.receive_events(text, integer, interval),
    tinydevcrm.acknowledge_events(bigint[]),
    tinydevcrm._compute_retry_delay(integer),
    tinydevcrm.reject_event(bigint, text, interval)
from public;

grant execute on function
    tinydevcrm._receive_deliveries(bigint, integer, interval),
    tinydevcrm.receive_events(text, integer, interval),
    tinydevcrm.acknowledge_events(bigint[]),
    tinydevcrm._compute_retry_delay(integer),
    tinydevcrm.reject_event(bigint, text, interval)
to tinydevcrm_user;
