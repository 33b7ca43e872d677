-- What the orchestrator calls to post the deliveries of webhooks, and what follows from the answers.

create function tinydevcrm._endpoint_is_due(webhook tinydevcrm.webhooks)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when webhook.rate_limited_until > clock_timestamp() then false
        -- Cheap, and true of most.
        when not exists (
            select
              from tinydevcrm.deliveries
             where deliveries.subscription_id = webhook.subscription_id
               and deliveries.acknowledged_at is null
               and deliveries.parked_at is null
        ) then false
        -- A probe need not be due itself.
        when tinydevcrm._endpoint_is_down(webhook) then
            webhook.next_probe_at <= clock_timestamp()
            and (tinydevcrm._find_next_delivery(webhook.subscription_id)).id is not null
        else exists (
            select
              from tinydevcrm._list_due_heads(webhook.subscription_id, 1)
        )
    end;
end
$$;

comment on function tinydevcrm._endpoint_is_due(tinydevcrm.webhooks) is
    'Whether there is something to post to an endpoint now.';

create function tinydevcrm._list_due_webhooks()
    returns table (subscription_id bigint, name text, owner oid)
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select subscriptions.id,
           subscriptions.name,
           subscriptions.owner
      from tinydevcrm.webhooks
      join tinydevcrm.subscriptions
        on subscriptions.id = webhooks.subscription_id
     where not subscriptions.is_paused
       -- As in the policies of deliveries: administrators see more than they may receive.
       and (
           not row_security_active('tinydevcrm.deliveries')
           or pg_has_role(subscriptions.owner, 'usage')
           or pg_has_role('tinydevcrm_orchestrator', 'usage')
       )
       and tinydevcrm._endpoint_is_due(webhooks)
     order by row_number() over (partition by subscriptions.owner order by random())
$$;

comment on function tinydevcrm._list_due_webhooks() is
    'The webhooks that have deliveries to post now, and that the caller may serve. Owners take '
    'turns.';

create function tinydevcrm._build_webhook_body(
    event         tinydevcrm.matview_refresh_events,
    superseded_by bigint default null,
    others        json default null
)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- Built as text, because json_build_object() has no way to leave a field out.
    select format(
               '{%s}',
               concat_ws(
                   ', ',
                   '"type" : ' || to_json('matview.' || (event).outcome),
                   '"timestamp" : ' || to_json((event).started_at),
                   '"superseded_by" : ' || _build_webhook_body.superseded_by,
                   '"also_' || (event).outcome || '" : ' || _build_webhook_body.others,
                   '"data" : ' || tinydevcrm.event_json(event)))::json
$$;

comment on function tinydevcrm._build_webhook_body(
    tinydevcrm.matview_refresh_events, bigint, json
) is
    'The body of the post of an event: its type is "matview." and the outcome, its data the event. '
    'superseded_by is as in tinydevcrm.receive_events(). also_failed or also_recovered lists the '
    'events that the post carries besides: see tinydevcrm.grouped_events().';

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
           set hidden_for = interval '0'
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

create function tinydevcrm._receive_posts(
    subscription_id    bigint,
    batch_size         integer,
    visibility_timeout interval,
    run_length         integer default null
)
    returns table (
        delivery_id bigint,
        matview_id  bigint,
        message_id  text,
        body        json,
        url         text,
        secrets     text[],
        early       interval
    )
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_webhook tinydevcrm.webhooks;
    v_is_down boolean;
    v_early   interval := interval '0';
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

    return query
        select received.delivery_id,
               coalesce((received.event).matview_id, 0),
               'event_' || (received.event).id,
               tinydevcrm._build_webhook_body(
                   received.event,
                   received.superseded_by,
                   (
                       select json_agg(
                                  json_build_object(
                                      'id', grouped.id,
                                      'matview', grouped.matview,
                                      'row_count', grouped.row_count,
                                      'started_at', grouped.started_at)
                                  order by grouped.id)
                         from tinydevcrm.grouped_events(received.delivery_id) as grouped
                   )),
               v_webhook.url,
               array_remove(
                   array[
                       v_webhook.secret,
                       case
                           when v_webhook.previous_secret_until > clock_timestamp() then
                               v_webhook.previous_secret
                       end
                   ],
                   null),
               v_early
          from tinydevcrm._receive_deliveries(
                   v_webhook.subscription_id,
                   case when v_is_down then 1 else _receive_posts.batch_size end,
                   _receive_posts.visibility_timeout,
                   _receive_posts.run_length) as received;
