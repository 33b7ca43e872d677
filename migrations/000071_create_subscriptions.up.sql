-- Who is notified: each row is a subscription.

create table tinydevcrm.subscriptions (
    id            bigint generated always as identity,
    owner         regrole not null default quote_ident(current_user)::regrole,
    name          text not null,
    matview_id    bigint,
    max_attempts  integer not null default 12,
    paused_by     text,
    pause_reason  text,
    is_paused     boolean not null generated always as (paused_by is not null) stored,
    groups_failures boolean not null default false,
    muted_for     interval not null default interval '0',
    muted_until   timestamptz,
    is_dropped    boolean not null default false,
    expired_count bigint not null default 0,
    numbers_as_text boolean not null default false,
    notify_when   text[],
    each_row      boolean not null default false,
    to_column     text,
    allowed_domains text[] not null default '{}',
    title         text,
    message       text,
    file_texts    jsonb not null default '{}',
    created_at    timestamptz not null default now(),

    constraint subscriptions_pkey primary key (id),
    constraint subscriptions_name_unique unique (owner, name),
    constraint subscriptions_name_length check (octet_length(name) between 1 and 200),
    -- The page of a subscription has its name at the end of its URL.
    constraint subscriptions_name_in_url check (name not in ('.', '..', 'new')),
    constraint subscriptions_max_attempts_range check (max_attempts between 1 and 100),
    constraint subscriptions_paused_by_known check (paused_by in ('user', 'orchestrator')),
    constraint subscriptions_pause_reason_length check (octet_length(pause_reason) <= 4000),
    constraint subscriptions_title_length check (octet_length(title) between 1 and 1000),
    constraint subscriptions_message_length check (octet_length(message) between 1 and 10000),
    constraint subscriptions_file_texts_short check (
        jsonb_typeof(file_texts) = 'object' and octet_length(file_texts::text) <= 65536
    ),
    constraint subscriptions_muted_for_range check (
        muted_for between interval '0' and interval '10 years'
    ),
    constraint subscriptions_notify_when_short check (
        cardinality(notify_when) between 1 and 100 and octet_length(notify_when::text) <= 1000
    ),
    constraint subscriptions_apart_of_one_view check (
        matview_id is not null or not each_row and to_column is null
    ),
    constraint subscriptions_to_column_short check (octet_length(to_column) between 1 and 63),
    constraint subscriptions_allowed_domains_short check (
        cardinality(allowed_domains) <= 100 and octet_length(allowed_domains::text) <= 10000
    )
);

comment on table tinydevcrm.subscriptions is
    'Named receivers of events. A subscription gets each event that notifies, from its creation '
    'on.';
comment on column tinydevcrm.subscriptions.id is
    'Number of the subscription.';
comment on column tinydevcrm.subscriptions.owner is
    'Role that created it. It gets the events of materialized views that this role owns, or whose '
    'owner''s rights this role has. Subscriptions of administrators and of the orchestrator get '
    'those of all.';
comment on column tinydevcrm.subscriptions.name is
    'Name by which workers receive its deliveries.';
comment on column tinydevcrm.subscriptions.matview_id is
    'The registration of the materialized view whose events it gets; null for all. It stays when '
    'the view is dropped: see tinydevcrm.dropped_matviews.';
comment on column tinydevcrm.subscriptions.max_attempts is
    'How often a delivery is received before it is parked, 1 to 100; see '
    'tinydevcrm.reject_event().';
comment on column tinydevcrm.subscriptions.paused_by is
    'Who has paused it: user, by pause_subscription(); orchestrator, because the endpoint of its '
    'webhook has answered that it is gone (410). Null while it is not paused.';
comment on column tinydevcrm.subscriptions.pause_reason is
    'The reason that was given for the pause.';
comment on column tinydevcrm.subscriptions.is_paused is
    'Whether it is paused: nothing is received, and its deliveries are kept.';
comment on column tinydevcrm.subscriptions.groups_failures is
    'Whether views that fail for one reason at about the same time are one delivery, and their '
    'recoveries are another: see tinydevcrm.deliveries.leader_event_id. create_webhook() sets it. '
    'It matters only to a subscription to all views.';
comment on column tinydevcrm.subscriptions.muted_for is
    'For how long from now on it gets no events, up to 10 years; 0 to end the mute. Sets '
    'muted_until.';
comment on column tinydevcrm.subscriptions.muted_until is
    'Until when it gets no events; null when it is not muted.';
