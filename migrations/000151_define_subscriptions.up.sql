-- Gives subscriptions what their definitions say. What waits to be delivered stays, where it can.

create function tinydevcrm._set_webhook_secret(name text, secret text, grace interval)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id constant bigint := tinydevcrm._find_own_subscription(_set_webhook_secret.name);
begin
    update tinydevcrm.webhooks
       set secret = _set_webhook_secret.secret,
           secret_grace = _set_webhook_secret.grace
     where webhooks.subscription_id = v_id;
exception
    -- That error would show the row, with the secret.
    when check_violation then
        raise exception using
            errcode = 'TD007',
            message = 'this secret cannot sign',
            hint    = 'It is whsec_ and 24 to 64 bytes in base64.';
end
$$;

comment on function tinydevcrm._set_webhook_secret(text, text, interval) is
    'Gives a webhook this secret. The one before signs too, for the grace period. Raises TD007 for '
    'another form.';

create function tinydevcrm._create_defined_subscription(
    change tinydevcrm._definition_change,
    home   name
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name     constant text := (change).name;
    v_new      constant jsonb := (change).new;
    v_relation constant regclass := tinydevcrm._find_defined_view(
        v_new ->> 'view', _create_defined_subscription.home);
    v_attempts constant integer := coalesce((v_new ->> 'max_attempts')::integer, 12);
begin
    if v_new ? 'recipients' then
        perform tinydevcrm.create_email(
            v_name, tinydevcrm._list_texts(v_new -> 'recipients'), v_relation,
            max_attempts => v_attempts);
    elsif v_new ? 'url' then
        perform tinydevcrm.create_webhook(
            v_name, v_new ->> 'url', v_relation,
            max_attempts => v_attempts,
            format => coalesce(
                v_new ->> 'format', tinydevcrm._guess_webhook_format(v_new ->> 'url')),
            headers => coalesce(v_new -> 'headers', '{}'));
    elsif exists (
        select
          from tinydevcrm.subscriptions
         where subscriptions.owner = quote_ident(current_user)::regrole
           and subscriptions.name = v_name
    ) then
        raise exception using
            errcode = 'TD004',
            message = 'it is there already, for a view that was dropped',
            hint    = 'Drop it with tinydevcrm.drop_subscription(), or restore the view.';
    else
        perform tinydevcrm.create_subscription(v_name, v_relation, v_attempts);
    end if;

    -- The one that was made with it signs nothing.
    if v_new ? 'secret' then
        perform tinydevcrm._set_webhook_secret(v_name, v_new ->> 'secret', '0');
    end if;
end
$$;

comment on function tinydevcrm._create_defined_subscription(
    tinydevcrm._definition_change, name
) is
    'Creates a subscription with what cannot be altered. Raises TD004 when there is one of that name '
    'for a view that was dropped, and the errors of the functions that create them.';

create function tinydevcrm._alter_defined_endpoint(change tinydevcrm._definition_change)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name constant text := (change).name;
    v_new  constant jsonb := (change).new;
begin
    if tinydevcrm._differs(change, '{recipients}') then
        perform tinydevcrm.alter_email(v_name, tinydevcrm._list_texts(v_new -> 'recipients'));
    elsif tinydevcrm._differs(change, '{url,format,headers}') then
        perform tinydevcrm.alter_webhook(
            v_name,
            v_new ->> 'url',
            coalesce(v_new ->> 'format', tinydevcrm._guess_webhook_format(v_new ->> 'url')),
            coalesce(v_new -> 'headers', '{}'));
    end if;

    if v_new ? 'secret' and tinydevcrm._differs(change, '{secret}') then
        perform tinydevcrm._set_webhook_secret(v_name, v_new ->> 'secret', '1 day');
    end if;
end
$$;

comment on function tinydevcrm._alter_defined_endpoint(tinydevcrm._definition_change) is
    'Changes where a webhook or an e-mail goes. For a day a new secret and the one before both sign.';

create function tinydevcrm._set_defined_audience(change tinydevcrm._definition_change)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name constant text := (change).name;
    v_new  constant jsonb := (change).new;
begin
    -- A digest and rows apart exclude each other, also on the way from one to the other.
    if tinydevcrm._differs(change, '{digest}') and (change).old ? 'digest' then
        perform tinydevcrm.set_digest(v_name, null);
    end if;

    if tinydevcrm._differs(change, '{notify_when,each_row,to_column,allowed_domains}') then
        perform tinydevcrm.set_audience(
            v_name,
            array_to_string(tinydevcrm._list_texts(v_new -> 'notify_when'), ', '),
            tinydevcrm._is_wanted(change, 'each_row'),
            v_new ->> 'to_column',
            coalesce(tinydevcrm._list_texts(v_new -> 'allowed_domains'), '{}'));
    end if;

    if tinydevcrm._differs(change, '{digest}') and v_new ? 'digest' then
        perform tinydevcrm.set_digest(v_name, v_new ->> 'digest');
    end if;
end
$$;

comment on function tinydevcrm._set_defined_audience(tinydevcrm._definition_change) is
    'Sets which events a subscription gets, in which parts, and when.';

create function tinydevcrm._define_subscription(
    change tinydevcrm._definition_change,
    home   name
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name constant text := (change).name;
    v_new  constant jsonb := (change).new;
    v_id   bigint;
begin
    if (change).action = 'replace' then
        perform tinydevcrm.drop_subscription(v_name);
        change.old := null;
    end if;

    if (change).old is null then
        perform tinydevcrm._create_defined_subscription(change, _define_subscription.home);
    else
        perform tinydevcrm._alter_defined_endpoint(change);
    end if;

    perform tinydevcrm._set_defined_audience(change);

    -- Not in the where clause: what has been created just now is not visible when that is planned.
    v_id := tinydevcrm._find_own_subscription(v_name);
    update tinydevcrm.subscriptions
       set max_attempts = coalesce((v_new ->> 'max_attempts')::integer, 12),
           numbers_as_text = tinydevcrm._is_wanted(change, 'numbers_as_text'),
           groups_failures = coalesce(
               (v_new ->> 'groups_failures')::boolean, v_new ?| '{url,recipients}')
     where subscriptions.id = v_id;

    if tinydevcrm._differs(change, '{title,message}') then
        perform tinydevcrm.alter_subscription(
            v_name, coalesce(v_new ->> 'title', ''), coalesce(v_new ->> 'message', ''));
    end if;

    if v_new ? 'muted_until' and tinydevcrm._differs(change, '{muted_until}') then
        perform tinydevcrm.mute_subscription(v_name, (v_new ->> 'muted_until')::timestamptz);
    end if;

    if tinydevcrm._is_wanted(change, 'paused') then
        perform tinydevcrm.pause_subscription(v_name);
    elsif v_new ? 'paused' and tinydevcrm._differs(change, '{paused}') then
        perform tinydevcrm.resume_subscription(v_name);
    end if;
exception
    -- That error would show the row.
    when check_violation then
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be a subscription', v_name),
            hint    = 'A name has 1 to 200 bytes, max_attempts is 1 to 100, a title has up to 1000 bytes, '
                      'a message up to 10000, all of allowed_domains too.';
end
$$;

comment on function tinydevcrm._define_subscription(tinydevcrm._definition_change, name) is
    'Creates, alters or replaces a subscription. One that is replaced loses what waits to be '
    'delivered. Raises TD007 for a value that is too long or out of range.';

create function tinydevcrm._keep_texts(changes tinydevcrm._definition_change[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept record;
    v_id   bigint;
begin
    for v_kept in
        select wanted.kind,
               wanted.name,
               coalesce(
                   jsonb_object_agg(
                       texts.key,
                       jsonb_build_object(
                           'text', texts.value,
                           'hash', tinydevcrm._hash_value(wanted.new -> texts.key)))
                       filter (where texts.key is not null),
                   '{}') as file_texts
          from unnest(_keep_texts.changes) as wanted
          left join lateral jsonb_each(wanted.new_texts) as texts
            on true
         where wanted.kind in ('source', 'subscription')
           and wanted.new is not null
         group by wanted.kind, wanted.name
    loop
        if v_kept.kind = 'source' then
            v_id := tinydevcrm._find_own_source(v_kept.name);
            update tinydevcrm.sources
               set file_texts = v_kept.file_texts
             where sources.id = v_id
               and sources.file_texts <> v_kept.file_texts;
        else
            v_id := tinydevcrm._find_own_subscription(v_kept.name);
            update tinydevcrm.subscriptions
               set file_texts = v_kept.file_texts
             where subscriptions.id = v_id
               and subscriptions.file_texts <> v_kept.file_texts;
        end if;
    end loop;
end
$$;

comment on function tinydevcrm._keep_texts(tinydevcrm._definition_change[]) is
    'Keeps how the files wrote what may be secret, so that an export writes it the same way.';

revoke execute on function
    tinydevcrm._set_webhook_secret(text, text, interval),
    tinydevcrm._create_defined_subscription(tinydevcrm._definition_change, name),
    tinydevcrm._alter_defined_endpoint(tinydevcrm._definition_change),
    tinydevcrm._set_defined_audience(tinydevcrm._definition_change),
    tinydevcrm._define_subscription(tinydevcrm._definition_change, name),
    tinydevcrm._keep_texts(tinydevcrm._definition_change[])
from public;

grant execute on function
    tinydevcrm._set_webhook_secret(text, text, interval),
    tinydevcrm._create_defined_subscription(tinydevcrm._definition_change, name),
    tinydevcrm._alter_defined_endpoint(tinydevcrm._definition_change),
    tinydevcrm._set_defined_audience(tinydevcrm._definition_change),
    tinydevcrm._define_subscription(tinydevcrm._definition_change, name),
    tinydevcrm._keep_texts(tinydevcrm._definition_change[])
to tinydevcrm_user;
