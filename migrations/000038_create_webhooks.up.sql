-- A subscription whose deliveries the orchestrator posts to a URL, by the Standard Webhooks
-- specification: https://www.standardwebhooks.com/.

create table tinydevcrm.webhooks (
    subscription_id       bigint not null,
    owner                 regrole not null default quote_ident(current_user)::regrole,
    url                   text not null,
    secret                text not null,
    secret_grace          interval not null default interval '1 day',
    previous_secret       text,
    previous_secret_until timestamptz,
    rate_limited_for      interval not null default interval '0',
    rate_limited_until    timestamptz,

    constraint webhooks_pkey primary key (subscription_id),
    constraint webhooks_subscription_fkey foreign key (subscription_id)
        references tinydevcrm.subscriptions (id) on delete cascade,
    constraint webhooks_url_http check (url ~ '^https?://[^[:space:]]+$' and length(url) <= 2000),
    constraint webhooks_secret_form check (
        secret ~ '^whsec_[A-Za-z0-9+/]{32,88}={0,2}$' and octet_length(secret) <= 96
    ),
    constraint webhooks_secret_grace_range check (
        secret_grace between interval '0' and interval '90 days'
    ),
    constraint webhooks_rate_limited_for_range check (
        rate_limited_for between interval '0' and interval '90 days'
    )
);

comment on table tinydevcrm.webhooks is
    'Where the orchestrator posts the deliveries of a subscription. Change the URL with update.';
comment on column tinydevcrm.webhooks.subscription_id is
    'The subscription.';
comment on column tinydevcrm.webhooks.owner is
    'Owner of the subscription.';
comment on column tinydevcrm.webhooks.url is
    'The endpoint, http or https. Private addresses are refused unless the orchestrator was '
    'started with --allow-webhooks-to.';
comment on column tinydevcrm.webhooks.secret is
    'The secret that signs the messages: whsec_ and 24 to 64 bytes in base64.';
comment on column tinydevcrm.webhooks.secret_grace is
    'For how long the previous secret also signs after a rotation, at most 90 days.';
comment on column tinydevcrm.webhooks.previous_secret is
    'The secret before the last rotation. It also signs, until previous_secret_until.';
comment on column tinydevcrm.webhooks.previous_secret_until is
    'Until when the previous secret signs.';
comment on column tinydevcrm.webhooks.rate_limited_for is
    'For how long from now on nothing is posted to the endpoint, at most 90 days. Sets '
    'rate_limited_until.';
comment on column tinydevcrm.webhooks.rate_limited_until is
    'Until when nothing is posted to the endpoint, because it has asked for that (Retry-After).';

alter table tinydevcrm.webhooks enable row level security;

create policy webhooks_read on tinydevcrm.webhooks
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

create policy webhooks_create on tinydevcrm.webhooks
    for insert
    to tinydevcrm_user
    with check (
        pg_has_role(owner, 'usage')
        and not tinydevcrm._is_group(owner)
        and exists (
            select
              from tinydevcrm.subscriptions
             where subscriptions.id = webhooks.subscription_id
               and subscriptions.owner = webhooks.owner
        )
    );

create policy webhooks_change on tinydevcrm.webhooks
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select,
      insert (subscription_id, url, secret),
      update (url, secret, secret_grace, rate_limited_for)
   on tinydevcrm.webhooks
   to tinydevcrm_user;

create function tinydevcrm._webhooks_keep_secret()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.previous_secret := old.secret;
    new.previous_secret_until := clock_timestamp() + new.secret_grace;
    return new;
end
$$;

comment on function tinydevcrm._webhooks_keep_secret() is
    'Keeps the previous secret for the time that secret_grace says.';

create trigger _100_keep_secret
    before update of secret on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_keep_secret();

create function tinydevcrm._webhooks_limit_rate()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.rate_limited_until := clock_timestamp() + new.rate_limited_for;
    return new;
end
$$;

comment on function tinydevcrm._webhooks_limit_rate() is
    'Sets until when nothing is posted to an endpoint.';

create trigger _200_limit_rate
    before update of rate_limited_for on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_limit_rate();

create function tinydevcrm._generate_webhook_secret()
    returns text
    language plpython3u
    volatile
    set search_path = pg_catalog, pg_temp
as $$
import base64
import secrets

return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
$$;

comment on function tinydevcrm._generate_webhook_secret() is
    'Returns a secret of 32 bytes from the system''s source of randomness, which SQL alone cannot '
    'read before PostgreSQL 13.';