end
$$;

comment on function tinydevcrm._receive_posts(bigint, integer, interval, integer) is
    'Receives deliveries like tinydevcrm.receive_events(), up to run_length of each materialized '
    'view, with all that the orchestrator needs to post them. message_id is the same at each '
    'attempt, and each of the secrets signs. early is how long before its own retry a delivery '
    'probes an endpoint that is down: one at a time, and nothing while it is not time for that. '
    'Returns nothing while the endpoint is rate limited.';

create function tinydevcrm._release_posts(delivery_ids bigint[])
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.deliveries
       set attempts = greatest(deliveries.attempts - 1, 0),
           hidden_for = interval '0',
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

create function tinydevcrm._disable_webhook(subscription_id bigint, reason text)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- Does not wait for a row that a user has locked: the endpoint will answer the same again.
    update tinydevcrm.subscriptions
       set paused_by = 'orchestrator',
           pause_reason = left(_disable_webhook.reason, 1000)
     where subscriptions.id = (
               select unlocked.id
                 from tinydevcrm.subscriptions as unlocked
                where unlocked.id = _disable_webhook.subscription_id
                  for no key update skip locked
           )
$$;

comment on function tinydevcrm._disable_webhook(bigint, text) is
    'Pauses the subscription of a webhook whose endpoint answers that it is gone for good (HTTP '
    '410).';

create function tinydevcrm._limit_webhook_rate(subscription_id bigint, retry_after interval)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.webhooks
       set rate_limited_for = least(
               greatest(_limit_webhook_rate.retry_after, interval '0'), interval '90 days')
     where webhooks.subscription_id = (
               select unlocked.subscription_id
                 from tinydevcrm.webhooks as unlocked
                where unlocked.subscription_id = _limit_webhook_rate.subscription_id
                  for no key update skip locked
           )
$$;

comment on function tinydevcrm._limit_webhook_rate(bigint, interval) is
    'Posts nothing to the endpoint of a webhook for as long as the endpoint asks, at most 90 days.';

