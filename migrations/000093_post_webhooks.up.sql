-- What the orchestrator calls to post the deliveries of a webhook.

create function tinydevcrm._endpoint_is_due(webhook tinydevcrm.webhooks)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    -- Most have nothing pending: to learn that would read the whole queue where a few have very much.
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
begin
    return case
        when webhook.rate_limited_until > clock_timestamp() then false
        -- Cheap, and true of most.
        when not exists (
            select
              from tinydevcrm.pending_deliveries
             where pending_deliveries.subscription_id = webhook.subscription_id
        ) then false
        -- A probe need not be due itself.
        when tinydevcrm._endpoint_is_down(webhook) then
            webhook.next_probe_at <= clock_timestamp()
            and (tinydevcrm._find_next_delivery(webhook.subscription_id)).id is not null
        when webhook.next_post_at > clock_timestamp() then false
        else exists (
            select
              from tinydevcrm._list_due_heads(webhook.subscription_id, 1)
        )
    end;
end
$$;

comment on function tinydevcrm._endpoint_is_due(tinydevcrm.webhooks) is
    'Whether there is something to post to an endpoint now.';

create function tinydevcrm._is_served(
    webhook      tinydevcrm.webhooks,
    subscription tinydevcrm.subscriptions
)
    returns boolean
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select not subscription.is_paused
       -- As in the policies of deliveries: administrators see more than they may receive.
       and (
           not row_security_active('tinydevcrm.deliveries')
           or pg_has_role(subscription.owner, 'usage')
           or pg_has_role('tinydevcrm_orchestrator', 'usage')
       )
       and (
           webhook.format <> 'email'
           or exists (select from tinydevcrm.settings where settings.mail_server is not null)
       )
$$;

comment on function tinydevcrm._is_served(tinydevcrm.webhooks, tinydevcrm.subscriptions) is
    'Whether a webhook is posted to, and the caller may do that: none that is paused, and no e-mails '
    'without a mail server. Null without a webhook.';

create function tinydevcrm._list_due_webhooks()
    returns table (subscription_id bigint, name text, owner oid, has_refused boolean)
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select subscriptions.id,
           subscriptions.name,
           subscriptions.owner,
           webhooks.failure_count > 0
           or coalesce(webhooks.rate_limited_until > clock_timestamp() - interval '1 hour', false)
      from tinydevcrm.webhooks
      join tinydevcrm.subscriptions
        on subscriptions.id = webhooks.subscription_id
     where tinydevcrm._is_served(webhooks, subscriptions)
       and tinydevcrm._endpoint_is_due(webhooks)
     order by row_number() over (partition by subscriptions.owner order by random())
$$;

comment on function tinydevcrm._list_due_webhooks() is
    'The webhooks that have deliveries to post now, and that the caller may serve. Owners take turns. '
    'has_refused is whether the last post failed, or the endpoint has asked to wait within the last hour.';

create function tinydevcrm._claim_probe(subscription_id bigint, visibility_timeout interval)
    returns interval
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery tinydevcrm.deliveries;
    v_early    interval;
begin
    -- The row lets one program probe at a time; the next one after the timeout, if this one dies.
    update tinydevcrm.webhooks
       set probe_after = _claim_probe.visibility_timeout
     where webhooks.subscription_id = (
               select unlocked.subscription_id
                 from tinydevcrm.webhooks as unlocked
                where unlocked.subscription_id = _claim_probe.subscription_id
                  and unlocked.next_probe_at <= clock_timestamp()
                  for no key update skip locked
           );

    if not found then
        return null;
    end if;

    v_delivery := tinydevcrm._find_next_delivery(_claim_probe.subscription_id);
    v_early := greatest(v_delivery.visible_at - clock_timestamp(), interval '0');

    if v_early > interval '0' then
        update tinydevcrm.deliveries
           set visible_at = clock_timestamp()
         where deliveries.id = (
                   select unlocked.id
                     from tinydevcrm.deliveries as unlocked
                    where unlocked.id = v_delivery.id
                      for no key update skip locked
               );
    end if;

    return v_early;
end
$$;

comment on function tinydevcrm._claim_probe(bigint, interval) is
    'Takes the next probe of an endpoint that is down, and makes a delivery due for it. Returns '
    'how long before its own retry that is; null when it is not time for a probe, or when another '
    'program has it.';

create function tinydevcrm._list_signing_secrets(webhook tinydevcrm.webhooks)
    returns text[]
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select array_remove(
               array[
                   webhook.secret,
                   case
                       when webhook.previous_secret_until > clock_timestamp() then
                           webhook.previous_secret
                   end
               ],
               null)
      from tinydevcrm.webhook_formats
     where webhook_formats.name = webhook.format
       and webhook_formats.is_signed
     union all
    select '{}'
     limit 1
$$;

comment on function tinydevcrm._list_signing_secrets(tinydevcrm.webhooks) is
    'The secrets that sign the posts of a webhook now; none when its format is not signed.';

create function tinydevcrm._receive_posts(
    subscription_id    bigint,
    batch_size         integer,
    visibility_timeout interval,
    run_length         integer default null,
    shares_bodies      boolean default false
)
    returns table (
        delivery_id bigint,
        matview_id  bigint,
        message_id  text,
        body        json,
        url         text,
        secrets     text[],
        early       interval,
        format      text,
        headers     jsonb,
        event_id    bigint
    )
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_webhook tinydevcrm.webhooks;
    v_is_down boolean;
    v_early   interval := interval '0';
    v_places  tid[];
    v_secrets text[];
    v_shares  boolean;