comment on column tinydevcrm.subscriptions.is_dropped is
    'Set by tinydevcrm.drop_subscription(): the same statement removes the row.';
comment on column tinydevcrm.subscriptions.expired_count is
    'Deliveries that were not acknowledged before tinydevcrm.settings.delivery_retention was over, '
    'and were removed.';
comment on column tinydevcrm.subscriptions.numbers_as_text is
    'Whether every number in the rows of its events is a text. Readers that hold numbers as '
    'JavaScript does, with 53 bits, round greater ones and numerics.';
comment on column tinydevcrm.subscriptions.notify_when is
    'Its own rules, of tinydevcrm.subscription_rules(): it gets the events for which one of them holds, '
    'also those of which the rule of the view does not notify. Null for the events that notify.';
comment on column tinydevcrm.subscriptions.each_row is
    'Whether each row that an event is about is a delivery of its own.';
comment on column tinydevcrm.subscriptions.to_column is
    'The column with the address of who gets a row: the rows of one address are a delivery, unless '
    'each_row. Null when all rows go to the same place.';
comment on column tinydevcrm.subscriptions.allowed_domains is
    'The domains, in lower case, to which addresses of to_column must belong. Rows of other addresses '
    'go where the subscription itself goes.';
comment on column tinydevcrm.subscriptions.title is
    'Template of the titles that people get: Mustache, at most 1,000 bytes; null for the default '
    'title. See tinydevcrm.alter_subscription().';
comment on column tinydevcrm.subscriptions.message is
    'Template of the texts that people get, likewise, at most 10,000 bytes.';
comment on column tinydevcrm.subscriptions.file_texts is
    'How a file gave URL, headers and secret, such as "${SLACK_URL}", each with a hash of what that '
    'stood for. An export writes them so again, unless they have changed.';
comment on column tinydevcrm.subscriptions.created_at is
    'When it was created.';

create index subscriptions_matview_idx on tinydevcrm.subscriptions (matview_id);

alter table tinydevcrm.subscriptions enable row level security;

create policy subscriptions_read on tinydevcrm.subscriptions
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

-- Only a view that the caller sees. There is no foreign key, because a subscription outlives its
-- view, and with one the drop of a view would wait for this session.
create policy subscriptions_create on tinydevcrm.subscriptions
    for insert
    to tinydevcrm_user
    with check (
        pg_has_role(owner, 'usage')
        and not tinydevcrm._is_group(owner)
        and (
            matview_id is null
            or exists (
                select
                  from tinydevcrm.matviews
                 where matviews.id = subscriptions.matview_id
            )
        )
    );

create policy subscriptions_change on tinydevcrm.subscriptions
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select,
      insert (name, matview_id, max_attempts, numbers_as_text, notify_when, each_row),
      update (
          max_attempts, numbers_as_text, title, message, paused_by, pause_reason, groups_failures,
          muted_for, is_dropped, notify_when, each_row, to_column, allowed_domains, file_texts)
   on tinydevcrm.subscriptions
   to tinydevcrm_user;

create function tinydevcrm._subscriptions_drop()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.subscriptions
     where subscriptions.id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._subscriptions_drop() is
    'Removes a subscription that is dropped, with its deliveries and its webhook. Security '
    'definer: users have no right to delete from our tables, with which they could lock these. As '
    'a trigger it runs only for a change that row-level security has let through.';

create trigger _500_drop
    after update of is_dropped on tinydevcrm.subscriptions
    for each row
    when (new.is_dropped)
    execute function tinydevcrm._subscriptions_drop();

create trigger _100_mute
    before update of muted_for on tinydevcrm.subscriptions
    for each row
    execute function tinydevcrm._set_muted_until();

create function tinydevcrm._subscriptions_check_templates()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- What is too long is not looked at: the constraints refuse it.
    if octet_length(new.title) <= 1000 then
        perform tinydevcrm._check_template(new.title, 'title');
    end if;

    if octet_length(new.message) <= 10000 then
        perform tinydevcrm._check_template(new.message, 'message');
    end if;

    return new;
end
$$;

comment on function tinydevcrm._subscriptions_check_templates() is
    'Refuses a template that cannot be rendered: see tinydevcrm._check_template().';

create trigger _200_check_templates
    before update of title, message on tinydevcrm.subscriptions
    for each row
    execute function tinydevcrm._subscriptions_check_templates();

revoke execute on function
    tinydevcrm._subscriptions_drop(),
    tinydevcrm._subscriptions_check_templates()
from public;
