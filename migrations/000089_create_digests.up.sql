-- When a webhook that gathers posts its next message: at the times of its digest, or some time
-- after its last e-mail.

create function tinydevcrm._compute_next_digest(digest text, after timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule record;
begin
    select parsed.*
      into v_schedule
      from tinydevcrm._parse_schedule(_compute_next_digest.digest) as parsed;

    if v_schedule.schedule = 'on change' or v_schedule.seconds is not null then
        raise exception using
            errcode = 'TD003',
            message = format('%L cannot be a digest', left(_compute_next_digest.digest, 50)),
            hint    = 'Write when it is sent: "daily at 8:00", "weekdays at 9:00 Europe/Berlin", '
                      '"hourly".';
    end if;

    return tinydevcrm._compute_next_due(
        null, v_schedule.schedule, v_schedule.time_zone, _compute_next_digest.after);
end
$$;

comment on function tinydevcrm._compute_next_digest(text, timestamptz) is
    'When a digest is sent first after a time. Raises TD003 when it is not a schedule by the clock, '
    'of a minute or more.';

create function tinydevcrm._webhooks_set_next_post()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_now      constant timestamptz := clock_timestamp();
    v_settings tinydevcrm.settings;
begin
    if tg_argv[0] = 'held' then
        new.next_post_at := v_now + new.post_after;
        return new;
    elsif tg_argv[0] = 'posted' then
        select settings.*
          into v_settings
          from tinydevcrm.settings;

        new.posted_at := array(
            select posts.posted_at
              from unnest(v_now || new.posted_at) as posts (posted_at)
             where posts.posted_at > v_now - interval '1 hour'
             order by posts.posted_at desc
             limit 1000
        );
    end if;

    new.next_post_at := case
        when new.digest is not null then tinydevcrm._compute_next_digest(new.digest, v_now)
        when tg_argv[0] = 'posted' then
            greatest(
                v_now + v_settings.mail_gathering,
                new.posted_at[v_settings.mail_hourly_limit] + interval '1 hour')
    end;
    return new;
end
$$;

comment on function tinydevcrm._webhooks_set_next_post() is
    'Sets from when on the next message of a webhook that gathers is posted. Raises TD003 for a bad '
    'digest.';

create trigger _500_hold
    before update of post_after on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_set_next_post('held');

create trigger _510_note_post
    before update of post_count on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_set_next_post('posted');

create trigger _520_set_digest
    before insert on tinydevcrm.webhooks
    for each row
    when (new.digest is not null)
    execute function tinydevcrm._webhooks_set_next_post('set');

create trigger _530_change_digest
    before update of digest, url on tinydevcrm.webhooks
    for each row
    when (new.digest is distinct from old.digest or new.url <> old.url)
    execute function tinydevcrm._webhooks_set_next_post('set');

create function tinydevcrm._refuse_split_digest()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
          from tinydevcrm.webhooks
          join tinydevcrm.subscriptions
            on subscriptions.id = webhooks.subscription_id
         where webhooks.subscription_id = (to_jsonb(new) ->> tg_argv[0])::bigint
           and webhooks.digest is not null
           and (subscriptions.each_row or subscriptions.to_column is not null)
    ) then
        raise exception using
            errcode = 'TD007',
            message = 'a digest gathers what each_row and to_column deliver apart',
            hint    = 'Leave one of them out, or create another subscription.';
    end if;

    return null;
end
$$;

comment on function tinydevcrm._refuse_split_digest() is
    'Raises TD007 when a subscription is to get rows apart and a digest.';

create trigger _600_refuse_split_digest
    after insert or update of digest on tinydevcrm.webhooks
    for each row
    when (new.digest is not null)
    execute function tinydevcrm._refuse_split_digest('subscription_id');

create trigger _600_refuse_split_digest
    after update of each_row, to_column on tinydevcrm.subscriptions
    for each row
    when (new.each_row or new.to_column is not null)
    execute function tinydevcrm._refuse_split_digest('id');

create function tinydevcrm.set_digest(subscription text, digest text)
    returns timestamptz
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id      constant bigint := tinydevcrm._find_own_subscription(set_digest.subscription);
    v_next_at timestamptz;
begin
    update tinydevcrm.webhooks
       set digest = set_digest.digest
     where webhooks.subscription_id = v_id
    returning webhooks.next_post_at
         into v_next_at;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('subscription %L is not a webhook or an e-mail', set_digest.subscription),
            hint    = 'A worker receives its events when it wants to.';
    end if;

    perform tinydevcrm._notify(0);
    return v_next_at;
end
$$;

comment on function tinydevcrm.set_digest(text, text) is
    'Has all deliveries of a webhook or an e-mail sent as one message at the times of a schedule, '
    'such as ''daily at 8:00'' or ''weekdays at 9:00 Europe/Berlin''; the time zone is that of '
    'pg_cron unless given. At a time without deliveries nothing is sent. Returns the next time. '
    'Null sends each at once again, and what waits too. Raises TD001 when there is no such webhook, '
    'TD003 when it is not such a schedule.';

create function tinydevcrm._hold_posts(subscription_id bigint, until timestamptz)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.webhooks
       set post_after = least(
               greatest(_hold_posts.until - clock_timestamp(), interval '0'), interval '10 years')
     where webhooks.subscription_id = (
               select unlocked.subscription_id
                 from tinydevcrm.webhooks as unlocked
                where unlocked.subscription_id = _hold_posts.subscription_id
                  for no key update skip locked
           )
$$;

comment on function tinydevcrm._hold_posts(bigint, timestamptz) is
    'Posts nothing of a webhook that gathers before a time.';

revoke execute on function
    tinydevcrm._compute_next_digest(text, timestamptz),
    tinydevcrm._webhooks_set_next_post(),
    tinydevcrm._refuse_split_digest(),
    tinydevcrm.set_digest(text, text),
    tinydevcrm._hold_posts(bigint, timestamptz)
from public;

grant execute on function
    tinydevcrm._compute_next_digest(text, timestamptz),
    tinydevcrm.set_digest(text, text),
    tinydevcrm._hold_posts(bigint, timestamptz)
to tinydevcrm_user;
