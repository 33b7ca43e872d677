-- An e-mail is a webhook of format email: its URL is mailto: and the addresses. Each recipient gets
-- a letter of their own, with a link that unsubscribes them without a log-in.

create function tinydevcrm._list_addresses(webhook tinydevcrm.webhooks)
    returns setof text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select addresses.address
      from unnest(string_to_array(substr(webhook.url, 8), ','))
           with ordinality as addresses (address, number)
     where webhook.format = 'email'
       and addresses.address <> ''
     order by addresses.number
$$;

comment on function tinydevcrm._list_addresses(tinydevcrm.webhooks) is
    'The recipients of an e-mail.';

create function tinydevcrm._list_recipients(webhook tinydevcrm.webhooks, recipient text)
    returns setof text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when addressed.is_apart then _list_recipients.recipient
               else addresses.address
           end
      from (
        select _list_recipients.recipient is not null
               and lower(_list_recipients.recipient) <> all (webhook.unsubscribed) as is_apart
      ) as addressed
      left join tinydevcrm._list_addresses(webhook)
           with ordinality as addresses (address, number)
        on not addressed.is_apart
     where addressed.is_apart or addresses.address is not null
     order by addresses.number
$$;

comment on function tinydevcrm._list_recipients(tinydevcrm.webhooks, text) is
    'Who gets an e-mail that is for a recipient from a column, or for none: that one, unless it has '
    'unsubscribed; else the recipients of the webhook.';

create function tinydevcrm._join_addresses(recipients text[])
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(cardinality(_join_addresses.recipients), 0) = 0 then
        raise exception using
            errcode = 'TD007',
            message = 'an e-mail has at least one recipient',
            hint    = 'Write the addresses as ''{a@example.com,b@example.com}''.';
    end if;

    return 'mailto:' || array_to_string(_join_addresses.recipients, ',', '');
end
$$;

comment on function tinydevcrm._join_addresses(text[]) is
    'The URL of an e-mail to these recipients. Raises TD007 when there are none.';

