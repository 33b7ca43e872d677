-- What the page of one event shows beside the event.

create function tinydevcrm._find_neighbours(event_id bigint, out previous bigint, out next bigint)
    language sql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select (
               select max(events.id)
                 from tinydevcrm.matview_refresh_events as events
                where events.matview_id = shown.matview_id
                  and events.id < shown.id
                  and events.is_notified
           ),
           (
               select min(events.id)
                 from tinydevcrm.matview_refresh_events as events
                where events.matview_id = shown.matview_id
                  and events.id > shown.id
                  and events.is_notified
           )
      from tinydevcrm.matview_refresh_events as shown
     where shown.id = _find_neighbours.event_id
$$;

comment on function tinydevcrm._find_neighbours(bigint) is
    'The event of the same view that notified before an event, and the one after it; null for none.';

create function tinydevcrm._list_event_deliveries(event_id bigint)
    returns table (
        subscription    text,
        status          text,
        attempts        integer,
        last_error      text,
        acknowledged_at timestamptz
    )
    language sql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select subscriptions.name,
           tinydevcrm._delivery_state(deliveries),
           deliveries.attempts,
           deliveries.last_error,
           deliveries.acknowledged_at
      from tinydevcrm.deliveries
      join tinydevcrm.subscriptions
        on subscriptions.id = deliveries.subscription_id
     where deliveries.event_id = _list_event_deliveries.event_id
       and subscriptions.owner = quote_ident(current_user)::regrole
     order by deliveries.acknowledged_at is not null,
              subscriptions.name
     limit 100
$$;

comment on function tinydevcrm._list_event_deliveries(bigint) is
    'The deliveries of an event to your subscriptions, up to 100, those first that are not '
    'acknowledged.';

revoke execute on function
    tinydevcrm._find_neighbours(bigint),
    tinydevcrm._list_event_deliveries(bigint)
from public;

grant execute on function
    tinydevcrm._find_neighbours(bigint),
    tinydevcrm._list_event_deliveries(bigint)
to tinydevcrm_user;
