-- Removes events, with their deliveries: those that have expired, and those beyond the limit of their view.

create function tinydevcrm._remove_events(ids bigint[])
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- Users can lock deliveries and subscriptions of theirs, and an event by inserting a delivery.
    with events as (
        select matview_refresh_events.id
          from tinydevcrm.matview_refresh_events
         where matview_refresh_events.id = any (_remove_events.ids)
           for update skip locked
    ),
    taken as (
        select deliveries.id,
               deliveries.subscription_id,
               deliveries.acknowledged_at is null as is_lost
          from tinydevcrm.deliveries
         where deliveries.event_id = any (_remove_events.ids)
           for update skip locked
    ),
    removable as (
        select events.id
          from events
         where not exists (
             select
               from tinydevcrm.deliveries
              where deliveries.event_id = events.id
                and deliveries.id not in (select taken.id from taken)
         )
    ),
    losers as (
        select subscriptions.id
          from tinydevcrm.subscriptions
         where subscriptions.id in (select taken.subscription_id from taken where taken.is_lost)
           for no key update skip locked
    ),
    counted as (
        update tinydevcrm.subscriptions
           set expired_count = subscriptions.expired_count + lost.count
          from (
            select deliveries.subscription_id,
                   count(*)
              from removable
              join tinydevcrm.deliveries
                on deliveries.event_id = removable.id
             where deliveries.acknowledged_at is null
             group by deliveries.subscription_id
          ) as lost
          join losers
            on losers.id = lost.subscription_id
         where subscriptions.id = lost.subscription_id
    ),
    removed as (
        delete
          from tinydevcrm.matview_refresh_events
         using removable
         where matview_refresh_events.id = removable.id
        returning matview_refresh_events.id
    )
    select count(*)
      from removed
$$;

comment on function tinydevcrm._remove_events(bigint[]) is
    'Removes these events with their deliveries, except those that another session has locked. '
    'Adds the deliveries that were never acknowledged to subscriptions.expired_count. Returns how '
    'many events it removed.';

create function tinydevcrm._remove_expired_events(after_id bigint, batch_size integer)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_count   bigint;
    v_last_id bigint;
    v_ids     bigint[];
begin
    -- Reads only the oldest, so that it does not read millions of events to find that none has
    -- expired.
    with oldest as (
        select matview_refresh_events.id,
               matview_refresh_events.started_at
          from tinydevcrm.matview_refresh_events
         where matview_refresh_events.id > _remove_expired_events.after_id
         order by matview_refresh_events.id
         limit _remove_expired_events.batch_size
    ),
    expired as (
        select oldest.id,
               oldest.started_at < now() - settings.delivery_retention as is_given_up
          from oldest
         cross join tinydevcrm.settings
         where oldest.started_at < now() - settings.event_retention
    )
    select count(*),
           max(expired.id),
           array_agg(expired.id) filter (
               where expired.is_given_up
                  or not exists (
                      select
                        from tinydevcrm.deliveries
                       where deliveries.event_id = expired.id
                         and deliveries.acknowledged_at is null
                  )
           )
      into v_count,
           v_last_id,
           v_ids
      from expired;

    perform tinydevcrm._remove_events(v_ids);
    return case when v_count = _remove_expired_events.batch_size then v_last_id end;
end
$$;

comment on function tinydevcrm._remove_expired_events(bigint, integer) is
    'Reads one batch of the oldest events and removes the expired ones, except those that still '
    'have deliveries to acknowledge. Returns the last id of a batch that has expired as a whole, '
    'to continue after it; null when no more have expired.';

create function tinydevcrm._list_surplus_matviews()
    returns bigint[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array(
               select matviews.id
                 from tinydevcrm.matviews
                where exists (
                    select
                      from tinydevcrm.matview_refresh_events
                     where matview_refresh_events.matview_id = matviews.id
                     order by matview_refresh_events.id desc
                    offset (select event_limit from tinydevcrm.settings)
                     limit 1
                )
           )
$$;

comment on function tinydevcrm._list_surplus_matviews() is
    'The materialized views that have more events than tinydevcrm.settings.event_limit.';

create function tinydevcrm._remove_surplus_events(matview_id bigint, batch_size integer)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- The newest event beyond the limit is found by the index alone.
    select tinydevcrm._remove_events(
               array(
                   select matview_refresh_events.id
                     from tinydevcrm.matview_refresh_events
                    where matview_refresh_events.matview_id = _remove_surplus_events.matview_id
                      and matview_refresh_events.id <= (
                          select newest.id
                            from tinydevcrm.matview_refresh_events as newest
                           where newest.matview_id = _remove_surplus_events.matview_id
                           order by newest.id desc
                          offset (select event_limit from tinydevcrm.settings)
                           limit 1
                      )
                      and not exists (
                          select
                            from tinydevcrm.deliveries
                           where deliveries.event_id = matview_refresh_events.id
                             and deliveries.acknowledged_at is null
                      )
                    order by matview_refresh_events.id
                    limit _remove_surplus_events.batch_size
               ))
$$;

comment on function tinydevcrm._remove_surplus_events(bigint, integer) is
    'Removes one batch of the oldest events of a materialized view beyond '
    'tinydevcrm.settings.event_limit, except those that still have deliveries to acknowledge, and '
    'returns how many.';

revoke execute on function
    tinydevcrm._remove_events(bigint[]),
    tinydevcrm._remove_expired_events(bigint, integer),
    tinydevcrm._list_surplus_matviews(),
    tinydevcrm._remove_surplus_events(bigint, integer)
from public;
