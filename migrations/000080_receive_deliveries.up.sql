-- How a worker takes deliveries, and answers each.

create function tinydevcrm._find_newer_acknowledged(
    subscription_id bigint,
    matview_id      bigint,
    event_id        bigint
)
    returns bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
as $$
begin
    -- When ten newer ones are all pending, they follow, so this one is not the last word.
    return (
        select max(newer.event_id)
          from (
            select deliveries.event_id,
                   deliveries.acknowledged_at
              from tinydevcrm.matview_refresh_events
              join tinydevcrm.deliveries
                on deliveries.event_id = matview_refresh_events.id
               and deliveries.subscription_id = _find_newer_acknowledged.subscription_id
             where matview_refresh_events.matview_id = _find_newer_acknowledged.matview_id
               and matview_refresh_events.id > _find_newer_acknowledged.event_id
             order by matview_refresh_events.id desc
             limit 10
          ) as newer
         where newer.acknowledged_at is not null
    );
end
$$;

comment on function tinydevcrm._find_newer_acknowledged(bigint, bigint, bigint) is
    'The newest event of the same materialized view that the subscription has acknowledged, if it '
    'is newer than this one and among the newest ten.';

create function tinydevcrm._receive_deliveries(
    subscription_id    bigint,
    batch_size         integer,
    visibility_timeout interval,
    run_length         integer default null,
    places             tid[] default null
)
    returns table (
        delivery_id   bigint,
        attempt       integer,
        event         tinydevcrm.matview_refresh_events,
        superseded_by bigint,
        row_number    integer,
        recipient     text
    )
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_places       tid[];
    v_subscription record;
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

    select subscriptions.max_attempts,
           subscriptions.numbers_as_text,
           subscriptions.notify_when,
           subscriptions.to_column,
           subscriptions.allowed_domains
      into v_subscription
      from tinydevcrm.subscriptions
     where subscriptions.id = _receive_deliveries.subscription_id
       and not subscriptions.is_paused;

    if not found then
        return;
    end if;

    v_places := coalesce(
        _receive_deliveries.places,
        tinydevcrm._lock_due_deliveries(
            _receive_deliveries.subscription_id,
            _receive_deliveries.batch_size,
            coalesce(_receive_deliveries.run_length, _receive_deliveries.batch_size)));

    -- To find that out by the update would take as long as to receive one.
    if coalesce(cardinality(v_places), 0) = 0 then
        return;
    end if;

    return query
        with received as (
            update tinydevcrm.deliveries
               set attempts = least(deliveries.attempts + 1, v_subscription.max_attempts),
                   state = case
                       when deliveries.attempts >= v_subscription.max_attempts then 'parked'
                       else 'pending'
                   end,
                   parked_at = case
                       when deliveries.attempts >= v_subscription.max_attempts then
                           clock_timestamp()
                   end,
                   visible_at = clock_timestamp() + _receive_deliveries.visibility_timeout,
                   is_in_flight = true,
                   last_error = case
                       when deliveries.attempts >= v_subscription.max_attempts then
                           coalesce(deliveries.last_error, 'it was not acknowledged in time')
                       else deliveries.last_error
                   end
             where deliveries.ctid = any (v_places)
            returning deliveries.*
        )
        select received.id,
               received.attempts,
               case
                   when v_subscription.numbers_as_text then
                       tinydevcrm._print_numbers_as_text(addressed.event)
                   else addressed.event
               end,
               case
                   when received.is_redelivered then tinydevcrm._find_newer_acknowledged(
                       received.subscription_id, received.matview_id, received.event_id)
               end,
               received.row_number,
               case
                   when v_subscription.to_column is not null then
                       tinydevcrm._find_event_recipient(
                           events, received.row_numbers, v_subscription.to_column,
                           v_subscription.allowed_domains)
               end
          from received
          join tinydevcrm.matview_refresh_events as events
            on events.id = received.event_id
         cross join lateral (
             select case
                        when v_subscription.notify_when is null and received.row_numbers is null
                        then events
                        else tinydevcrm._address_event(
                            events, v_subscription.notify_when, received.row_numbers)
                    end as event
         ) as addressed
         where received.parked_at is null
         order by received.event_id,
                  received.row_number;
end
$$;

comment on function tinydevcrm._receive_deliveries(bigint, integer, interval, integer, tid[]) is
    'As tinydevcrm.receive_events(), by the number of a subscription, and at most run_length '
    'deliveries of each materialized view; or those at these places (ctids), which the caller has '
    'locked.';

