-- Retry now, and when the next attempt is.

create function tinydevcrm.retry_subscription(name text)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id    constant bigint := tinydevcrm._find_own_subscription(retry_subscription.name);
    v_count bigint;
begin
    perform tinydevcrm._make_waiting_due(v_id);

    update tinydevcrm.webhooks
       set probe_after = interval '0',
           rate_limited_for = interval '0',
           post_after = interval '0'
     where webhooks.subscription_id = v_id;

    select count(*)
      into v_count
      from tinydevcrm.pending_deliveries
      join tinydevcrm.subscriptions
        on subscriptions.id = pending_deliveries.subscription_id
       and not subscriptions.is_paused
     where pending_deliveries.subscription_id = v_id;

    -- Wakes up the programs that wait for events.
    perform tinydevcrm._notify(0);
    return v_count;
end
$$;

comment on function tinydevcrm.retry_subscription(text) is
    'Tries again now: what waits for a retry is due, and so is the probe of an endpoint that is '
    'down. Of an e-mail also what is gathered; a digest that has not been tried keeps its time. Returns how many deliveries are pending; 0 while it is paused, because none is tried '
    'then. Raises TD001 when there is no such subscription.';

create function tinydevcrm._find_next_attempt(subscription tinydevcrm.subscriptions)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery tinydevcrm.deliveries;
    v_webhook  tinydevcrm.webhooks;
begin
    if subscription.is_paused then
        return null;
    end if;

    v_delivery := tinydevcrm._find_next_delivery(subscription.id);

    select webhooks.*
      into v_webhook
      from tinydevcrm.webhooks
     where webhooks.subscription_id = subscription.id;

    return case
        when v_delivery.id is null then null
        else greatest(
            case
                when tinydevcrm._endpoint_is_down(v_webhook) then v_webhook.next_probe_at
                else v_delivery.visible_at
            end,
            v_webhook.rate_limited_until,
            v_webhook.next_post_at)
    end;
end
$$;

comment on function tinydevcrm._find_next_attempt(tinydevcrm.subscriptions) is
    'When the next delivery of a subscription may be received, or the endpoint that is down is '
    'probed; null when it is paused, none is pending or all are in flight.';

revoke execute on function
    tinydevcrm.retry_subscription(text),
    tinydevcrm._find_next_attempt(tinydevcrm.subscriptions)
from public;

grant execute on function
    tinydevcrm.retry_subscription(text),
    tinydevcrm._find_next_attempt(tinydevcrm.subscriptions)
to tinydevcrm_user;
