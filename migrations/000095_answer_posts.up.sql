-- What follows from the answer of an endpoint.

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

    -- To park one also parks those that it carries.
    perform
       from tinydevcrm.deliveries
       join tinydevcrm.deliveries as carried
         on carried.leader_event_id = deliveries.event_id
        and carried.subscription_id = deliveries.subscription_id
      where deliveries.id = any (_lock_posted.delivery_ids)
        for no key update of carried nowait;
end
$$;

comment on function tinydevcrm._lock_posted(bigint[]) is
    'Locks deliveries whose outcome is recorded next, and those that they carry. Raises 55P03 at '
    'once when their owner has locked one: the orchestrator tries again later, and records those of '
    'other owners meanwhile.';

create function tinydevcrm._note_gathered(subscription_id bigint)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.webhooks
       set post_count = webhooks.post_count + 1,
           sent_to = '{}'
     where webhooks.subscription_id = (
               select unlocked.subscription_id
                 from tinydevcrm.webhooks as unlocked
                where unlocked.subscription_id = _note_gathered.subscription_id
                  and tinydevcrm._gathers(unlocked)
                  for no key update skip locked
           )
$$;

comment on function tinydevcrm._note_gathered(bigint) is
    'Counts a message of a webhook that gathers, which sets when the next one is posted.';

create function tinydevcrm._note_sent(
    subscription_id bigint,
    delivery_id     bigint,
    addresses       text[]
)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_sent_to text[];
begin
    update tinydevcrm.webhooks
       set sent_to = array(
               select sent.entry
                 from unnest(webhooks.sent_to) as sent (entry)
                where split_part(sent.entry, ' ', 1) = 'delivery_' || _note_sent.delivery_id
                union
               select format('delivery_%s %s', _note_sent.delivery_id, taken.address)
                 from unnest(_note_sent.addresses) as taken (address)
           )
     where webhooks.subscription_id = _note_sent.subscription_id
       and webhooks.format = 'email'
    returning webhooks.sent_to
         into v_sent_to;

    return v_sent_to <> '{}';
end
$$;

comment on function tinydevcrm._note_sent(bigint, bigint, text[]) is
    'Records which recipients have got the e-mail of a delivery. Returns whether any have, now or '
    'at an earlier attempt; null when it is no e-mail.';

create function tinydevcrm._lock_accepted(delivery_ids bigint[])
    returns bigint[]
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_locked record;
begin
    select array_agg(locked.id) as ids,
           coalesce(bool_or(locked.leader_event_id is not null), false) as has_leader
      into v_locked
      from (
        select deliveries.id,
               deliveries.leader_event_id
          from tinydevcrm.deliveries
         where deliveries.id = any (_lock_accepted.delivery_ids)
           and deliveries.acknowledged_at is null
           for no key update skip locked
      ) as locked;

    if not v_locked.has_leader then
        return v_locked.ids;
    end if;

    -- To acknowledge one also acknowledges those that it carries.
    return array(
        select deliveries.id
          from tinydevcrm.deliveries
         where deliveries.id = any (v_locked.ids)
           and not exists (
               select carried.id
                 from tinydevcrm.deliveries as carried
                where carried.leader_event_id = deliveries.event_id
                  and carried.subscription_id = deliveries.subscription_id
               except all
               select locked.id
                 from (
                   select carried.id
                     from tinydevcrm.deliveries as carried
                    where carried.leader_event_id = deliveries.event_id
                      and carried.subscription_id = deliveries.subscription_id
                      for no key update skip locked
                 ) as locked
           )
    );
end
$$;

comment on function tinydevcrm._lock_accepted(bigint[]) is
    'Locks deliveries whose posts were accepted, and those that they carry. Returns those that are '
    'locked now. Leaves out at once what its owner has locked, so that this holds up no other '
    'owner, and what is acknowledged.';

