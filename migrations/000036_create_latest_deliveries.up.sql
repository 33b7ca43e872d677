-- The newest deliveries of a subscription, with their states.

create function tinydevcrm.latest_deliveries(subscription text, row_limit integer default 10)
    returns table (
        delivery_id     bigint,
        event_id        bigint,
        matview         text,
        outcome         text,
        status          text,
        attempts        integer,
        max_attempts    integer,
        last_error      text,
        created_at      timestamptz,
        next_attempt_at timestamptz,
        acknowledged_at timestamptz
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(latest_deliveries.subscription);
begin
    return query
        select deliveries.id,
               deliveries.event_id,
               events.matview,
               events.outcome,
               tinydevcrm._delivery_state(deliveries),
               deliveries.attempts,
               subscriptions.max_attempts,
               deliveries.last_error,
               deliveries.created_at,
               case when deliveries.state = 'pending' then deliveries.visible_at end,
               deliveries.acknowledged_at
          from (
            select newest.*
              from tinydevcrm.deliveries as newest
             where newest.subscription_id = v_id
             order by newest.id desc
             limit greatest(latest_deliveries.row_limit, 0)
          ) as deliveries
          join tinydevcrm.subscriptions
            on subscriptions.id = v_id
          join tinydevcrm.matview_refresh_events as events
            on events.id = deliveries.event_id
         order by deliveries.id desc;
end
$$;

comment on function tinydevcrm.latest_deliveries(text, integer) is
    'The newest deliveries of your subscription, each with its state, as in '
    'tinydevcrm._delivery_state(), and the time from which it may be received. Raises TD001 when '
    'there is no such subscription.';

revoke execute on function tinydevcrm.latest_deliveries(text, integer) from public;

grant execute on function tinydevcrm.latest_deliveries(text, integer) to tinydevcrm_user;
