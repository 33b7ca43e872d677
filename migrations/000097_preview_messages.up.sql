-- What people would be notified of: the message of a subscription by its templates, for the last
-- event or an example. Nothing is sent.

create function tinydevcrm._find_example_event(subscription_id bigint)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription tinydevcrm.subscriptions;
    v_matview      text;
    v_event        tinydevcrm.matview_refresh_events;
begin
    select subscriptions.*
      into v_subscription
      from tinydevcrm.subscriptions
     where subscriptions.id = _find_example_event.subscription_id;

    if v_subscription.matview_id is not null then
        -- The registration is gone when the view is.
        v_matview := coalesce(
            (
                select matviews.relation::text
                  from tinydevcrm.matviews
                 where matviews.id = v_subscription.matview_id
            ),
            '');
    end if;

    -- What the owner may read, also when the orchestrator asks, which sees the events of all.
    select events.*
      into v_event
      from pg_roles
     cross join lateral tinydevcrm._list_latest_events(
               pg_roles.rolname::text, 0, 1, v_matview) as events
     where pg_roles.oid = v_subscription.owner;

    if not found then
        v_event := jsonb_populate_record(
            null::tinydevcrm.matview_refresh_events,
            jsonb_build_object(
                'id', 0,
                'matview', coalesce(nullif(v_matview, ''), 'public.example'),
                'outcome', 'refreshed',
                'is_notified', true,
                'row_count', 1,
                'columns', '{example}'::text[],
                'rows', '[{"example": 1}]'::jsonb,
                'started_at', now(),
                'duration', interval '0'));
    end if;

    return case
        when v_subscription.numbers_as_text then tinydevcrm._print_numbers_as_text(v_event)
        else v_event
    end;
end
$$;

comment on function tinydevcrm._find_example_event(bigint) is
    'The last event of a subscription''s view, or of all that its owner may read, that notified; '
    'one that never was, with number 0, when there is none.';

create function tinydevcrm.preview_message(
    name    text,
    title   text default null,
    message text default null
)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(preview_message.name);
begin
    perform tinydevcrm._check_template(preview_message.title, 'title'),
            tinydevcrm._check_template(preview_message.message, 'message');

    -- As a list of fields: jsonb would not keep the order of the columns of rows.
    return (
        select json_object_agg(
                   fields.key,
                   case fields.key
                       when 'templates' then json_build_object(
                           'title',
                           coalesce(preview_message.title, fields.value ->> 'title'),
                           'message',
                           coalesce(preview_message.message, fields.value ->> 'message'))
                       else fields.value
                   end
                   order by fields.number)
          from json_each(
                   tinydevcrm._build_notification(v_id, tinydevcrm._find_example_event(v_id)))
               with ordinality as fields (key, value, number)
    );
end
$$;

comment on function tinydevcrm.preview_message(text, text, text) is
    'What the message of a subscription is made of, for its last event or for an example, with '
    'other templates than its own if they are given: orchestrator subscription preview and the '
    'page render them. Raises TD001 when there is no such subscription, TD007 for a malformed '
    'template.';

revoke execute on function
    tinydevcrm._find_example_event(bigint),
    tinydevcrm.preview_message(text, text, text)
from public;

grant execute on function
    tinydevcrm._find_example_event(bigint),
    tinydevcrm.preview_message(text, text, text)
to tinydevcrm_user;
