-- Delivery is at least once. The transaction that writes an event that notifies also writes one
-- delivery for each subscription to it. A worker receives deliveries, and acknowledges or rejects
-- each. Those of one view are received in the order of their events: the first pending one of a
-- view is its head, and the others wait behind it.

-- Not a constraint of the table: each statement would read those anew, also one that leaves the rows
-- alone.
create domain tinydevcrm.row_numbers as integer[]
    constraint row_numbers_range check (
        value <> '{}'
        and array_length(value, 1) <= 1000
        and array_ndims(value) = 1
        and 1 <= all (value)
    );

comment on domain tinydevcrm.row_numbers is
    'Up to 1000 numbers of rows, from 1 on.';

create table tinydevcrm.deliveries (
    -- Columns of a fixed length that always have a value come first: they are read fastest.
    id              bigint generated always as identity,
    subscription_id bigint not null,
    event_id        bigint not null,
    matview_id      bigint not null,
    visible_at      timestamptz not null default clock_timestamp(),
    created_at      timestamptz not null default clock_timestamp(),
    owner           regrole not null default quote_ident(current_user)::regrole,
    -- Not generated: to update a row would lock it as if its key changed.
    row_number      integer not null default 0,
    attempts        integer not null default 0,
    is_in_flight    boolean not null default false,
    is_redelivered  boolean not null default false,
    has_failed      boolean not null default false,
    is_leading      boolean not null default false,
    state           text not null default 'pending',
    row_numbers     tinydevcrm.row_numbers,
    leader_event_id bigint,
    acknowledged_at timestamptz,
    parked_at       timestamptz,
    last_error      text,

    constraint deliveries_pkey primary key (id),
    constraint deliveries_subscription_fkey foreign key (subscription_id)
        references tinydevcrm.subscriptions (id) on delete cascade,
    constraint deliveries_event_fkey foreign key (event_id)
        references tinydevcrm.matview_refresh_events (id) on delete cascade,
    constraint deliveries_event_once unique (event_id, subscription_id, row_number),
    constraint deliveries_state_known check (state in ('pending', 'acknowledged', 'parked')),
    constraint deliveries_attempts_range check (attempts between 0 and 100),
    constraint deliveries_last_error_length check (octet_length(last_error) <= 4000)
);

comment on table tinydevcrm.deliveries is
    'One row for each event that notifies and each subscription to it. Pending until it is '
    'acknowledged or parked. Receive them with tinydevcrm.receive_events().';
comment on column tinydevcrm.deliveries.id is
    'Number of the delivery, for tinydevcrm.acknowledge_events().';
comment on column tinydevcrm.deliveries.owner is
    'Owner of the subscription.';
comment on column tinydevcrm.deliveries.subscription_id is
    'The subscription.';
comment on column tinydevcrm.deliveries.event_id is
    'The event.';
comment on column tinydevcrm.deliveries.leader_event_id is
    'The event whose delivery, for the same subscription, carries this one too: this one is not '
    'received itself, and its state is that of the other. Its own event when it may carry others; '
    'null when it is not grouped.';
comment on column tinydevcrm.deliveries.row_numbers is
    'The rows of the event that it carries, by their numbers in tinydevcrm._list_event_rows(), where '
    'the subscription gets rows apart; null for the whole event.';
comment on column tinydevcrm.deliveries.row_number is
    'The first of them, which names the part of the event; 0 for the whole event.';
comment on column tinydevcrm.deliveries.matview_id is
    'The registration of the event''s materialized view, for the order; 0 when that had been '
    'removed.';
comment on column tinydevcrm.deliveries.state is
    'pending, acknowledged or parked. acknowledged_at and parked_at follow it.';
comment on column tinydevcrm.deliveries.attempts is
    'How often it has been received.';
comment on column tinydevcrm.deliveries.is_in_flight is
    'Whether a worker has received it, and has not yet answered or given it back. Until visible_at '
    'no other one receives it.';
comment on column tinydevcrm.deliveries.is_redelivered is
    'Whether it has been made pending again. Any update of this column does that.';
comment on column tinydevcrm.deliveries.has_failed is
    'Whether it has a last_error and is not acknowledged.';
comment on column tinydevcrm.deliveries.is_leading is
    'Whether it is pending and others may join it: see leader_event_id.';
comment on column tinydevcrm.deliveries.visible_at is
    'The time from which a worker may receive it, at most 90 days from now; infinity while another '
    'one carries it.';
comment on column tinydevcrm.deliveries.created_at is
    'When it became pending.';
comment on column tinydevcrm.deliveries.acknowledged_at is
    'When it was acknowledged.';
comment on column tinydevcrm.deliveries.parked_at is
    'When it was parked, because its last attempt had failed. It waits for '
    'tinydevcrm.redeliver_event().';
comment on column tinydevcrm.deliveries.last_error is
    'Why the last attempt failed: the reason that the worker gave.';

-- Who receives a delivery or acknowledges it changes no column of an index or of its predicate, so
-- neither writes an index, as long as nothing fails. That needs room in the page for a second version
-- of each row: the first one is removed when the next change of the page looks for room.
alter table tinydevcrm.deliveries set (fillfactor = 50);

create index deliveries_parked_idx
    on tinydevcrm.deliveries (subscription_id, id)
 where parked_at is not null;

-- Small, as long as deliveries succeed.
create index deliveries_failed_idx
    on tinydevcrm.deliveries (subscription_id, id)
 where has_failed;