create function tinydevcrm._lock_posted(delivery_ids bigint[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform
       from tinydevcrm.deliveries
      where deliveries.id = any (_lock_posted.delivery_ids)
        for no key update nowait;
end
$$;

comment on function tinydevcrm._lock_posted(bigint[]) is
    'Locks deliveries whose outcome is recorded next. Raises 55P03 at once when their owner has '
    'locked one: the orchestrator tries again later, and records those of other owners meanwhile.';

create function tinydevcrm._accept_posts(subscription_id bigint, delivery_ids bigint[])
    returns table (down_since timestamptz, waiting_count bigint)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._lock_posted(_accept_posts.delivery_ids);
    perform tinydevcrm.acknowledge_events(_accept_posts.delivery_ids);

    return query
        select back.*
          from tinydevcrm._note_success(_accept_posts.subscription_id) as back;
end
$$;

comment on function tinydevcrm._accept_posts(bigint, bigint[]) is
    'Records that an endpoint has accepted the posts of deliveries. Returns what '
    'tinydevcrm._note_success() does. Raises 55P03 as tinydevcrm._lock_posted() does.';

create function tinydevcrm._return_post(delivery_id bigint, reason text, hidden_for interval)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- One attempt stays, which says that it was posted.
    update tinydevcrm.deliveries
       set attempts = greatest(deliveries.attempts - 1, 1),
           hidden_for = _return_post.hidden_for,
           is_in_flight = false,
           last_error = left(_return_post.reason, 1000)
     where deliveries.id = _return_post.delivery_id
       and deliveries.acknowledged_at is null
       and deliveries.parked_at is null
$$;

comment on function tinydevcrm._return_post(bigint, text, interval) is
    'Makes the delivery of a failed probe pending again with the reason and without the attempt.';

create function tinydevcrm._refuse_post(
    subscription_id bigint,
    delivery_id     bigint,
    status          integer,
    reason          text,
    retry_after     interval default null,
    early           interval default interval '0'
)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_retry_after constant interval := least(
        coalesce(_refuse_post.retry_after, interval '0'), interval '1 day');
    v_kind        constant text := tinydevcrm._classify_refusal(_refuse_post.status);
    v_was_down    boolean;
    v_is_first    boolean;
    v_goes_down   boolean;
begin
    perform tinydevcrm._lock_posted(array[_refuse_post.delivery_id]);

    select tinydevcrm._endpoint_is_down(webhooks),
           coalesce(deliveries.attempts, 0) <= 1
      into v_was_down,
           v_is_first
      from tinydevcrm.webhooks
      left join tinydevcrm.deliveries
        on deliveries.id = _refuse_post.delivery_id
     where webhooks.subscription_id = _refuse_post.subscription_id;

    if _refuse_post.status = 410 then
        perform tinydevcrm._disable_webhook(_refuse_post.subscription_id, _refuse_post.reason);
    elsif v_kind <> 'message' or v_is_first or v_was_down then
        v_goes_down := tinydevcrm._note_failure(_refuse_post.subscription_id);
    end if;

    if v_retry_after > interval '0' then
        perform tinydevcrm._limit_webhook_rate(_refuse_post.subscription_id, v_retry_after);
    end if;

    if v_was_down and (v_kind = 'away' or _refuse_post.early > interval '0') then
        -- Until then another delivery probes, or none: the end of the failures makes it due.
        perform tinydevcrm._return_post(
            _refuse_post.delivery_id,
            _refuse_post.reason,
            greatest(
                _refuse_post.early,
                (
                    select settings.webhook_probe_pause
                      from tinydevcrm.settings
                )));
    else
        begin
            perform tinydevcrm.reject_event(
                _refuse_post.delivery_id, _refuse_post.reason, v_retry_after);
        exception
            -- It was dropped, redelivered or locked meanwhile. The rest stays set.
            when sqlstate 'TD001' then
                null;
        end;
    end if;

    return case
        when _refuse_post.status = 410 then 'gone'
        when v_goes_down then 'down'
        when v_retry_after > interval '0' then 'rate limited'
    end;
end
$$;

comment on function tinydevcrm._refuse_post(bigint, bigint, integer, text, interval, interval) is
    'Handles an endpoint''s refusal of a post. Status 410 switches the webhook off; every other '
    'one counts as a failure of the endpoint, as tinydevcrm._classify_refusal() says. retry_after, '
    'at most a day, delays the next post to the endpoint. The delivery is retried with exponential '
    'backoff: see tinydevcrm.reject_event(). A probe that the endpoint could not answer, or that '
    'was early, costs no attempt. status is that of the answer, null when there was none. Returns '
    'why nothing more is posted to the endpoint now: gone, down, rate limited, or null.';

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
           rate_limited_for = interval '0'
     where webhooks.subscription_id = v_id;

    select count(*)
      into v_count
      from tinydevcrm.deliveries
     where deliveries.subscription_id = v_id
       and deliveries.acknowledged_at is null
       and deliveries.parked_at is null;

    -- Wakes up the programs that wait for events.
    perform tinydevcrm._notify(0);
    return v_count;
end
$$;

comment on function tinydevcrm.retry_subscription(text) is
    'Tries again now: what waits for a retry is due, and so is the probe of an endpoint that is '
    'down. Returns how many deliveries are pending. Raises TD001 when there is no such '
    'subscription.';

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
            v_webhook.rate_limited_until)
    end;
end
$$;

comment on function tinydevcrm._find_next_attempt(tinydevcrm.subscriptions) is
    'When the next delivery of a subscription may be received, or the endpoint that is down is '
    'probed; null when it is paused, none is pending or all are in flight.';

revoke execute on function
    tinydevcrm._endpoint_is_due(tinydevcrm.webhooks),
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, bigint, json),
    tinydevcrm._claim_probe(bigint, interval),
    tinydevcrm._receive_posts(bigint, integer, interval, integer),
    tinydevcrm._release_posts(bigint[]),
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint[]),
    tinydevcrm._accept_posts(bigint, bigint[]),
    tinydevcrm._return_post(bigint, text, interval),
    tinydevcrm._refuse_post(bigint, bigint, integer, text, interval, interval),
    tinydevcrm.retry_subscription(text),
    tinydevcrm._find_next_attempt(tinydevcrm.subscriptions)
from public;

grant execute on function
    tinydevcrm._endpoint_is_due(tinydevcrm.webhooks),
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, bigint, json),
    tinydevcrm._claim_probe(bigint, interval),
    tinydevcrm._receive_posts(bigint, integer, interval, integer),
    tinydevcrm._release_posts(bigint[]),
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint[]),
    tinydevcrm._accept_posts(bigint, bigint[]),
    tinydevcrm._return_post(bigint, text, interval),
    tinydevcrm._refuse_post(bigint, bigint, integer, text, interval, interval),
    tinydevcrm.retry_subscription(text),
    tinydevcrm._find_next_attempt(tinydevcrm.subscriptions)
to tinydevcrm_user;
