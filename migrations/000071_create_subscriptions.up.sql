-- Who is notified.

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

create function tinydevcrm._find_own_subscription(name text)
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
       and subscriptions.name = _find_own_subscription.name;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('there is no subscription %L', _find_own_subscription.name),
            hint    = 'Create one with tinydevcrm.create_subscription().';
    end if;

    return v_id;
end
$$;

comment on function tinydevcrm._find_own_subscription(text) is
    'Number of the caller''s subscription of that name. Raises TD001 when there is none.';

create function tinydevcrm.create_subscription(
    name            text,
    relation        regclass default null,
    max_attempts    integer default 12,
    numbers_as_text boolean default false,
    notify_when     text default null,
    each_row        boolean default false
)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview_id bigint;
    v_rules      text[];
begin
    if create_subscription.relation is not null then
        v_matview_id := (tinydevcrm._find_registration(create_subscription.relation)).id;
    end if;

    v_rules := tinydevcrm._read_rules(
        create_subscription.notify_when, v_matview_id is not null);
    perform tinydevcrm._check_split(create_subscription.each_row, v_matview_id is not null);

    insert into tinydevcrm.subscriptions (
               name, matview_id, max_attempts, numbers_as_text, notify_when, each_row)
    values (
               coalesce(create_subscription.name, ''),
               v_matview_id,
               coalesce(create_subscription.max_attempts, 0),
               coalesce(create_subscription.numbers_as_text, false),
               v_rules,
               coalesce(create_subscription.each_row, false))
    on conflict on constraint subscriptions_name_unique do nothing;

    return tinydevcrm._find_own_subscription(create_subscription.name);
end
$$;

comment on function tinydevcrm.create_subscription(
    text, regclass, integer, boolean, text, boolean
) is
    'Subscribes to the events of one materialized view, or of all, that notify, and returns the '
    'number of the subscription. With numbers_as_text the numbers in the rows of its events are '
    'texts. notify_when lists rules of its own, such as ''rows_added'' or ''failed, late'': see '
    'tinydevcrm.subscription_rules(). With each_row, each row is a delivery of its own. One of that name '
    'stays as it is, with its deliveries. Raises '
    'TD001 when the materialized view is not watched, TD007 for a rule that there is not, or that '
    'needs a view, 23514 when the name is empty, over 200 '
    'bytes or one of ., .. and new, or max_attempts is not 1 to 100.';

create function tinydevcrm.alter_subscription(
    name    text,
    title   text default null,
    message text default null
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(alter_subscription.name);
begin
    update tinydevcrm.subscriptions
       set title = nullif(coalesce(alter_subscription.title, subscriptions.title), ''),
           message = nullif(coalesce(alter_subscription.message, subscriptions.message), '')
     where subscriptions.id = v_id;
exception
    when check_violation then
        raise exception using
            errcode = 'TD007',
            message = 'the template is too long',
            hint    = 'A title has at most 1,000 bytes, a message 10,000.';
end
$$;

comment on function tinydevcrm.alter_subscription(text, text, text) is
    'Sets the templates of a subscription, in Mustache, by which people are notified: of the title '
    'and of the message. Null leaves one as it is, an empty text restores the default. They can '
    'name the fields of tinydevcrm.event_json(), and view, description, title, summary, severity, '
    'link, error, row (the first one), more_rows, also and is_test. A missing value is empty. '
    'Workers and webhooks of format standard get the event without templates. Raises TD001 when '
    'there is no such subscription, TD007 when a template is malformed or too long.';

create function tinydevcrm.drop_subscription(name text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- Not in the where clause: a plan that reads no rows would not call it, and it would not raise.
    v_id constant bigint := tinydevcrm._find_own_subscription(drop_subscription.name);
begin
    update tinydevcrm.subscriptions
       set is_dropped = true
     where subscriptions.id = v_id;
end
$$;

comment on function tinydevcrm.drop_subscription(text) is
    'Drops a subscription with its deliveries. Raises TD001 when there is none.';

create function tinydevcrm.pause_subscription(name text, reason text default null)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(pause_subscription.name);
begin
    update tinydevcrm.subscriptions
       set paused_by = 'user',
           pause_reason = left(pause_subscription.reason, 1000)
     where subscriptions.id = v_id;
end
$$;

comment on function tinydevcrm.pause_subscription(text, text) is
    'Pauses a subscription until resume_subscription(): nothing is received, and its deliveries '
    'are kept. The reason is a note for people. Raises TD001 when there is no such subscription.';

create function tinydevcrm.resume_subscription(name text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(resume_subscription.name);
begin
    update tinydevcrm.subscriptions
       set paused_by = null,
           pause_reason = null
     where subscriptions.id = v_id;

    -- Wakes up the programs that wait for events.
    perform tinydevcrm._notify(0);
end
$$;

comment on function tinydevcrm.resume_subscription(text) is
    'Ends the pause of a subscription: the deliveries that were kept are received now. Raises '
    'TD001 when there is none.';

create function tinydevcrm.mute_subscription(name text, until timestamptz)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(mute_subscription.name);
begin
    update tinydevcrm.subscriptions
       set muted_for = tinydevcrm._compute_mute(mute_subscription.until)
     where subscriptions.id = v_id;
end
$$;

comment on function tinydevcrm.mute_subscription(text, timestamptz) is
    'Mutes a subscription until a time: it never gets the events of that time, while a paused one '
    'gets them later. What it has to deliver already is delivered. replay_events() gets the muted '
    'events after all. Raises TD001 when there is no such subscription, TD007 when the time is not '
    'in the next ten years.';

create function tinydevcrm.unmute_subscription(name text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(unmute_subscription.name);
begin
    update tinydevcrm.subscriptions
       set muted_for = interval '0'
     where subscriptions.id = v_id;
end
$$;

comment on function tinydevcrm.unmute_subscription(text) is
    'Ends the mute of a subscription. Raises TD001 when there is none.';

revoke execute on function
    tinydevcrm._subscriptions_drop(),
    tinydevcrm._subscriptions_check_templates(),
    tinydevcrm._find_own_subscription(text),
    tinydevcrm.create_subscription(text, regclass, integer, boolean, text, boolean),
    tinydevcrm.alter_subscription(text, text, text),
    tinydevcrm.drop_subscription(text),
    tinydevcrm.pause_subscription(text, text),
    tinydevcrm.resume_subscription(text),
    tinydevcrm.mute_subscription(text, timestamptz),
    tinydevcrm.unmute_subscription(text)
from public;

grant execute on function
    tinydevcrm._find_own_subscription(text),
    tinydevcrm.create_subscription(text, regclass, integer, boolean, text, boolean),
    tinydevcrm.alter_subscription(text, text, text),
    tinydevcrm.drop_subscription(text),
    tinydevcrm.pause_subscription(text, text),
    tinydevcrm.resume_subscription(text),
    tinydevcrm.mute_subscription(text, timestamptz),
    tinydevcrm.unmute_subscription(text)
to tinydevcrm_user;
