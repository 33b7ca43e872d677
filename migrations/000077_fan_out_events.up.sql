-- The transaction that writes an event writes a delivery for each subscription to it.

create function tinydevcrm._list_event_readers(owner regrole)
    returns setof regrole
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        -- From owner to owner in the index: one may have ten thousand subscriptions.
        with recursive owners (owner) as (
            (
                select subscriptions.owner
                  from tinydevcrm.subscriptions
                 order by subscriptions.owner::oid
                 limit 1
            )
            union all
            select (
                       select subscriptions.owner
                         from tinydevcrm.subscriptions
                        where subscriptions.owner::oid > owners.owner::oid
                        order by subscriptions.owner::oid
                        limit 1
                   )
              from owners
             where owners.owner is not null
        )
        select owners.owner
          from owners
         where owners.owner <> _list_event_readers.owner
           and (
               pg_has_role(owners.owner, _list_event_readers.owner, 'usage')
               or pg_has_role(owners.owner, 'tinydevcrm_orchestrator', 'usage')
               or pg_has_role(owners.owner, 'tinydevcrm_admin', 'usage')
           );
end
$$;

comment on function tinydevcrm._list_event_readers(regrole) is
    'The other roles with subscriptions that may see the events of a role.';

create function tinydevcrm._matview_refresh_events_fan_out()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    -- The plan of the first call stays, which may have had very many events: always from these to the
    -- tables, by their indexes.
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
declare
    v_owner       regrole;
    v_matviews    bigint[];
    v_is_notified boolean;
    v_held_rules  text[];
    v_readers     oid[];
begin
    -- Mostly one event, and always those of one owner.
    for v_owner, v_matviews, v_is_notified, v_held_rules in
        select written.owner,
               array_agg(distinct written.matview_id),
               bool_or(written.is_notified),
               array_agg(distinct held.rule)
          from written
          join tinydevcrm.matview_refresh_events as notified
            on notified.id = written.id
          left join lateral unnest(tinydevcrm._list_held_rules(notified)) as held (rule)
            on true
         where written.is_notified
            or written.held_rules is not null
         group by written.owner
    loop
        v_readers := array(
            select readers.owner
              from tinydevcrm._list_event_readers(v_owner) as readers (owner)
        );

        -- The locks leave out a subscription that is just being dropped. Without them, the foreign key
        -- would wait for the drop as well, and then make the refresh fail.
        with own as (
            select subscriptions.id,
                   subscriptions.owner,
                   subscriptions.matview_id,
                   subscriptions.notify_when,
                   subscriptions.each_row,
                   subscriptions.to_column
              from tinydevcrm.subscriptions
             where subscriptions.owner = v_owner
               and (subscriptions.matview_id is null or subscriptions.matview_id = any (v_matviews))
               and (subscriptions.muted_until is null or subscriptions.muted_until <= clock_timestamp())
               -- One that gets none of these events is not locked.
               and case
                       when subscriptions.notify_when is null then v_is_notified
                       else subscriptions.notify_when && v_held_rules
                   end
               for key share of subscriptions
        ),
        -- A refresh does not wait for a subscription that another role has locked: that role misses the
        -- event.
        others as (
            select subscriptions.id,
                   subscriptions.owner,
                   subscriptions.matview_id,
                   subscriptions.notify_when,
                   subscriptions.each_row,
                   subscriptions.to_column
              from tinydevcrm.subscriptions
             where subscriptions.owner = any (v_readers)
               and (subscriptions.matview_id is null or subscriptions.matview_id = any (v_matviews))
               and (subscriptions.muted_until is null or subscriptions.muted_until <= clock_timestamp())
               and case
                       when subscriptions.notify_when is null then v_is_notified
                       else subscriptions.notify_when && v_held_rules
                   end
               for key share of subscriptions skip locked
        ),
        events as materialized (
            select notified as event,
                   notified.id,
                   notified.matview_id,
                   notified.is_notified,
                   tinydevcrm._list_held_rules(notified) as held_rules
              from written
              join tinydevcrm.matview_refresh_events as notified
                on notified.id = written.id
             where written.owner = v_owner
               and (written.is_notified or written.held_rules is not null)
        )
        -- "Offset 0" keeps Postgres from splitting the event for a subscription that gets it whole.
        insert into tinydevcrm.deliveries (
                   owner, subscription_id, event_id, matview_id, row_numbers, row_number)
        select reached.owner,
               reached.id,
               events.id,
               coalesce(events.matview_id, 0),
               parts.row_numbers,
               coalesce(parts.row_numbers[1], 0)
          from (select own.* from own union all select others.* from others) as reached
          join events
            on (reached.matview_id is null or reached.matview_id = events.matview_id)
           and case
                   when reached.notify_when is null then events.is_notified
                   else reached.notify_when && events.held_rules
               end
          left join lateral (
              select split.row_numbers
                from tinydevcrm._split_event(
                         events.event, reached.notify_when, reached.each_row,
                         reached.to_column) as split
               where reached.each_row
                  or reached.to_column is not null
              offset 0
          ) as parts
            on true;
    end loop;

    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_fan_out() is
    'Writes a delivery of each event for each subscription whose owner may see it, and whose own rules, '
    'if it has any, hold; or one for each of its parts: see tinydevcrm._split_event(). Security '
    'definer: the role that refreshes may not see the subscriptions of other roles, such as an '
    'administrator. It lends read and lock on subscriptions and insert on deliveries.';

-- One statement for all events: one for each would take ten times as long.
create trigger _500_fan_out
    after insert on tinydevcrm.matview_refresh_events
    referencing new table as written
    for each statement
    execute function tinydevcrm._matview_refresh_events_fan_out();

revoke execute on function
    tinydevcrm._list_event_readers(regrole),
    tinydevcrm._matview_refresh_events_fan_out()
from public;