create function tinydevcrm.create_email(
    name            text,
    recipients      text[],
    relation        regclass default null,
    digest          text default null,
    max_attempts    integer default 12,
    notify_when     text default null,
    each_row        boolean default false,
    to_column       text default null,
    allowed_domains text[] default '{}'
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm.create_webhook(
        create_email.name,
        tinydevcrm._join_addresses(create_email.recipients),
        create_email.relation,
        create_email.max_attempts,
        format => 'email',
        digest => create_email.digest,
        notify_when => create_email.notify_when,
        each_row => create_email.each_row);

    if create_email.to_column is not null then
        perform tinydevcrm.set_audience(
            create_email.name, create_email.notify_when, create_email.each_row,
            create_email.to_column, create_email.allowed_domains);
    end if;
end
$$;

comment on function tinydevcrm.create_email(
    text, text[], regclass, text, integer, text, boolean, text, text[]
) is
    'Subscribes up to 50 addresses to the events of one materialized view, or of all, that notify. '
    'The orchestrator sends them by its SMTP_URL, each recipient a letter of their own. The first '
    'is sent at once; what comes within settings.mail_gathering after it, or beyond '
    'settings.mail_hourly_limit, is gathered in the next one. With digest, such as ''daily at '
    '8:00'', all are one e-mail at that time. Raises TD001 when the materialized view is not '
    'watched, TD003 when digest is not a schedule, TD004 when there is a subscription of that name, '
    'TD007 for a bad name, address or number of attempts.';

create function tinydevcrm.alter_email(name text, recipients text[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm.alter_webhook(
        alter_email.name,
        tinydevcrm._join_addresses(alter_email.recipients),
        format => 'email');
end
$$;

comment on function tinydevcrm.alter_email(text, text[]) is
    'Sends a subscription by e-mail to these recipients from now on, also those that have '
    'unsubscribed. Raises TD001 when there is no such e-mail or webhook, TD007 for a bad address.';

create function tinydevcrm._sign(secret text, message text)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- HMAC but for its padding, which needs a function that Postgres has not: the outer hash keeps
    -- others from lengthening the message.
    select encode(
               sha256(convert_to(
                   _sign.secret || ':' || encode(
                       sha256(convert_to(_sign.secret || ':' || _sign.message, 'UTF8')), 'hex'),
                   'UTF8')),
               'hex')
$$;

comment on function tinydevcrm._sign(text, text) is
    'A signature of a text that only who knows the secret can make: 64 hexadecimal digits.';

create function tinydevcrm._address_email(
    webhook   tinydevcrm.webhooks,
    post      text,
    body      json,
    recipient text default null
)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- As text, because jsonb would sort the columns of rows.
    select format(
               '{"mail_id": %s, "recipients": %s, %s',
               to_json(
                   format(
                       '%s.%s',
                       _address_email.post,
                       left(tinydevcrm._sign(webhook.secret, 'mail ' || _address_email.post), 24))),
               coalesce(
                   json_agg(
                       json_build_object(
                           'address', addresses.address,
                           'unsubscribe', format(
                               '/unsubscribe?subscription=%s&recipient=%s&token=%s',
                               webhook.subscription_id,
                               encode(convert_to(addresses.address, 'UTF8'), 'hex'),
                               tinydevcrm._sign(
                                   webhook.secret, 'unsubscribe ' || lower(addresses.address))))
                       order by addresses.number),
                   '[]'),
               substr(_address_email.body::text, 2))::json
      from tinydevcrm._list_recipients(webhook, _address_email.recipient)
           with ordinality as addresses (address, number)
     where _address_email.post || ' ' || addresses.address <> all (webhook.sent_to)
$$;

comment on function tinydevcrm._address_email(tinydevcrm.webhooks, text, json, text) is
    'A notification with the recipients that have not got it yet, each with the path that '
    'unsubscribes it, and with mail_id, by which a mailbox recognises a letter that comes twice. '
    'post is delivery_ and its number: one that is redelivered has a new number, and its letters '
    'are new.';

create function tinydevcrm._find_unsubscribed(
    subscription_id bigint,
    recipient       text,
    token           text
)
    returns table (email text, address text)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select subscriptions.name,
               addresses.address
          from tinydevcrm.webhooks
          join tinydevcrm.subscriptions
            on subscriptions.id = webhooks.subscription_id
         cross join lateral (
            select listed.address
              from tinydevcrm._list_addresses(webhooks) as listed (address)
             union
            -- One from a column, as plain ASCII.
            select named.address
              from (
                -- The planner would evaluate decode() before a condition keeps what is not hexadecimal away from it.
                select case
                           when _find_unsubscribed.recipient ~ '^([2-7][0-9a-f])+$'
                               then convert_from(decode(_find_unsubscribed.recipient, 'hex'), 'UTF8')
                       end as address
                 where subscriptions.to_column is not null
              ) as named
             where lower(named.address) <> all (webhooks.unsubscribed)
         ) as addresses (address)
         where webhooks.subscription_id = _find_unsubscribed.subscription_id
           and encode(convert_to(addresses.address, 'UTF8'), 'hex') = _find_unsubscribed.recipient
           and _find_unsubscribed.token in (
               tinydevcrm._sign(webhooks.secret, 'unsubscribe ' || lower(addresses.address)),
               -- Letters of before a rotation are in mailboxes for years.
               tinydevcrm._sign(webhooks.previous_secret, 'unsubscribe ' || lower(addresses.address))
           );
end
$$;

comment on function tinydevcrm._find_unsubscribed(bigint, text, text) is
    'The subscription and the recipient of a link to unsubscribe; nothing when the link is wrong, '
    'or the recipient has unsubscribed already.';

create function tinydevcrm._unsubscribe(subscription_id bigint, recipient text, token text)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_found record;
    v_left  text[];
begin
    perform
       from tinydevcrm.webhooks
      where webhooks.subscription_id = _unsubscribe.subscription_id
        for no key update;

    select found.*
      into v_found
      from tinydevcrm._find_unsubscribed(
               _unsubscribe.subscription_id, _unsubscribe.recipient, _unsubscribe.token) as found;

    if not found then
        return null;
    end if;

    v_left := array(
        select addresses.address
          from tinydevcrm.webhooks
         cross join lateral tinydevcrm._list_addresses(webhooks) as addresses (address)
         where webhooks.subscription_id = _unsubscribe.subscription_id
           and lower(addresses.address) <> lower(v_found.address)
    );

    update tinydevcrm.webhooks
       set url = 'mailto:' || array_to_string(v_left, ',')
     where webhooks.subscription_id = _unsubscribe.subscription_id;

    update tinydevcrm.webhooks
       set unsubscribed = webhooks.unsubscribed || lower(v_found.address)
      from tinydevcrm.subscriptions
     where webhooks.subscription_id = _unsubscribe.subscription_id
       and subscriptions.id = webhooks.subscription_id
       and subscriptions.to_column is not null;

    if v_left = '{}' then
        update tinydevcrm.subscriptions
           set paused_by = 'orchestrator',
               pause_reason = format('%s has unsubscribed, the last recipient', v_found.address)
         where subscriptions.id = _unsubscribe.subscription_id;
    end if;

    return v_found.address;
end
$$;

comment on function tinydevcrm._unsubscribe(bigint, text, text) is
    'Removes the recipient of a link to unsubscribe from an e-mail, and returns the address; null '
    'when the link is wrong, or the recipient has unsubscribed already. The last one pauses the '
    'subscription, until alter_email() names others. An address of a column gets no more rows. Runs with the rights of the orchestrator.';

create function tinydevcrm._subscription_state(subscription tinydevcrm.subscriptions)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when subscription.paused_by = 'orchestrator' then 'switched off'
        when subscription.is_paused then 'paused'
        when exists (
            select
              from tinydevcrm.webhooks
              join tinydevcrm.settings
                on settings.mail_server is null
             where webhooks.subscription_id = subscription.id
               and webhooks.format = 'email'
        ) then 'no mail server'
        -- max() is read from the index of the few deliveries that have an error.
        when (
            select max(deliveries.id)
              from tinydevcrm.deliveries
             where deliveries.subscription_id = subscription.id
               and deliveries.has_failed
               and deliveries.attempts > 0
        ) is not null then 'failing'
        when subscription.matview_id is not null and not exists (
            select
              from tinydevcrm.matviews
             where matviews.id = subscription.matview_id
        ) then 'view dropped'
        else 'ok'
    end;
end
$$;

comment on function tinydevcrm._subscription_state(tinydevcrm.subscriptions) is
    'The state of a subscription: ok, failing (a delivery waits for another attempt or is parked), '
    'paused (by its owner), switched off (its endpoint is gone for good, or its last recipient has '
    'unsubscribed), no mail server (its e-mails wait until the orchestrator has an SMTP_URL), or '
    'view dropped (its materialized view is gone, or its owner may no longer see it: what is pending is still '
    'delivered, and nothing new comes).';

revoke execute on function
    tinydevcrm._list_addresses(tinydevcrm.webhooks),
    tinydevcrm._list_recipients(tinydevcrm.webhooks, text),
    tinydevcrm._join_addresses(text[]),
    tinydevcrm.create_email(
        text, text[], regclass, text, integer, text, boolean, text, text[]),
    tinydevcrm.alter_email(text, text[]),
    tinydevcrm._sign(text, text),
    tinydevcrm._address_email(tinydevcrm.webhooks, text, json, text),
    tinydevcrm._find_unsubscribed(bigint, text, text),
    tinydevcrm._unsubscribe(bigint, text, text),
    tinydevcrm._subscription_state(tinydevcrm.subscriptions)
from public;

grant execute on function
    tinydevcrm._list_addresses(tinydevcrm.webhooks),
    tinydevcrm._list_recipients(tinydevcrm.webhooks, text),
    tinydevcrm._join_addresses(text[]),
    tinydevcrm.create_email(
        text, text[], regclass, text, integer, text, boolean, text, text[]),
    tinydevcrm.alter_email(text, text[]),
    tinydevcrm._sign(text, text),
    tinydevcrm._address_email(tinydevcrm.webhooks, text, json, text),
    tinydevcrm._find_unsubscribed(bigint, text, text),
    tinydevcrm._unsubscribe(bigint, text, text),
    tinydevcrm._subscription_state(tinydevcrm.subscriptions)
to tinydevcrm_user;
