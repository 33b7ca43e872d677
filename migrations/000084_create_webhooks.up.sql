-- A subscription whose deliveries the orchestrator posts to a URL, in the format that its receiver
-- takes: tinydevcrm.webhook_formats.

create table tinydevcrm.webhooks (
    subscription_id       bigint not null,
    owner                 regrole not null default quote_ident(current_user)::regrole,
    url                   text not null,
    format                text not null default 'standard',
    headers               jsonb not null default '{}',
    secret                text not null,
    secret_grace          interval not null default interval '1 day',
    previous_secret       text,
    previous_secret_until timestamptz,
    rate_limited_for      interval not null default interval '0',
    rate_limited_until    timestamptz,
    failure_count         integer not null default 0,
    failing_since         timestamptz,
    probe_after           interval not null default interval '0',
    next_probe_at         timestamptz,
    digest                text,
    post_after            interval not null default interval '0',
    next_post_at          timestamptz,
    post_count            bigint not null default 0,
    posted_at             timestamptz[] not null default '{}',
    sent_to               text[] not null default '{}',
    unsubscribed          text[] not null default '{}',

    constraint webhooks_pkey primary key (subscription_id),
    constraint webhooks_subscription_fkey foreign key (subscription_id)
        references tinydevcrm.subscriptions (id) on delete cascade,
    constraint webhooks_format_fkey foreign key (format)
        references tinydevcrm.webhook_formats (name),
    constraint webhooks_url_form check (
        url ~ case format when 'email' then '^mailto:[^[:space:]]*$' else '^https?://[^[:space:]]+$' end
        and length(url) <= case format when 'email' then 13000 else 2000 end
    ),
    constraint webhooks_headers_are_object check (
        jsonb_typeof(headers) = 'object' and octet_length(headers::text) <= 16384
    ),
    constraint webhooks_secret_form check (
        secret ~ '^whsec_[A-Za-z0-9+/]{32,88}={0,2}$' and octet_length(secret) <= 96
    ),
    constraint webhooks_secret_grace_range check (
        secret_grace between interval '0' and interval '90 days'
    ),
    constraint webhooks_rate_limited_for_range check (
        rate_limited_for between interval '0' and interval '90 days'
    ),
    constraint webhooks_failure_count_range check (failure_count between 0 and 1000000),
    constraint webhooks_probe_after_range check (
        probe_after between interval '0' and interval '90 days'
    ),
    constraint webhooks_digest_length check (octet_length(digest) <= 200),
    constraint webhooks_post_after_range check (
        post_after between interval '0' and interval '10 years'
    ),
    constraint webhooks_post_count_range check (post_count between 0 and 1000000000000),
    constraint webhooks_sent_to_short check (octet_length(sent_to::text) <= 20000),
    constraint webhooks_unsubscribed_short check (octet_length(unsubscribed::text) <= 1000000)
);

comment on table tinydevcrm.webhooks is
    'Where the orchestrator posts the deliveries of a subscription. Change the URL with '
    'tinydevcrm.alter_webhook().';
comment on column tinydevcrm.webhooks.subscription_id is
    'The subscription.';
comment on column tinydevcrm.webhooks.owner is
    'Owner of the subscription.';
comment on column tinydevcrm.webhooks.url is
    'The endpoint, a URL that a trigger has checked. Posts go to private addresses only if the '
    'orchestrator was started with --allow-webhooks-to.';
comment on column tinydevcrm.webhooks.format is
    'The shape of the posts.';
comment on column tinydevcrm.webhooks.headers is
    'Headers that each post has besides, such as {"Authorization": "Bearer …"}: names and texts, '
    'which a trigger has checked. They may be secrets: no list or log shows them. A redirect to '
    'another host does not get them.';
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
comment on column tinydevcrm.webhooks.failure_count is
    'Failures of the endpoint in a row, 0 after each success. From settings.webhook_failure_limit '
    'on the endpoint is down.';
comment on column tinydevcrm.webhooks.failing_since is
    'When the first of them was; null when there are none.';