create function tinydevcrm.receive_events(
    subscription       text,
    batch_size         integer default 100,
    visibility_timeout interval default interval '30 seconds'
)
    returns table (
        delivery_id   bigint,
        attempt       integer,
        event         tinydevcrm.matview_refresh_events,
        superseded_by bigint,
        row_number    integer,
        recipient     text
    )
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
    'Receives up to batch_size pending deliveries of your subscription. Those of one materialized '
    'view come in the order of their events: none is received while an earlier one is pending '
    'elsewhere, with another worker or waiting for its retry; a parked one holds up none. A batch '
    'may hold several of one view, in order: a worker that rejects one and goes on with the next '
    'gives up the order itself. Different views never wait for each other. Chance picks ten '
    'views, or more where these do not fill the batch, and the one whose next event is the oldest comes '
    'first. superseded_by is set for an event that was delivered again '
    'by hand after a newer one of its view, whose id it is, had been acknowledged. Where the '
    'subscription gets rows apart, row_number tells the parts of an event from each other (0 is the '
    'whole event), and recipient is the address of a part, null for none that is allowed. A delivery that '
    'is neither acknowledged nor rejected within the visibility timeout is received again, so make '
    'the handling idempotent, by the event''s id and row_number. Many workers may call it at once; one view is '
    'with one worker at a time. Raises TD001 when there is no subscription, TD007 when batch_size '
    'is not at least 1 or the timeout not 0 to 90 days.';

create function tinydevcrm._receive_lines(
    subscription       text,
    batch_size         integer,
    visibility_timeout interval,
    max_bytes          integer
)
    returns table (
        delivery_id   bigint,
        event_id      bigint,
        matview       text,
        schedule_id   bigint,
        outcome       text,
        plain_reason  text,
        row_count     bigint,
        added_count   bigint,
        removed_count bigint,
        updated_count bigint,
        rows          json,
        is_cut        boolean,
        error_code    text,
        error_message text,
        reason        text,
        superseded_by bigint,
        started_at    timestamptz,
        duration      interval
    )
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
begin
    -- When a crash undoes a claim, the delivery is received again.
    perform set_config('synchronous_commit', 'off', true);

    return query
        select received.delivery_id,
               (received.event).id,
               (received.event).matview,
               (received.event).schedule_id,
               (received.event).outcome,
               (received.event).plain_reason,
               (received.event).row_count,
               (received.event).added_count,
               (received.event).removed_count,
               (received.event).updated_count,
               case
                   when lengths.bytes <= _receive_lines.max_bytes then
                       tinydevcrm._order_row_columns(received.event)
               end,
               (received.event).is_cut or coalesce(lengths.bytes > _receive_lines.max_bytes, false),
               (received.event).error_code,
               left((received.event).error_message, _receive_lines.max_bytes / 8),
               (received.event).reason,
               received.superseded_by,
               (received.event).started_at,
               (received.event).duration
          from tinydevcrm._receive_deliveries(
                   tinydevcrm._find_own_subscription(_receive_lines.subscription),
                   _receive_lines.batch_size,
                   _receive_lines.visibility_timeout) as received
         cross join lateral octet_length((received.event).rows::text) as lengths (bytes);
end
$$;

comment on function tinydevcrm._receive_lines(text, integer, interval, integer) is
    'As tinydevcrm.receive_events(), with what a line of the log says: rows only up to max_bytes, of an '
    'error message an eighth of that. The transaction does not wait for the disk. One function, because a '
    'log that sends a statement of its own has it planned for each line.';

create function tinydevcrm.acknowledge_events(delivery_ids bigint[])
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- The orchestrator posts for many users, and must not wait long for a row that one of them has
    -- locked. "skip locked" would leave out a row that another receiver locks for a moment.
    set lock_timeout = '1s'
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_count bigint;
begin
    update tinydevcrm.deliveries
       set state = 'acknowledged',
           acknowledged_at = clock_timestamp(),
           parked_at = null
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
           visible_at = clock_timestamp() + least(
               greatest(
                   tinydevcrm._compute_retry_delay(deliveries.attempts), reject_event.retry_after),
               interval '90 days'),
           is_in_flight = false,
           state = case
               when deliveries.attempts >= subscriptions.max_attempts then 'parked'
               else 'pending'
           end,
           parked_at = case
               when deliveries.attempts >= subscriptions.max_attempts then clock_timestamp()
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
    tinydevcrm._find_newer_acknowledged(bigint, bigint, bigint),
    tinydevcrm._receive_deliveries(bigint, integer, interval, integer, tid[]),
    tinydevcrm.receive_events(text, integer, interval),
    tinydevcrm._receive_lines(text, integer, interval, integer),
    tinydevcrm.acknowledge_events(bigint[]),
    tinydevcrm._compute_retry_delay(integer),
    tinydevcrm.reject_event(bigint, text, interval)
from public;

grant execute on function
    tinydevcrm._find_newer_acknowledged(bigint, bigint, bigint),
    tinydevcrm._receive_deliveries(bigint, integer, interval, integer, tid[]),
    tinydevcrm.receive_events(text, integer, interval),
    tinydevcrm._receive_lines(text, integer, interval, integer),
    tinydevcrm.acknowledge_events(bigint[]),
    tinydevcrm._compute_retry_delay(integer),
    tinydevcrm.reject_event(bigint, text, interval)
to tinydevcrm_user;
