-- What the orchestrator calls to post the deliveries of webhooks, and what follows from the answers.

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
       and (webhooks.rate_limited_until is null or webhooks.rate_limited_until <= clock_timestamp())
       and exists (
           select
             from tinydevcrm.deliveries
            where deliveries.subscription_id = subscriptions.id
              and deliveries.acknowledged_at is null
              and deliveries.parked_at is null
              and deliveries.visible_at <= clock_timestamp()
       )
     order by row_number() over (partition by subscriptions.owner order by random())
$$;

comment on function tinydevcrm._list_due_webhooks() is
    'The webhooks that have deliveries to post now, and that the caller may serve. Owners take '
    'turns.';

create function tinydevcrm._build_webhook_body(
    event  tinydevcrm.matview_refresh_events,
    others json
)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _build_webhook_body.others is null then json_build_object(
                   'type', 'matview.' || (event).outcome,
                   'timestamp', (event).started_at,
                   'data', tinydevcrm.event_json(event))
               else json_build_object(
                   'type', 'matview.' || (event).outcome,
                   'timestamp', (event).started_at,
                   'also_' || (event).outcome, _build_webhook_body.others,
                   'data', tinydevcrm.event_json(event))
           end
$$;

comment on function tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, json) is
    'The body of the post of an event: its type is "matview." and the outcome, its data the event. '
    'also_failed or also_recovered lists the events that the post carries besides: see '
    'tinydevcrm.grouped_events().';

create function tinydevcrm._receive_posts(
    subscription_id    bigint,
    batch_size         integer,
    visibility_timeout interval
)
    returns table (delivery_id bigint, message_id text, body json, url text, secrets text[])
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select received.delivery_id,
           'event_' || (received.event).id,
           tinydevcrm._build_webhook_body(
               received.event,
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
           webhooks.url,
           array_remove(
               array[
                   webhooks.secret,
                   case
                       when webhooks.previous_secret_until > clock_timestamp() then
                           webhooks.previous_secret
                   end
               ],
               null)
      from tinydevcrm.webhooks
     cross join lateral tinydevcrm._receive_deliveries(
               webhooks.subscription_id,
               _receive_posts.batch_size,
               _receive_posts.visibility_timeout) as received
     where webhooks.subscription_id = _receive_posts.subscription_id
       and (webhooks.rate_limited_until is null or webhooks.rate_limited_until <= clock_timestamp())
$$;

comment on function tinydevcrm._receive_posts(bigint, integer, interval) is
    'Receives deliveries like tinydevcrm.receive_events(), with all that the orchestrator needs to '
    'post them. message_id is the same at each attempt, and each of the secrets signs. Returns '
    'nothing while the endpoint is rate limited.';

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

create function tinydevcrm._lock_posted(delivery_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform
       from tinydevcrm.deliveries
      where deliveries.id = _lock_posted.delivery_id
        for no key update nowait;
end
$$;

comment on function tinydevcrm._lock_posted(bigint) is
    'Locks a delivery whose outcome is recorded next. Raises 55P03 at once when its owner has '
    'locked it: the orchestrator tries again later, and records those of other owners meanwhile.';

create function tinydevcrm._accept_post(delivery_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._lock_posted(_accept_post.delivery_id);
    perform tinydevcrm.acknowledge_events(array[_accept_post.delivery_id]);
end
$$;

comment on function tinydevcrm._accept_post(bigint) is
    'Records that an endpoint has accepted the post of a delivery. Raises 55P03 as '
    'tinydevcrm._lock_posted() does.';

create function tinydevcrm._refuse_post(
    subscription_id bigint,
    delivery_id     bigint,
    status          integer,
    reason          text,
    retry_after     interval default null
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_retry_after constant interval := least(
        coalesce(_refuse_post.retry_after, interval '0'), interval '1 day');
begin
    perform tinydevcrm._lock_posted(_refuse_post.delivery_id);

    if _refuse_post.status = 410 then
        perform tinydevcrm._disable_webhook(_refuse_post.subscription_id, _refuse_post.reason);
    end if;

    if v_retry_after > interval '0' then
        perform tinydevcrm._limit_webhook_rate(_refuse_post.subscription_id, v_retry_after);
    end if;

    begin
        perform tinydevcrm.reject_event(
            _refuse_post.delivery_id, _refuse_post.reason, v_retry_after);
    exception
        -- It was dropped, redelivered or locked meanwhile. The pause and the rate limit stay set.
        when sqlstate 'TD001' then
            null;
    end;
end
$$;

comment on function tinydevcrm._refuse_post(bigint, bigint, integer, text, interval) is
    'Handles an endpoint''s refusal of a post. Status 410 switches the webhook off. retry_after, '
    'at most a day, delays the next post to the endpoint. The delivery is retried with exponential '
    'backoff: see tinydevcrm.reject_event(). status is that of the answer, null when there was '
    'none.';

revoke execute on function
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, json),
    tinydevcrm._receive_posts(bigint, integer, interval),
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint),
    tinydevcrm._accept_post(bigint),
    tinydevcrm._refuse_post(bigint, bigint, integer, text, interval)
from public;

grant execute on function
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, json),
    tinydevcrm._receive_posts(bigint, integer, interval),
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint),
    tinydevcrm._accept_post(bigint),
    tinydevcrm._refuse_post(bigint, bigint, integer, text, interval)
to tinydevcrm_user;