comment on column tinydevcrm.webhooks.probe_after is
    'For how long from now on an endpoint that is down is not probed, at most 90 days. Sets '
    'next_probe_at.';
comment on column tinydevcrm.webhooks.next_probe_at is
    'From when on an endpoint that is down is probed with the next delivery.';
comment on column tinydevcrm.webhooks.digest is
    'When its deliveries are posted, all of them as one message, as it was typed; null for at '
    'once. See tinydevcrm.set_digest().';
comment on column tinydevcrm.webhooks.post_after is
    'For how long from now on nothing is posted, at most 10 years. Sets next_post_at.';
comment on column tinydevcrm.webhooks.next_post_at is
    'From when on the next message is posted, of a webhook that gathers: see '
    'tinydevcrm._gathers().';
comment on column tinydevcrm.webhooks.post_count is
    'How many messages have been accepted, of a webhook that gathers. A change of it sets posted_at '
    'and next_post_at.';
comment on column tinydevcrm.webhooks.posted_at is
    'When those of the last hour were accepted, the newest first, up to 1000.';
comment on column tinydevcrm.webhooks.sent_to is
    'The recipients that have got an e-mail which others have not got yet, each after the number of '
    'its delivery. A retry is for the others.';
comment on column tinydevcrm.webhooks.unsubscribed is
    'The addresses of tinydevcrm.subscriptions.to_column, in lower case, that want no more e-mails. '
    'What is for them goes to the addresses of the URL.';

create index webhooks_format_idx on tinydevcrm.webhooks (format);

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
      insert (subscription_id, url, format, headers, secret, digest),
      update (
          url, format, headers, secret, secret_grace, rate_limited_for, failure_count, probe_after,
          digest, post_after, post_count, sent_to, unsubscribed)
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

-- gen_random_uuid() is part of Postgres, and before 13 of pgcrypto, which may be in any schema.
do $do$
begin
    execute format(
        $sql$
            create function tinydevcrm._generate_webhook_secret()
                returns text
                language sql
                volatile
                set search_path = pg_catalog, pg_temp
            as $$
                select 'whsec_' || encode(
                           sha256(string_agg(uuid_send(%s.gen_random_uuid()), '')), 'base64')
                  from generate_series(1, 3)
            $$
        $sql$,
        coalesce(
            (
                select quote_ident(nspname)
                  from pg_catalog.pg_extension
                  join pg_catalog.pg_namespace
                    on pg_namespace.oid = extnamespace
                 where extname = 'pgcrypto'
                   and current_setting('server_version_num')::integer < 130000
            ),
            'pg_catalog'));
end
$do$;

comment on function tinydevcrm._generate_webhook_secret() is
    'Returns a secret of 32 bytes: the hash of 366 bits from the system''s source of randomness.';

create function tinydevcrm.create_webhook(
    name            text,
    url             text,
    relation        regclass default null,
    max_attempts    integer default 12,
    numbers_as_text boolean default false,
    format          text default null,
    headers         jsonb default '{}',
    digest          text default null,
    notify_when     text default null,
    each_row        boolean default false
)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_id bigint;
    v_secret          text := tinydevcrm._generate_webhook_secret();
    v_format          text := coalesce(
        create_webhook.format, tinydevcrm._guess_webhook_format(create_webhook.url));
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
        create_webhook.name,
        create_webhook.relation,
        create_webhook.max_attempts,
        create_webhook.numbers_as_text,
        create_webhook.notify_when,
        create_webhook.each_row);

    update tinydevcrm.subscriptions
       set groups_failures = true
     where subscriptions.id = v_subscription_id;

    insert into tinydevcrm.webhooks (subscription_id, url, format, headers, secret, digest)
    values (
               v_subscription_id,
               coalesce(create_webhook.url, ''),
               v_format,
               coalesce(create_webhook.headers, '{}'),
               v_secret,
               create_webhook.digest);

    perform tinydevcrm._note_guess(create_webhook.format, v_format);

    return (
        select v_secret
          from tinydevcrm.webhook_formats
         where webhook_formats.name = v_format
           and webhook_formats.is_signed
    );