-- Those that others may join: see tinydevcrm._find_leader().
create index deliveries_leading_idx
    on tinydevcrm.deliveries (subscription_id, event_id)
 where is_leading;

create index deliveries_leader_idx
    on tinydevcrm.deliveries (leader_event_id, subscription_id)
 where leader_event_id is not null;

create index deliveries_subscription_idx on tinydevcrm.deliveries (subscription_id, id);

alter table tinydevcrm.deliveries enable row level security;

create policy deliveries_read on tinydevcrm.deliveries
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

-- The orchestrator posts to webhooks, and sees all events. A user who could name any event would
-- have the events of others posted.
create policy deliveries_create on tinydevcrm.deliveries
    for insert
    to tinydevcrm_user
    with check (
        pg_has_role(owner, 'usage')
        and exists (
            select
              from tinydevcrm.subscriptions
             where subscriptions.id = deliveries.subscription_id
               and subscriptions.owner = deliveries.owner
        )
        and exists (
            select
              from tinydevcrm.matview_refresh_events
             where matview_refresh_events.id = deliveries.event_id
        )
    );

-- No column that refers to a subscription or event can be updated. The times that a worker sets are
-- finite, because others compute with them.
create policy deliveries_answer on tinydevcrm.deliveries
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (
        visible_at >= timestamptz 'epoch'
        -- A day more, because clocks are set back, and 90 days are an hour longer in some time zones.
        and (visible_at <= clock_timestamp() + interval '91 days' or leader_event_id <> event_id)
        and (least(acknowledged_at, parked_at) >= timestamptz 'epoch') is not false
        and (greatest(acknowledged_at, parked_at) <= clock_timestamp() + interval '1 day') is not false
    );

grant select,
      insert (subscription_id, event_id, row_numbers),
      update (
          state, attempts, visible_at, is_in_flight, is_redelivered, acknowledged_at, parked_at,
          last_error)
   on tinydevcrm.deliveries
   to tinydevcrm_user;

create function tinydevcrm._deliveries_set_matview()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.matview_id := coalesce(
        (
            select matview_refresh_events.matview_id
              from tinydevcrm.matview_refresh_events
             where matview_refresh_events.id = new.event_id
        ),
        0);
    new.row_number := coalesce(new.row_numbers[1], 0);
    return new;
end
$$;

comment on function tinydevcrm._deliveries_set_matview() is
    'Sets the materialized view of a delivery and the first of its rows, which users cannot write.';

create trigger _100_set_matview
    before insert on tinydevcrm.deliveries
    for each row
    when (new.matview_id is null)
    execute function tinydevcrm._deliveries_set_matview();

-- What follows from the columns that change. Each trigger runs after the change, and only where
-- something is left to do: any trigger before it, even one that never runs, would make Postgres lock
-- each row once more, and log that, which takes as long as to acknowledge it.

create function tinydevcrm._deliveries_complete()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.deliveries
       set acknowledged_at = case
               when deliveries.state = 'acknowledged' then
                   coalesce(deliveries.acknowledged_at, clock_timestamp())
           end,
           parked_at = case
               when deliveries.state = 'parked' then
                   coalesce(deliveries.parked_at, clock_timestamp())
           end,
           visible_at = case
               when deliveries.leader_event_id <> deliveries.event_id then 'infinity'
               else deliveries.visible_at
           end,
           has_failed = deliveries.last_error is not null and deliveries.state <> 'acknowledged',
           is_leading = coalesce(deliveries.leader_event_id = deliveries.event_id, false)
               and deliveries.state = 'pending'
     where deliveries.id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._deliveries_complete() is
    'Sets when a delivery was acknowledged or parked, where the change of its state has not said it; '
    'hides one that another carries; and sets whether it has failed and whether it leads, for the '
    'indexes of those few. Security definer: users cannot write all of these. As a trigger it runs '
    'only for a change that row-level security has let through.';

create trigger _100_complete
    after update on tinydevcrm.deliveries
    for each row
    when (
        (new.acknowledged_at is null) = (new.state = 'acknowledged')
        or (new.parked_at is null) = (new.state = 'parked')
        or new.leader_event_id <> new.event_id and new.visible_at < 'infinity'
        or new.has_failed <> (new.last_error is not null and new.state <> 'acknowledged')
        or new.is_leading <> (coalesce(new.leader_event_id = new.event_id, false) and new.state = 'pending')
    )
    execute function tinydevcrm._deliveries_complete();

create function tinydevcrm._deliveries_redeliver()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.deliveries
       -- A new number, so that a late answer to an earlier attempt does not end this one.
       set id = default,
           state = 'pending',
           attempts = 0,
           -- One that another carries leaves its group.
           leader_event_id = case
               when deliveries.leader_event_id = deliveries.event_id then deliveries.event_id
           end,
           is_in_flight = false,
           visible_at = clock_timestamp(),
           created_at = clock_timestamp(),
           acknowledged_at = null,
           parked_at = null
     where deliveries.id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._deliveries_redeliver() is
    'Makes a delivery pending again, with a new number and with all its attempts. Security '
    'definer: takes the next number, which users cannot choose. As a trigger it runs only for a '
    'change that row-level security has let through.';

create trigger _900_redeliver
    after update of is_redelivered on tinydevcrm.deliveries
    for each row
    execute function tinydevcrm._deliveries_redeliver();

revoke execute on function
    tinydevcrm._deliveries_set_matview(),
    tinydevcrm._deliveries_complete(),
    tinydevcrm._deliveries_redeliver()
from public;