begin
    select webhooks.*
      into v_webhook
      from tinydevcrm.webhooks
     where webhooks.subscription_id = _receive_posts.subscription_id
       and coalesce(webhooks.rate_limited_until, '-infinity') <= clock_timestamp();

    v_is_down := tinydevcrm._endpoint_is_down(v_webhook);

    if v_is_down then
        v_early := tinydevcrm._claim_probe(
            _receive_posts.subscription_id, _receive_posts.visibility_timeout);
    end if;

    -- A row of nulls: the endpoint is rate limited.
    if v_webhook.url is null or v_early is null then
        return;
    end if;

    if tinydevcrm._gathers(v_webhook) then
        v_places := tinydevcrm._lock_gathered(v_webhook);
    end if;

    v_secrets := tinydevcrm._list_signing_secrets(v_webhook);
    v_shares := _receive_posts.shares_bodies
        and v_places is null
        and v_webhook.format = 'standard'
        and exists (
            select
              from tinydevcrm.subscriptions
             where subscriptions.id = v_webhook.subscription_id
               and subscriptions.notify_when is null
               and subscriptions.to_column is null
               and not subscriptions.each_row
               and not subscriptions.numbers_as_text
        );

    return query
        select received.delivery_id,
               coalesce((received.event).matview_id, 0),
               case
                   when v_places is null then
                       tinydevcrm._name_message((received.event).id, received.row_number)
                   else tinydevcrm._name_post(received.delivery_id)
               end,
               case
                   when shared.event_id is not null then null
                   when v_places is not null then tinydevcrm._build_gathered(
                       v_webhook, received.delivery_id, received.event, received.superseded_by)
                   when v_webhook.format = 'standard' then
                       tinydevcrm._build_webhook_body(
                           received.event, received.superseded_by, grouped.others)
                   else tinydevcrm._build_part(
                       v_webhook, received.delivery_id, received.event, received.superseded_by,
                       grouped.others, received.row_number, received.recipient)
               end,
               v_webhook.url,
               v_secrets,
               v_early,
               v_webhook.format,
               v_webhook.headers,
               shared.event_id
          from tinydevcrm._receive_deliveries(
                   v_webhook.subscription_id,
                   case when v_is_down then 1 else _receive_posts.batch_size end,
                   _receive_posts.visibility_timeout,
                   _receive_posts.run_length,
                   v_places) as received
         cross join lateral (
            select case
                       when v_shares
                            and received.superseded_by is null
                            and received.row_number = 0
                            and (received.event).outcome not in ('failed', 'recovered')
                       then (received.event).id
                   end
         ) as shared (event_id)
         cross join lateral (
            select json_agg(
                       json_build_object(
                           'id', events.id,
                           'matview', events.matview,
                           'row_count', events.row_count,
                           'started_at', events.started_at)
                       order by events.id)
              from tinydevcrm.grouped_events(received.delivery_id) as events
             -- No others are grouped, and to look takes as long as to receive.
             where (received.event).outcome in ('failed', 'recovered')
         ) as grouped (others);
end
$$;

comment on function tinydevcrm._receive_posts(bigint, integer, interval, integer, boolean) is
    'Receives deliveries like tinydevcrm.receive_events(), up to run_length of each materialized '
    'view, with all that the orchestrator needs to post them. message_id is the same at each '
    'attempt, and each of the secrets signs; there are none when the format is not signed. body is '
    'the message itself in format standard, and what tinydevcrm._build_notification() returns in '
    'others. A webhook that gathers gets one message at a time: see tinydevcrm._lock_gathered(). '
    'early is how long before its own retry a delivery '
    'probes an endpoint that is down: one at a time, and nothing while it is not time for that. '
    'Returns nothing while the endpoint is rate limited. With shares_bodies, body is null where it is '
    'the same for every webhook: it is that of event_id then.';

create function tinydevcrm._release_posts(delivery_ids bigint[])
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.deliveries
       set attempts = greatest(deliveries.attempts - 1, 0),
           visible_at = clock_timestamp(),
           is_in_flight = false
     where deliveries.id in (
               select unlocked.id
                 from tinydevcrm.deliveries as unlocked
                where unlocked.id = any (_release_posts.delivery_ids)
                  and unlocked.acknowledged_at is null
                  and unlocked.parked_at is null
                  for no key update skip locked
           )
$$;

comment on function tinydevcrm._release_posts(bigint[]) is
    'Gives back deliveries that were received but not posted, with their attempt. Those that their '
    'owner has locked follow after the visibility timeout.';

revoke execute on function
    tinydevcrm._endpoint_is_due(tinydevcrm.webhooks),
    tinydevcrm._is_served(tinydevcrm.webhooks, tinydevcrm.subscriptions),
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._claim_probe(bigint, interval),
    tinydevcrm._list_signing_secrets(tinydevcrm.webhooks),
    tinydevcrm._receive_posts(bigint, integer, interval, integer, boolean),
    tinydevcrm._release_posts(bigint[])
from public;

grant execute on function
    tinydevcrm._endpoint_is_due(tinydevcrm.webhooks),
    tinydevcrm._is_served(tinydevcrm.webhooks, tinydevcrm.subscriptions),
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._claim_probe(bigint, interval),
    tinydevcrm._list_signing_secrets(tinydevcrm.webhooks),
    tinydevcrm._receive_posts(bigint, integer, interval, integer, boolean),
    tinydevcrm._release_posts(bigint[])
to tinydevcrm_user;