exception
    when check_violation or not_null_violation then
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be a webhook', create_webhook.name),
            hint    = 'A name has 1 to 200 bytes, and there are 1 to 100 attempts.';
end
$$;

comment on function tinydevcrm.create_webhook(
    text, text, regclass, integer, boolean, text, jsonb, text, text, boolean
) is
    'Subscribes to the events of one materialized view, or of all, that notify; the orchestrator '
    'posts them to a URL. With numbers_as_text the numbers in the rows of its events are texts. '
    'format is a row of tinydevcrm.webhook_formats; without one it is guessed from the URL, and a '
    'notice says which. headers are sent with each post: {"Authorization": "Bearer …"}. With '
    'digest, such as ''daily at 8:00'', all deliveries are one message at that time. notify_when and '
    'each_row are as in tinydevcrm.create_subscription(). Returns the '
    'secret that signs the messages; null when the format is not signed. Raises TD001 when the '
    'materialized view is not watched, TD003 when digest is not a schedule, TD004 when there is a '
    'subscription of that name, TD007 for a bad name, URL, format, header, rule or number of attempts, or for each_row with a digest.';

create function tinydevcrm.alter_webhook(
    name    text,
    url     text default null,
    format  text default null,
    headers jsonb default null
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id     constant bigint := tinydevcrm._find_own_subscription(alter_webhook.name);
    v_old    tinydevcrm.webhooks;
    v_format text;
begin
    select webhooks.*
      into v_old
      from tinydevcrm.webhooks
     where webhooks.subscription_id = v_id;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('subscription %L is not a webhook', alter_webhook.name),
            hint    = 'Create one with tinydevcrm.create_webhook().';
    end if;

    -- A format that the old URL suggested may not be that of the new one. Another was chosen.
    v_format := coalesce(
        alter_webhook.format,
        case tinydevcrm._guess_webhook_format(v_old.url)
            when v_old.format then
                tinydevcrm._guess_webhook_format(coalesce(alter_webhook.url, v_old.url))
        end,
        v_old.format);

    -- How long the old endpoint wanted no posts does not matter to the new one.
    update tinydevcrm.webhooks
       set url = coalesce(alter_webhook.url, webhooks.url),
           format = v_format,
           headers = coalesce(alter_webhook.headers, webhooks.headers),
           rate_limited_for = interval '0'
     where webhooks.subscription_id = v_id;

    if v_format <> v_old.format then
        perform tinydevcrm._note_guess(alter_webhook.format, v_format);
    end if;

    update tinydevcrm.subscriptions
       set paused_by = null,
           pause_reason = null
     where subscriptions.id = v_id
       and subscriptions.paused_by = 'orchestrator';

    -- What waits for the old endpoint is due at the new one.
    perform tinydevcrm._make_waiting_due(v_id);

    perform tinydevcrm._notify(0);
end
$$;

comment on function tinydevcrm.alter_webhook(text, text, text, jsonb) is
    'Changes URL, format or headers of a webhook; what is null stays, and the secret too. The '
    'headers replace all that there were. A format that was guessed is guessed again from a new '
    'URL. Pending deliveries go to the new URL, and those that wait for a retry are due at once. '
    'Ends a pause because the old endpoint was gone (410). Raises TD001 when there is no such '
    'webhook, TD007 for a bad URL, format or header.';

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

revoke execute on function
    tinydevcrm._webhooks_keep_secret(),
    tinydevcrm._webhooks_limit_rate(),
    tinydevcrm._generate_webhook_secret(),
    tinydevcrm.create_webhook(text, text, regclass, integer, boolean, text, jsonb, text, text, boolean),
    tinydevcrm.alter_webhook(text, text, text, jsonb),
    tinydevcrm.rotate_webhook_secret(text, interval)
from public;

grant execute on function
    tinydevcrm._generate_webhook_secret(),
    tinydevcrm.create_webhook(text, text, regclass, integer, boolean, text, jsonb, text, text, boolean),
    tinydevcrm.alter_webhook(text, text, text, jsonb),
    tinydevcrm.rotate_webhook_secret(text, interval)
to tinydevcrm_user;