create function tinydevcrm.create_webhook(
    name         text,
    url          text,
    relation     regclass default null,
    max_attempts integer default 12
)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_id bigint;
    v_secret          text := tinydevcrm._generate_webhook_secret();
begin
    if exists (
        select
          from tinydevcrm.subscriptions
         where subscriptions.owner = quote_ident(current_user)::regrole
           and subscriptions.name = create_webhook.name
    ) then
        raise exception using
            errcode = 'TD004',
            message = format('subscription %L is there already', create_webhook.name),
            hint    = 'Choose another name, or drop it with tinydevcrm.drop_subscription().';
    end if;

    v_subscription_id := tinydevcrm.create_subscription(
        create_webhook.name, create_webhook.relation, create_webhook.max_attempts);

    insert into tinydevcrm.webhooks (subscription_id, url, secret)
    values (v_subscription_id, coalesce(create_webhook.url, ''), v_secret);

    return v_secret;
exception
    when check_violation or not_null_violation then
        raise exception using
            errcode = 'TD007',
            message = format(
                '%L cannot be a webhook at %L', create_webhook.name, create_webhook.url),
            hint    = 'A name has 1 to 200 bytes, a URL begins with http:// or https://, and there '
                      'are 1 to 100 attempts.';
end
$$;

comment on function tinydevcrm.create_webhook(text, text, regclass, integer) is
    'Subscribes to the events of one materialized view, or of all, that notify; the orchestrator '
    'posts them to a URL. Returns the secret that signs the messages. Raises TD001 when the '
    'materialized view is not watched, TD004 when there is a subscription of that name, TD007 for '
    'a bad name, URL or number of attempts.';

create function tinydevcrm.rotate_webhook_secret(
    name  text,
    grace interval default interval '1 day'
)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id     constant bigint := tinydevcrm._find_own_subscription(rotate_webhook_secret.name);
    v_secret text;
begin
    update tinydevcrm.webhooks
       set secret = tinydevcrm._generate_webhook_secret(),
           secret_grace = coalesce(rotate_webhook_secret.grace, interval '0')
     where webhooks.subscription_id = v_id
    returning webhooks.secret
         into v_secret;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('subscription %L is not a webhook', rotate_webhook_secret.name),
            hint    = 'Create one with tinydevcrm.create_webhook().';
    end if;

    return v_secret;
exception
    when check_violation then
        raise exception using
            errcode = 'TD007',
            message = 'a grace period is from 0 to 90 days',
            hint    = 'To end the old secret now: grace => ''0''.';
end
$$;

comment on function tinydevcrm.rotate_webhook_secret(text, interval) is
    'Gives a webhook a new secret and returns it. Both secrets sign until the grace period, 0 to '
    '90 days, is over. Raises TD001 when there is no such webhook, TD007 when the grace period is '
    'out of range.';

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

create function tinydevcrm._build_webhook_body(event tinydevcrm.matview_refresh_events)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select json_build_object(
               'type', 'matview.' || (event).outcome,
               'timestamp', (event).started_at,
               'data', tinydevcrm.event_json(event))
$$;

comment on function tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events) is
    'The body of the post of an event: its type is matview.refreshed, matview.recovered or '
    'matview.failed, its data the event.';

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
           tinydevcrm._build_webhook_body(received.event),
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
    tinydevcrm._webhooks_keep_secret(),
    tinydevcrm._webhooks_limit_rate(),
    tinydevcrm._generate_webhook_secret(),
    tinydevcrm.create_webhook(text, text, regclass, integer),
    tinydevcrm.rotate_webhook_secret(text, interval),
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events),
    tinydevcrm._receive_posts(bigint, integer, interval),
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint),
    tinydevcrm._accept_post(bigint),
    tinydevcrm._refuse_post(bigint, bigint, integer, text, interval)
from public;

grant execute on function
    tinydevcrm._generate_webhook_secret(),
    tinydevcrm.create_webhook(text, text, regclass, integer),
    tinydevcrm.rotate_webhook_secret(text, interval),
    tinydevcrm._list_due_webhooks(),
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events),
    tinydevcrm._receive_posts(bigint, integer, interval),
    tinydevcrm._disable_webhook(bigint, text),
    tinydevcrm._limit_webhook_rate(bigint, interval),
    tinydevcrm._lock_posted(bigint),
    tinydevcrm._accept_post(bigint),
    tinydevcrm._refuse_post(bigint, bigint, integer, text, interval)
to tinydevcrm_user;
