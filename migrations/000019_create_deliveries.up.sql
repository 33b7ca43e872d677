-- At least once: the transaction that records a told event writes one delivery for each
-- subscription to it, and a worker takes, handles and acknowledges them.

create table tinydevcrm.subscriptions (
    id         bigint generated always as identity,
    owner      regrole not null default quote_ident(current_user)::regrole,
    name       text not null,
    matview_id bigint,
    created_at timestamptz not null default now(),

    constraint subscriptions_pkey primary key (id),
    constraint subscriptions_name_unique unique (owner, name),
    constraint subscriptions_name_length check (octet_length(name) between 1 and 200),
    constraint subscriptions_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade
);

comment on table tinydevcrm.subscriptions is
    'Who wants to be told: each subscription gets every told event from its creation on.';
comment on column tinydevcrm.subscriptions.id is
    'Number of the subscription.';
comment on column tinydevcrm.subscriptions.owner is
    'Role that made it. It gets events of materialized views that this role owns, or whose '
    'owner''s rights it has.';
comment on column tinydevcrm.subscriptions.name is
    'Name by which workers ask for its deliveries.';
comment on column tinydevcrm.subscriptions.matview_id is
    'The one materialized view it is for; null for all.';
comment on column tinydevcrm.subscriptions.created_at is
    'When it was made.';

create index subscriptions_matview_idx on tinydevcrm.subscriptions (matview_id);

alter table tinydevcrm.subscriptions enable row level security;

create policy subscriptions_owner on tinydevcrm.subscriptions
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select, insert, update, delete on tinydevcrm.subscriptions to tinydevcrm_user;


create table tinydevcrm.deliveries (
    id              bigint generated always as identity,
    owner           regrole not null,
    subscription_id bigint not null,
    event_id        bigint not null,
    attempts        integer not null default 0,
    visible_at      timestamptz not null default now(),
    acknowledged_at timestamptz,

    constraint deliveries_pkey primary key (id),
    constraint deliveries_subscription_fkey foreign key (subscription_id)
        references tinydevcrm.subscriptions (id) on delete cascade,
    constraint deliveries_event_fkey foreign key (event_id)
        references tinydevcrm.matview_refresh_events (id) on delete cascade,
    constraint deliveries_event_once unique (event_id, subscription_id)
);

comment on table tinydevcrm.deliveries is
    'One row for each told event and subscription. Take them with tinydevcrm.receive_events().';
comment on column tinydevcrm.deliveries.id is
    'Number of the delivery: what tinydevcrm.acknowledge_events() takes.';
comment on column tinydevcrm.deliveries.owner is
    'Owner of the subscription.';
comment on column tinydevcrm.deliveries.subscription_id is
    'The subscription.';
comment on column tinydevcrm.deliveries.event_id is
    'The event.';
comment on column tinydevcrm.deliveries.attempts is
    'How often it has been received.';
comment on column tinydevcrm.deliveries.visible_at is
    'From when on it may be received (again).';
comment on column tinydevcrm.deliveries.acknowledged_at is
    'When it was acknowledged; null while it is pending.';

create index deliveries_pending_idx
    on tinydevcrm.deliveries (subscription_id, visible_at, id)
 where acknowledged_at is null;

create index deliveries_subscription_idx on tinydevcrm.deliveries (subscription_id, id);

alter table tinydevcrm.deliveries enable row level security;

create policy deliveries_owner on tinydevcrm.deliveries
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select, insert, update on tinydevcrm.deliveries to tinydevcrm_user;


create function tinydevcrm._matview_refresh_events_fan_out()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into tinydevcrm.deliveries (owner, subscription_id, event_id)
    select subscriptions.owner,
           subscriptions.id,
           new.id
      from tinydevcrm.subscriptions
     where (subscriptions.matview_id is null or subscriptions.matview_id = new.matview_id)
       and pg_has_role(subscriptions.owner, new.owner, 'usage');

    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_fan_out() is
    'Writes a delivery for each subscription whose owner may see the event. Security definer: the '
    'role that refreshes may not see the subscriptions of those who watch it, such as an '
    'administrator; it lends read on subscriptions and insert on deliveries.';

create trigger _500_fan_out
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.is_told)
    execute function tinydevcrm._matview_refresh_events_fan_out();