create function tinydevcrm._accept_posts(subscription_ids bigint[], delivery_ids bigint[])
    returns table (
        subscription_id bigint,
        delivery_id     bigint,
        down_since      timestamptz,
        waiting_count   bigint
    )
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids constant bigint[] := tinydevcrm._lock_accepted(_accept_posts.delivery_ids);
begin
    if tinydevcrm.acknowledge_events(v_ids) < cardinality(v_ids) then
        raise exception using
            errcode = '55P03',
            message = 'another transaction holds what one of these deliveries carries',
            hint    = 'Record those of each webhook in a statement of its own.';
    end if;

    perform tinydevcrm._note_gathered(webhooks.subscription_id)
       from tinydevcrm.webhooks
      where webhooks.subscription_id = any (_accept_posts.subscription_ids)
        -- What others have gathered before sets no time.
        and (webhooks.format = 'email' or webhooks.digest is not null);

    return query
        select deliveries.subscription_id,
               deliveries.id,
               null::timestamptz,
               null::bigint
          from tinydevcrm.deliveries
         where deliveries.id = any (_accept_posts.delivery_ids)
           and deliveries.acknowledged_at is null
         union all
        select webhooks.subscription_id,
               null::bigint,
               back.down_since,
               back.waiting_count
          from tinydevcrm.webhooks
         cross join lateral tinydevcrm._note_success(webhooks.subscription_id) as back
         where webhooks.subscription_id = any (_accept_posts.subscription_ids)
           and webhooks.failure_count > 0;
end
$$;

comment on function tinydevcrm._accept_posts(bigint[], bigint[]) is
    'Records that the endpoints of several webhooks have accepted the posts of deliveries. Returns '
    'one row for each delivery that is not recorded, because its owner has locked it, and one for '
    'each endpoint that is back, with what tinydevcrm._note_success() returns.';

create function tinydevcrm._return_post(delivery_id bigint, reason text, pause interval)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- One attempt stays, which says that it was posted.
    update tinydevcrm.deliveries
       set attempts = greatest(deliveries.attempts - 1, 1),
           visible_at = clock_timestamp() + _return_post.pause,
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
    early           interval default interval '0',
    sent_to         text[] default '{}',
    is_final        boolean default false
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
    v_has_sent    boolean;
    v_was_down    boolean;
    v_is_first    boolean;
    v_goes_down   boolean;
begin
    perform tinydevcrm._lock_posted(array[_refuse_post.delivery_id]);

    v_has_sent := tinydevcrm._note_sent(
        _refuse_post.subscription_id, _refuse_post.delivery_id, _refuse_post.sent_to);

    if _refuse_post.is_final then
        update tinydevcrm.deliveries
           set last_error = left(_refuse_post.reason, 1000),
               is_in_flight = false,
               state = case when v_has_sent then 'acknowledged' else 'parked' end
         where deliveries.id = _refuse_post.delivery_id
           and deliveries.acknowledged_at is null;

        -- The server has answered, and counts no failure.
        perform tinydevcrm._note_gathered(_refuse_post.subscription_id);
        perform tinydevcrm._note_success(_refuse_post.subscription_id);
        return null;
    end if;

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

comment on function tinydevcrm._refuse_post(
    bigint, bigint, integer, text, interval, interval, text[], boolean
) is
    'Handles an endpoint''s refusal of a post. Status 410 switches the webhook off; every other '
    'one counts as a failure of the endpoint, as tinydevcrm._classify_refusal() says. retry_after, '
    'at most a day, delays the next post to the endpoint. The delivery is retried with exponential '
    'backoff: see tinydevcrm.reject_event(). A probe that the endpoint could not answer, or that '
    'was early, costs no attempt. status is that of the answer, null when there was none. Returns '
    'why nothing more is posted to the endpoint now: gone, down, rate limited, or null. sent_to are '
    'the recipients that have got an e-mail; a retry is for the others. is_final says that no retry '
    'can help: then the delivery is parked, or acknowledged when some have got it.';

revoke execute on function
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint[]),
    tinydevcrm._note_gathered(bigint),
    tinydevcrm._note_sent(bigint, bigint, text[]),
    tinydevcrm._lock_accepted(bigint[]),
    tinydevcrm._accept_posts(bigint[], bigint[]),
    tinydevcrm._return_post(bigint, text, interval),
    tinydevcrm._refuse_post(
        bigint, bigint, integer, text, interval, interval, text[], boolean)
from public;

grant execute on function
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint[]),
    tinydevcrm._note_gathered(bigint),
    tinydevcrm._note_sent(bigint, bigint, text[]),
    tinydevcrm._lock_accepted(bigint[]),
    tinydevcrm._accept_posts(bigint[], bigint[]),
    tinydevcrm._return_post(bigint, text, interval),
    tinydevcrm._refuse_post(
        bigint, bigint, integer, text, interval, interval, text[], boolean)
to tinydevcrm_user;
