-- Whether the endpoint of a webhook is down: failures in a row, probes, and the first success.

create function tinydevcrm._webhooks_set_failing()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Another endpoint has not failed yet.
    if new.url <> old.url then
        new.failure_count := 0;
    end if;

    new.failing_since := case
        when new.failure_count > 0 then coalesce(old.failing_since, clock_timestamp())
    end;
    return new;
end
$$;

comment on function tinydevcrm._webhooks_set_failing() is
    'Sets since when an endpoint fails. A change of the URL starts anew.';

create trigger _300_set_failing
    before update of url, failure_count on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_set_failing();

create function tinydevcrm._webhooks_set_probe()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.next_probe_at := clock_timestamp() + new.probe_after;
    return new;
end
$$;

comment on function tinydevcrm._webhooks_set_probe() is
    'Sets from when on an endpoint that is down is probed.';

create trigger _400_set_probe
    before update of probe_after on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_set_probe();

create function tinydevcrm._endpoint_is_down(webhook tinydevcrm.webhooks)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Settings are read only for the few that fail.
    return webhook.failure_count > 0
        and webhook.failure_count >= (
            select settings.webhook_failure_limit
              from tinydevcrm.settings
        );
end
$$;

comment on function tinydevcrm._endpoint_is_down(tinydevcrm.webhooks) is
    'Whether the endpoint of a webhook is down, after settings.webhook_failure_limit failures in a '
    'row. Then one delivery at a time probes it, and the others wait without losing attempts, '
    'until one succeeds.';

create function tinydevcrm._note_success(subscription_id bigint)
    returns table (down_since timestamptz, waiting_count bigint)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_webhook tinydevcrm.webhooks;
begin
    select webhooks.*
      into v_webhook
      from tinydevcrm.webhooks
     where webhooks.subscription_id = _note_success.subscription_id
       and webhooks.failure_count > 0
       for no key update skip locked;

    if not found then
        return;
    end if;

    update tinydevcrm.webhooks
       set failure_count = 0
     where webhooks.subscription_id = v_webhook.subscription_id;

    if tinydevcrm._endpoint_is_down(v_webhook) then
        perform tinydevcrm._make_waiting_due(v_webhook.subscription_id);

        return query
            select v_webhook.failing_since,
                   count(*)
              from tinydevcrm.pending_deliveries
             where pending_deliveries.subscription_id = v_webhook.subscription_id;
    end if;
end
$$;

comment on function tinydevcrm._note_success(bigint) is
    'Ends the failures of an endpoint. When it was down, everything that waits for it becomes due, '
    'and one row says since when it was down and how many deliveries are pending. An endpoint that '
    'was not down changes nothing of deliveries that failed on their own.';

create function tinydevcrm._classify_refusal(status integer)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _classify_refusal.status is null
                    or _classify_refusal.status in (408, 425, 429, 502, 503, 504) then 'away'
               when _classify_refusal.status in (400, 409, 413, 415, 422) then 'message'
               else 'endpoint'
           end
$$;

comment on function tinydevcrm._classify_refusal(integer) is
    'What a refusal is about. away: there was no answer, or one that says that the endpoint cannot '
    'answer now; a delivery that probes it loses no attempt. message: it is about this one '
    'message; counts as a failure of the endpoint only at the first attempt, that is, once per '
    'delivery. endpoint: all others.';

create function tinydevcrm._note_failure(subscription_id bigint)
    returns boolean
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.webhooks
       set failure_count = least(webhooks.failure_count + 1, 1000000),
           probe_after = least(
                   interval '5 seconds' * 2 ^ greatest(
                       least(webhooks.failure_count + 1 - settings.webhook_failure_limit, 20), 0),
                   settings.webhook_probe_pause)
               * (0.75 + random() / 2)
      from tinydevcrm.settings
     where webhooks.subscription_id = (
               select unlocked.subscription_id
                 from tinydevcrm.webhooks as unlocked
                where unlocked.subscription_id = _note_failure.subscription_id
                  for no key update skip locked
           )
    returning webhooks.failure_count = settings.webhook_failure_limit
$$;

comment on function tinydevcrm._note_failure(bigint) is
    'Counts a failure of an endpoint and sets the pause until the next probe: 5 seconds, twice as '
    'much after each failed one, up to settings.webhook_probe_pause, ± a quarter by chance. '
    'Returns whether the endpoint is down from now on; null when its owner has locked it.';

revoke execute on function
    tinydevcrm._note_success(bigint),
    tinydevcrm._classify_refusal(integer),
    tinydevcrm._note_failure(bigint),
    tinydevcrm._webhooks_set_failing(),
    tinydevcrm._webhooks_set_probe(),
    tinydevcrm._endpoint_is_down(tinydevcrm.webhooks)
from public;

grant execute on function
    tinydevcrm._note_success(bigint),
    tinydevcrm._classify_refusal(integer),
    tinydevcrm._note_failure(bigint),
    tinydevcrm._endpoint_is_down(tinydevcrm.webhooks)
to tinydevcrm_user;
