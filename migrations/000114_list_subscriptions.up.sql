-- What the page lists of subscriptions, and shows of one.

create function tinydevcrm._list_subscriptions(
    part          text,
    of            text,
    sort          text,
    is_descending boolean,
    row_limit     integer,
    row_offset    integer,
    schemas       name[] default current_schemas(true)
)
    returns setof tinydevcrm.subscription_status
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- In two steps, so that deliveries are counted only for those that are shown.
    with named as (
        select subscriptions.name,
               tinydevcrm._subscription_state(subscriptions) as state
          from tinydevcrm.subscriptions
         where subscriptions.owner = quote_ident(current_user)::regrole
           and position(lower(_list_subscriptions.part) in lower(subscriptions.name)) > 0
           and (
               _list_subscriptions.of = ''
               or subscriptions.matview_id is null
               or subscriptions.matview_id in (
                   select found.id
                     from tinydevcrm._find_matview(
                              array[_list_subscriptions.of], _list_subscriptions.schemas) as found
               )
           )
    ),
    shown as (
        select named.name,
               row_number() over (
                   order by case when _list_subscriptions.sort <> 'name'
                                 then tinydevcrm._needs_attention(named.state) end desc,
                            case when _list_subscriptions.is_descending then named.name end desc,
                            named.name) as place
          from named
         order by place
         limit _list_subscriptions.row_limit
        offset _list_subscriptions.row_offset
    )
    select subscription_status.*
      from tinydevcrm.subscription_status
      join shown
        on shown.name = subscription_status.subscription
     where subscription_status.owner = quote_ident(current_user)::regrole
       -- Goes into the view, which would be read whole otherwise.
       and subscription_status.subscription = any (array(select shown.name from shown))
     order by shown.place
$$;

comment on function tinydevcrm._list_subscriptions(
    text, text, text, boolean, integer, integer, name[]
) is
    'Your subscriptions whose names contain a part, of one view (with those of all views) or, when '
    'of is empty, of any. Those that need attention come first, unless sort is name.';

create function tinydevcrm._describe_subscription(name text)
    returns table (
        subscription          tinydevcrm.subscription_status,
        matview_key           text,
        max_attempts          integer,
        numbers_as_text       boolean,
        created_at            timestamptz,
        is_signed             boolean,
        previous_secret_until timestamptz,
        header_names          text[],
        failure_count         integer,
        failing_since         timestamptz,
        next_probe_at         timestamptz,
        digest                text,
        next_post_at          timestamptz,
        allowed_domains       text[],
        unsubscribed          text[]
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select subscription_status,
           case
               when pg_class.oid is not null then
                   format('%I.%I', pg_namespace.nspname, pg_class.relname)
           end,
           subscriptions.max_attempts,
           subscriptions.numbers_as_text,
           subscriptions.created_at,
           webhook_formats.is_signed,
           case
               when webhooks.previous_secret_until > now() then webhooks.previous_secret_until
           end,
           array(
               select headers.name
                 from jsonb_object_keys(webhooks.headers) as headers (name)
                order by headers.name
           ),
           webhooks.failure_count,
           webhooks.failing_since,
           case
               when tinydevcrm._endpoint_is_down(webhooks) then webhooks.next_probe_at
           end,
           webhooks.digest,
           case
               when webhooks.digest is not null then webhooks.next_post_at
           end,
           subscriptions.allowed_domains,
           webhooks.unsubscribed
      from tinydevcrm.subscription_status
      join tinydevcrm.subscriptions
        on subscriptions.owner = subscription_status.owner
       and subscriptions.name = subscription_status.subscription
      left join tinydevcrm.webhooks
        on webhooks.subscription_id = subscriptions.id
      left join tinydevcrm.webhook_formats
        on webhook_formats.name = webhooks.format
      left join pg_class
        on pg_class.oid = subscription_status.matview
      left join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where subscription_status.owner = quote_ident(current_user)::regrole
       and subscription_status.subscription = _describe_subscription.name
$$;

comment on function tinydevcrm._describe_subscription(text) is
    'What the page of your subscription shows beside its deliveries. Of its headers only the names, '
    'as the values may be secrets. matview_key is as in tinydevcrm._matview_key(). next_probe_at is '
    'null while the endpoint is not down, and next_post_at without a digest.';

revoke execute on function
    tinydevcrm._list_subscriptions(text, text, text, boolean, integer, integer, name[]),
    tinydevcrm._describe_subscription(text)
from public;

grant execute on function
    tinydevcrm._list_subscriptions(text, text, text, boolean, integer, integer, name[]),
    tinydevcrm._describe_subscription(text)
to tinydevcrm_user;
