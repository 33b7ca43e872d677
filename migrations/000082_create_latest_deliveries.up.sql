-- The newest deliveries of a subscription, and the states of views and deliveries, which only this
-- file defines.

create function tinydevcrm._find_renamed_read(matview_id bigint)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select format(
                   'reads %s, which was %I.%I when the view was made, while there is a new '
                   '%2$I.%3$I',
                   matview_read_names.relation, matview_read_names.schema_name, matview_read_names.name)
          from tinydevcrm.matview_read_names
          join pg_namespace
            on pg_namespace.nspname = matview_read_names.schema_name::name
          join pg_class
            on pg_class.relnamespace = pg_namespace.oid
           and pg_class.relname = matview_read_names.name::name
           and pg_class.oid <> matview_read_names.relation
         where matview_read_names.matview_id = _find_renamed_read.matview_id
         order by matview_read_names.name
         limit 1
    );
end
$$;

comment on function tinydevcrm._find_renamed_read(bigint) is
    'Says which relation a materialized view reads that has been renamed, or moved to another '
    'schema, while another one has its old name; null when there is none. '
    'tinydevcrm.accept_tables() accepts it.';

create function tinydevcrm._matview_state(matview tinydevcrm.matviews, is_late boolean)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when matview.last_outcome = 'failed' then 'failing'
        when _matview_state.is_late then 'late'
        when matview.silent_noted_at is not null then 'silent'
        when tinydevcrm._find_renamed_read(matview.id) is not null then 'reads renamed table'
        when exists (
            select
              from pg_class
             where pg_class.oid = matview.relation
               and not pg_class.relispopulated
        ) then 'not populated'
        when matview.schedule_id is null then 'not scheduled'
        when matview.is_paused then 'paused'
        else 'ok'
    end;
end
$$;

comment on function tinydevcrm._matview_state(tinydevcrm.matviews, boolean) is
    'The state of a watched materialized view, which is the first that applies: failing (the last '
    'refresh failed), late (a refresh was due and has not begun: see '
    'tinydevcrm._list_late_matviews()), silent (its tables have not changed within '
    'notify_deadline: see tinydevcrm._note_silent()), reads renamed table (see '
    'tinydevcrm._find_renamed_read()), not populated (it cannot be read before a '
    'refresh), not scheduled, paused, or ok.';

create function tinydevcrm._delivery_state(delivery tinydevcrm.deliveries)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when delivery.state <> 'pending' then delivery.state
        -- A redelivered one starts again, and keeps its error for people to read.
        when delivery.attempts = 0 then 'pending'
        when delivery.last_error is not null then 'failing'
        when delivery.is_in_flight and delivery.visible_at > clock_timestamp() then 'in flight'
        else 'pending'
    end;
end
$$;

comment on function tinydevcrm._delivery_state(tinydevcrm.deliveries) is
    'The state of a delivery: pending (it waits for a worker), in flight (a worker has it, within '
    'the visibility timeout), failing (its last attempt failed, and another follows), acknowledged '
    'or parked.';

create function tinydevcrm._needs_attention(state text)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select _needs_attention.state in (
               'failing', 'switched off', 'view dropped', 'late', 'silent',
               'reads renamed table',
               'no mail server')
$$;

comment on function tinydevcrm._needs_attention(text) is
    'Whether a view or subscription in this state needs attention: a failure does; a pause is '
    'intended and does not.';

