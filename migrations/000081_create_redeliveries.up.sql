-- Makes deliveries pending again: one, all parked ones, or all since a time.

create function tinydevcrm._requeue_deliveries(delivery_ids bigint[])
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    update tinydevcrm.deliveries
       set is_redelivered = true,
           -- Times that have been written before the clock was set back may be out of range.
           visible_at = clock_timestamp(),
           acknowledged_at = case when deliveries.acknowledged_at is not null then clock_timestamp() end,
           parked_at = case when deliveries.parked_at is not null then clock_timestamp() end
     where deliveries.id = any (_requeue_deliveries.delivery_ids);

    get diagnostics v_count = row_count;

    -- Wakes up the programs that wait for events.
    perform tinydevcrm._notify(0);
    return v_count;
end
$$;

comment on function tinydevcrm._requeue_deliveries(bigint[]) is
    'Makes deliveries pending again, and returns how many.';

create function tinydevcrm.redeliver_event(delivery_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tinydevcrm._requeue_deliveries(array[redeliver_event.delivery_id]) = 0 then
        raise exception using
            errcode = 'TD001',
            message = format('there is no delivery %s', redeliver_event.delivery_id),
            hint    = 'tinydevcrm.deliveries lists them.';
    end if;
end
$$;

comment on function tinydevcrm.redeliver_event(bigint) is
    'Makes a delivery pending again, also one that was parked or acknowledged, with a new number '
    'and with all its attempts. Raises TD001 when there is none.';

create function tinydevcrm.redeliver_parked(subscription text)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(redeliver_parked.subscription);
begin
    return tinydevcrm._requeue_deliveries(
        array(
            select deliveries.id
              from tinydevcrm.deliveries
             where deliveries.subscription_id = v_id
               and deliveries.parked_at is not null
               -- The others go with the one that carries them.
               and coalesce(deliveries.leader_event_id, deliveries.event_id) = deliveries.event_id
        ));
end
$$;

comment on function tinydevcrm.redeliver_parked(text) is
    'Makes all parked deliveries of a subscription pending again, and returns how many. Raises '
    'TD001 when there is no such subscription.';

create function tinydevcrm.replay_events(subscription text, since timestamptz)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id           constant bigint := tinydevcrm._find_own_subscription(replay_events.subscription);
    v_subscription tinydevcrm.subscriptions;
    v_count        bigint;
begin
    if replay_events.since is null then
        raise exception using
            errcode = 'TD007',
            message = 'replay_events() needs a time from which to replay',
            hint    = 'For all recorded events, type ''-infinity''.';
    end if;

    select subscriptions.*
      into v_subscription
      from tinydevcrm.subscriptions
     where subscriptions.id = v_id;

    insert into tinydevcrm.deliveries (subscription_id, event_id, row_numbers)
    select v_subscription.id,
           events.id,
           parts.row_numbers
      from tinydevcrm.matview_refresh_events as events
      left join lateral (
          select split.row_numbers
            from tinydevcrm._split_event(
                     events, v_subscription.notify_when, v_subscription.each_row,
                     v_subscription.to_column) as split
           where v_subscription.each_row
              or v_subscription.to_column is not null
          offset 0
      ) as parts
        on true
     where (events.is_notified or events.held_rules is not null)
       and case
               when v_subscription.notify_when is null then events.is_notified
               else v_subscription.notify_when && tinydevcrm._list_held_rules(events)
           end
       and events.started_at >= replay_events.since
       and (v_subscription.matview_id is null or v_subscription.matview_id = events.matview_id)
       -- Its parts stay as they were, whatever the audience is now.
       and not exists (
           select
             from tinydevcrm.deliveries
            where deliveries.event_id = events.id
              and deliveries.subscription_id = v_subscription.id
       )
     order by events.id
    on conflict on constraint deliveries_event_once do nothing;

    get diagnostics v_count = row_count;

    return v_count + tinydevcrm._requeue_deliveries(
        array(
            select deliveries.id
              from tinydevcrm.deliveries
              join tinydevcrm.matview_refresh_events as events
                on events.id = deliveries.event_id
             where deliveries.subscription_id = v_subscription.id
               and events.started_at >= replay_events.since
               and (deliveries.acknowledged_at is not null or deliveries.parked_at is not null)
        ));
end
$$;

comment on function tinydevcrm.replay_events(text, timestamptz) is
    'Makes all events that notify pending again, from a time on, also those from before the '
    'subscription (for its own rules: those that were judged by them), as far as they are still recorded. '
    'One that the subscription has had comes in the parts that it had. Returns how many deliveries became pending. '
    'Raises TD001 when there is no such subscription, TD007 when the time is null.';

create function tinydevcrm._make_waiting_due(subscription_id bigint)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.deliveries
       set visible_at = clock_timestamp(),
           is_in_flight = false
     where deliveries.id in (
               select waiting.id
                 from tinydevcrm.pending_deliveries as pending
                 join tinydevcrm.deliveries as waiting
                   on waiting.id = pending.delivery_id
                where pending.subscription_id = _make_waiting_due.subscription_id
                  and waiting.state = 'pending'
                  and waiting.visible_at > clock_timestamp()
                  and not waiting.is_in_flight
                  for no key update of waiting skip locked
           )
$$;

comment on function tinydevcrm._make_waiting_due(bigint) is
    'Makes the deliveries of a subscription that wait for a retry due now.';

revoke execute on function
    tinydevcrm._make_waiting_due(bigint),
    tinydevcrm._requeue_deliveries(bigint[]),
    tinydevcrm.redeliver_event(bigint),
    tinydevcrm.redeliver_parked(text),
    tinydevcrm.replay_events(text, timestamptz)
from public;

grant execute on function
    tinydevcrm._make_waiting_due(bigint),
    tinydevcrm._requeue_deliveries(bigint[]),
    tinydevcrm.redeliver_event(bigint),
    tinydevcrm.redeliver_parked(text),
    tinydevcrm.replay_events(text, timestamptz)
to tinydevcrm_user;