create function tinydevcrm._own_subscription(name text)
    returns bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    select subscriptions.id
      into v_id
      from tinydevcrm.subscriptions
     where subscriptions.owner = quote_ident(current_user)::regrole
       and subscriptions.name = _own_subscription.name;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('there is no subscription %L', _own_subscription.name),
            hint    = 'Make one with tinydevcrm.create_subscription().';
    end if;

    return v_id;
end
$$;

comment on function tinydevcrm._own_subscription(text) is
    'Number of the caller''s subscription of that name. Raises TD001 when there is none.';

create function tinydevcrm.create_subscription(name text, relation regclass default null)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview_id bigint;
begin
    if create_subscription.relation is not null then
        v_matview_id := (tinydevcrm._watched_matview(create_subscription.relation)).id;
    end if;

    insert into tinydevcrm.subscriptions (name, matview_id)
    values (create_subscription.name, v_matview_id)
    on conflict on constraint subscriptions_name_unique do nothing;

    return tinydevcrm._own_subscription(create_subscription.name);
end
$$;

comment on function tinydevcrm.create_subscription(text, regclass) is
    'Subscribes to the told events of one materialized view, or of all of them. One of that name '
    'stays as it is, with what is pending. Returns its number. Raises TD001 when the materialized '
    'view is not watched, 23514 when the name is empty or over 200 bytes.';

create function tinydevcrm.drop_subscription(name text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.subscriptions
     where subscriptions.id = tinydevcrm._own_subscription(drop_subscription.name);
end
$$;

comment on function tinydevcrm.drop_subscription(text) is
    'Ends a subscription; what is pending goes with it. Raises TD001 when there is none.';

create function tinydevcrm.receive_events(
    subscription       text,
    batch_size         integer default 100,
    visibility_timeout interval default interval '30 seconds'
)
    returns table (delivery_id bigint, attempt integer, event tinydevcrm.matview_refresh_events)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_id bigint := tinydevcrm._own_subscription(receive_events.subscription);
begin
    return query
        with taken as (
            select deliveries.id
              from tinydevcrm.deliveries
             where deliveries.subscription_id = v_subscription_id
               and deliveries.acknowledged_at is null
               and deliveries.visible_at <= clock_timestamp()
             order by deliveries.visible_at, deliveries.id
             limit receive_events.batch_size
               for update skip locked
        ),
        received as (
            update tinydevcrm.deliveries
               set attempts = deliveries.attempts + 1,
                   visible_at = clock_timestamp() + receive_events.visibility_timeout
              from taken
             where deliveries.id = taken.id
            returning deliveries.id,
                      deliveries.attempts,
                      deliveries.event_id
        )
        select received.id,
               received.attempts,
               events
          from received
          join tinydevcrm.matview_refresh_events as events
            on events.id = received.event_id
         order by received.id;
end
$$;

comment on function tinydevcrm.receive_events(text, integer, interval) is
    'Takes up to batch_size pending deliveries of your subscription, oldest first. What is not '
    'acknowledged within the visibility timeout is received again, so handle an event''s id twice '
    'without harm. Many workers may call it at once. Raises TD001 when there is no subscription.';

create function tinydevcrm.acknowledge_events(delivery_ids bigint[])
    returns bigint
    language sql
    volatile
    strict
    set search_path = pg_catalog, pg_temp
as $$
    with acknowledged as (
        update tinydevcrm.deliveries
           set acknowledged_at = clock_timestamp()
         where deliveries.id = any (acknowledge_events.delivery_ids)
           and deliveries.acknowledged_at is null
        returning deliveries.id
    )
    select count(*)
      from acknowledged
$$;

comment on function tinydevcrm.acknowledge_events(bigint[]) is
    'Ends deliveries: they have been handled. Returns how many were pending until now.';

revoke execute on function
    tinydevcrm._matview_refresh_events_fan_out(),
    tinydevcrm._own_subscription(text),
    tinydevcrm.create_subscription(text, regclass),
    tinydevcrm.drop_subscription(text),
    tinydevcrm.receive_events(text, integer, interval),
    tinydevcrm.acknowledge_events(bigint[])
from public;

grant execute on function
    tinydevcrm._own_subscription(text),
    tinydevcrm.create_subscription(text, regclass),
    tinydevcrm.drop_subscription(text),
    tinydevcrm.receive_events(text, integer, interval),
    tinydevcrm.acknowledge_events(bigint[])
to tinydevcrm_user;