create function tinydevcrm._list_deliveries(
    subscription text,
    kind         text,
    before       bigint,
    row_limit    integer
)
    returns table (
        delivery_id     bigint,
        event_id        bigint,
        carried_by      bigint,
        matview         text,
        outcome         text,
        status          text,
        attempts        integer,
        max_attempts    integer,
        last_error      text,
        created_at      timestamptz,
        next_attempt_at timestamptz,
        acknowledged_at timestamptz,
        row_number      integer,
        parked_at       timestamptz
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id     constant bigint := tinydevcrm._find_own_subscription(_list_deliveries.subscription);
    v_before constant bigint := coalesce(_list_deliveries.before, 9223372036854775807);
    v_limit  constant integer := greatest(_list_deliveries.row_limit, 0);
begin
    -- Each kind has an index. Only the branch of the kind that is asked for is run.
    return query
        with newest as (
            (
                select deliveries.id
                  from tinydevcrm.deliveries
                 where deliveries.subscription_id = v_id
                   and deliveries.id < v_before
                   and _list_deliveries.kind is null
                 order by deliveries.id desc
                 limit v_limit
            )
            union all
            (
                select pending.id
                  from (
                    -- In the order of the queue: the newest of all deliveries may all be acknowledged.
                    select pending_deliveries.delivery_id as id
                      from tinydevcrm.pending_deliveries
                     where pending_deliveries.subscription_id = v_id
                       and _list_deliveries.kind = 'waiting'
                     order by pending_deliveries.matview_id,
                              pending_deliveries.event_id,
                              pending_deliveries.row_number
                     limit 10000
                  ) as pending
                 where pending.id < v_before
                 order by pending.id desc
                 limit v_limit
            )
            union all
            (
                select deliveries.id
                  from tinydevcrm.deliveries
                 where deliveries.subscription_id = v_id
                   and deliveries.id < v_before
                   and deliveries.has_failed
                   and deliveries.state = 'pending'
                   and deliveries.attempts > 0
                   and _list_deliveries.kind = 'failing'
                 order by deliveries.id desc
                 limit v_limit
            )
            union all
            (
                select deliveries.id
                  from tinydevcrm.deliveries
                 where deliveries.subscription_id = v_id
                   and deliveries.id < v_before
                   and deliveries.parked_at is not null
                   and _list_deliveries.kind = 'parked'
                 order by deliveries.id desc
                 limit v_limit
            )
            union all
            (
                select deliveries.id
                  from tinydevcrm.deliveries
                 where deliveries.subscription_id = v_id
                   and deliveries.id < v_before
                   and deliveries.acknowledged_at is not null
                   and _list_deliveries.kind = 'acknowledged'
                 order by deliveries.id desc
                 limit v_limit
            )
        )
        select deliveries.id,
               deliveries.event_id,
               nullif(deliveries.leader_event_id, deliveries.event_id),
               events.matview,
               events.outcome,
               tinydevcrm._delivery_state(deliveries),
               deliveries.attempts,
               subscriptions.max_attempts,
               deliveries.last_error,
               deliveries.created_at,
               case
                   when deliveries.state = 'pending' then nullif(deliveries.visible_at, 'infinity')
               end,
               deliveries.acknowledged_at,
               deliveries.row_number,
               deliveries.parked_at
          from newest
          join tinydevcrm.deliveries
            on deliveries.id = newest.id
          join tinydevcrm.subscriptions
            on subscriptions.id = v_id
          join tinydevcrm.matview_refresh_events as events
            on events.id = deliveries.event_id
         order by deliveries.id desc;
end
$$;

comment on function tinydevcrm._list_deliveries(text, text, bigint, integer) is
    'The newest deliveries of your subscription with a number below before: of one kind (waiting, '
    'failing, parked or acknowledged; those that fail wait too) or of all. Of those that wait, it '
    'reads 10000. The columns are those of tinydevcrm.latest_deliveries(), and when a delivery was '
    'parked. Raises TD001 when there is no such subscription.';

create function tinydevcrm.latest_deliveries(subscription text, row_limit integer default 10)
    returns table (
        delivery_id     bigint,
        event_id        bigint,
        carried_by      bigint,
        matview         text,
        outcome         text,
        status          text,
        attempts        integer,
        max_attempts    integer,
        last_error      text,
        created_at      timestamptz,
        next_attempt_at timestamptz,
        acknowledged_at timestamptz,
        row_number      integer
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select listed.delivery_id,
           listed.event_id,
           listed.carried_by,
           listed.matview,
           listed.outcome,
           listed.status,
           listed.attempts,
           listed.max_attempts,
           listed.last_error,
           listed.created_at,
           listed.next_attempt_at,
           listed.acknowledged_at,
           listed.row_number
      from tinydevcrm._list_deliveries(
               latest_deliveries.subscription, null, null, latest_deliveries.row_limit) as listed
$$;

comment on function tinydevcrm.latest_deliveries(text, integer) is
    'The newest deliveries of your subscription, each with its state, as in '
    'tinydevcrm._delivery_state(), and the time from which it may be received. carried_by is the '
    'event whose delivery carries it: see tinydevcrm.deliveries.leader_event_id. row_number is the '
    'part of the event, 0 for the whole. Raises TD001 when '
    'there is no such subscription.';

create function tinydevcrm._find_next_delivery(subscription_id bigint)
    returns tinydevcrm.deliveries
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select heads.*
      from tinydevcrm._list_heads(_find_next_delivery.subscription_id) as heads
     where not (heads.is_in_flight and heads.visible_at > clock_timestamp())
       -- Another delivery carries the others.
       and heads.visible_at < 'infinity'
     order by heads.visible_at, heads.event_id
     limit 1
$$;

comment on function tinydevcrm._find_next_delivery(bigint) is
    'The delivery of a subscription that is received next, unless an endpoint delays it; null when '
    'none is pending or all are in flight.';

revoke execute on function
    tinydevcrm._find_renamed_read(bigint),
    tinydevcrm._matview_state(tinydevcrm.matviews, boolean),
    tinydevcrm._find_next_delivery(bigint),
    tinydevcrm._delivery_state(tinydevcrm.deliveries),
    tinydevcrm._needs_attention(text),
    tinydevcrm._list_deliveries(text, text, bigint, integer),
    tinydevcrm.latest_deliveries(text, integer)
from public;

grant execute on function
    tinydevcrm._find_renamed_read(bigint),
    tinydevcrm._matview_state(tinydevcrm.matviews, boolean),
    tinydevcrm._find_next_delivery(bigint),
    tinydevcrm._delivery_state(tinydevcrm.deliveries),
    tinydevcrm._needs_attention(text),
    tinydevcrm._list_deliveries(text, text, bigint, integer),
    tinydevcrm.latest_deliveries(text, integer)
to tinydevcrm_user;
