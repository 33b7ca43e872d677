-- The bodies of posts: of an event, of several that are gathered, and of a part of one.

create function tinydevcrm._build_webhook_body(
    event         tinydevcrm.matview_refresh_events,
    superseded_by bigint default null,
    others        json default null
)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Built as text, because json_build_object() has no way to leave a field out.
    return format(
        '{%s}',
        concat_ws(
            ', ',
            '"type" : ' || to_json(
                case when (event).source_id is null then 'matview.' else 'source.' end
                || (event).outcome),
            '"timestamp" : ' || to_json((event).started_at),
            '"superseded_by" : ' || _build_webhook_body.superseded_by,
            '"also_' || (event).outcome || '" : ' || _build_webhook_body.others,
            '"data" : ' || tinydevcrm.event_json(event)));
end
$$;

comment on function tinydevcrm._build_webhook_body(
    tinydevcrm.matview_refresh_events, bigint, json
) is
    'The body of the post of an event: its type is "matview." or "source." and the outcome, its data the event. '
    'superseded_by is as in tinydevcrm.receive_events(). also_failed or also_recovered lists the '
    'events that the post carries besides: see tinydevcrm.grouped_events().';

create function tinydevcrm._build_gathered(
    webhook       tinydevcrm.webhooks,
    delivery_id   bigint,
    event         tinydevcrm.matview_refresh_events,
    superseded_by bigint
)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_body json;
begin
    v_body := case
        when exists (select from tinydevcrm.grouped_events(_build_gathered.delivery_id)) then
            tinydevcrm._build_digest(webhook, _build_gathered.delivery_id)
        when webhook.format = 'standard' then
            tinydevcrm._build_webhook_body(event, _build_gathered.superseded_by)
        else tinydevcrm._build_notification(
            webhook.subscription_id, event, _build_gathered.superseded_by)
    end;

    return case webhook.format
        when 'email' then
            tinydevcrm._address_email(
                webhook, 'delivery_' || _build_gathered.delivery_id, v_body)
        else v_body
    end;
end
$$;

comment on function tinydevcrm._build_gathered(
    tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint
) is
    'The body of the post of a webhook that gathers: that of the event, or of all that its delivery '
    'carries; for an e-mail with its recipients.';

create function tinydevcrm._build_part(
    webhook       tinydevcrm.webhooks,
    delivery_id   bigint,
    event         tinydevcrm.matview_refresh_events,
    superseded_by bigint,
    others        json,
    row_number    integer,
    recipient     text
)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_body constant json := tinydevcrm._build_notification(
        webhook.subscription_id, event, _build_part.superseded_by, _build_part.others,
        _build_part.row_number);
begin
    return case webhook.format
        when 'email' then tinydevcrm._address_email(
            webhook, 'delivery_' || _build_part.delivery_id, v_body, _build_part.recipient)
        else v_body
    end;
end
$$;

comment on function tinydevcrm._build_part(
    tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint, json, integer, text
) is
    'The body of the post of a webhook that does not gather, in a format other than standard: that of '
    'an event or of a part of it; for an e-mail with its recipients.';

revoke execute on function
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, bigint, json),
    tinydevcrm._build_gathered(
        tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint),
    tinydevcrm._build_part(
        tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint, json, integer, text)
from public;

grant execute on function
    tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, bigint, json),
    tinydevcrm._build_gathered(
        tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint),
    tinydevcrm._build_part(
        tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint, json, integer, text)
to tinydevcrm_user;
