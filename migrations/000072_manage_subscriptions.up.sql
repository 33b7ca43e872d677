-- The calls that create, change, pause, mute and drop subscriptions.

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
