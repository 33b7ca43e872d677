-- One post for several deliveries: a digest, and the e-mails that would follow each other within a
-- minute. The oldest delivery leads, and carries the others, as with a group of failures: see
-- tinydevcrm.deliveries.leader_event_id.

-- Not added with its default: old minor versions of Postgres 12 crash when a trigger gets all rows of a
-- statement, a foreign key has removed them, and the table has such a column.
alter table tinydevcrm.deliveries
    add column is_gathered boolean;

alter table tinydevcrm.deliveries
    alter column is_gathered set default false,
    alter column is_gathered set not null;

comment on column tinydevcrm.deliveries.is_gathered is
    'Set to let it carry all other deliveries of its subscription that are due: see '
    'tinydevcrm._lock_gathered().';

grant update (is_gathered) on tinydevcrm.deliveries to tinydevcrm_user;

create function tinydevcrm._gathers(webhook tinydevcrm.webhooks)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
begin
    -- What was one post stays one, and rows that are apart stay apart.
    return exists (
            select
              from tinydevcrm.deliveries
             where deliveries.subscription_id = webhook.subscription_id
               and deliveries.is_leading
               and deliveries.is_gathered
        )
        or (webhook.format = 'email' or webhook.digest is not null)
        and not exists (
            select
              from tinydevcrm.subscriptions
             where subscriptions.id = webhook.subscription_id
               and (subscriptions.each_row or subscriptions.to_column is not null)
        )
        and not exists (
            select
              from tinydevcrm.pending_deliveries
             where pending_deliveries.subscription_id = webhook.subscription_id
               and pending_deliveries.row_number > 0
        );
end
$$;

comment on function tinydevcrm._gathers(tinydevcrm.webhooks) is
    'Whether one post of a webhook carries all deliveries that are due: of an e-mail or a digest, '
    'unless the subscription gets rows apart; and while a post is pending that has carried several.';

create function tinydevcrm._deliveries_gather()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- More follow in the next message.
    v_places constant tid[] := tinydevcrm._lock_due_deliveries(new.subscription_id, 10000, 10000);
begin
    -- Another one carries it, perhaps since this statement.
    if exists (
        select
          from tinydevcrm.deliveries
         where deliveries.id = new.id
           and deliveries.leader_event_id <> deliveries.event_id
    ) then
        return null;
    end if;

    update tinydevcrm.deliveries
       set leader_event_id = new.event_id,
           visible_at = case
               when deliveries.id = new.id then deliveries.visible_at
               else 'infinity'
           end
      from tinydevcrm.pending_deliveries
     where pending_deliveries.subscription_id = new.subscription_id
       and deliveries.id = pending_deliveries.delivery_id
       and deliveries.row_numbers is null
       and deliveries.state = 'pending'
       and (
           deliveries.id = new.id
           or deliveries.event_id > new.event_id
              and (
                  deliveries.ctid = any (v_places)
                  -- Those that one of them has carried until now.
                  or deliveries.leader_event_id in (
                      select due.event_id
                        from tinydevcrm.deliveries as due
                       where due.ctid = any (v_places)
                  )
              )
       );

    return null;
end
$$;

comment on function tinydevcrm._deliveries_gather() is
    'Lets a delivery carry the others of its subscription that are due, with what these carry. '
    'Security definer: users cannot write leader_event_id, with which a delivery of theirs could '
    'never be received. As a trigger it runs only for a change that row-level security has let '
    'through, and it changes only deliveries of the same subscription.';

create trigger _600_gather
    after update of is_gathered on tinydevcrm.deliveries
    for each row
    when (new.is_gathered and new.state = 'pending')
    execute function tinydevcrm._deliveries_gather();

create function tinydevcrm._deliveries_release()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.deliveries
       set leader_event_id = null,
           visible_at = clock_timestamp()
     where deliveries.leader_event_id = old.event_id
       and deliveries.subscription_id = old.subscription_id
       and deliveries.acknowledged_at is null;

    return null;
end
$$;

comment on function tinydevcrm._deliveries_release() is
    'Frees what a removed delivery has carried. Security definer: users cannot write '
    'leader_event_id; as a trigger it runs only for what removes a delivery.';

create trigger _610_release
    after delete on tinydevcrm.deliveries
    for each row
    when (old.leader_event_id = old.event_id and old.acknowledged_at is null)
    execute function tinydevcrm._deliveries_release();

create function tinydevcrm._lock_gathered(webhook tinydevcrm.webhooks)
    returns tid[]
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery record;
    v_is_new   boolean;
    v_first_at timestamptz;
begin
    -- What was posted and not accepted is posted again as it was, so that its receiver recognises
    -- it. What is new comes in a message of its own after it.
    select deliveries.id,
           deliveries.visible_at
      into v_delivery
      from tinydevcrm.pending_deliveries
      join tinydevcrm.deliveries
        on deliveries.id = pending_deliveries.delivery_id
     where pending_deliveries.subscription_id = webhook.subscription_id
       and deliveries.row_numbers is null
       and (deliveries.attempts > 0 or deliveries.is_gathered and deliveries.is_leading)
       and deliveries.visible_at < 'infinity'
     -- Those that are redelivered together keep their order.
     order by deliveries.attempts > 0 desc, deliveries.event_id
     limit 1;

    v_is_new := not found;

    if v_delivery.visible_at > clock_timestamp() then
        perform tinydevcrm._hold_posts(webhook.subscription_id, v_delivery.visible_at);
        return '{}';
    end if;

    if v_is_new then
        select deliveries.id,
               min(deliveries.created_at) over () as first_at
          into v_delivery
          from tinydevcrm._list_due_heads(webhook.subscription_id, 1000000) as heads
          join tinydevcrm.deliveries
            on deliveries.id = heads.delivery_id
         order by heads.event_id
         limit 1;

        if found and webhook.digest is not null then
            v_first_at := tinydevcrm._compute_next_digest(webhook.digest, v_delivery.first_at);

            if v_first_at > clock_timestamp() then
                perform tinydevcrm._hold_posts(webhook.subscription_id, v_first_at);
                return '{}';
            end if;
        end if;
    end if;

    -- Another program may have had it meanwhile.
    perform
       from tinydevcrm.deliveries
      where deliveries.id = v_delivery.id
        and deliveries.visible_at <= clock_timestamp()
        for update skip locked;

    if not found then
        return '{}';
    end if;

    update tinydevcrm.deliveries
       set is_gathered = true
     where v_is_new
       and deliveries.id = v_delivery.id;

    return array(
        select deliveries.ctid
          from tinydevcrm.deliveries
         where deliveries.id = v_delivery.id
    );
end
$$;

comment on function tinydevcrm._lock_gathered(tinydevcrm.webhooks) is
    'Locks the delivery that a webhook that gathers posts next, and lets it carry all others that '
    'are due. Returns its ctid, or nothing when it is not time for that. A digest is due at the '
    'first of its times after its first delivery.';

create function tinydevcrm._list_posted_events(delivery_id bigint)
    returns table (event tinydevcrm.matview_refresh_events, place bigint)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when subscriptions.numbers_as_text then
                   tinydevcrm._print_numbers_as_text(addressed.event)
               else addressed.event
           end,
           row_number() over (order by events.id desc)
      from tinydevcrm.deliveries
      join tinydevcrm.deliveries as carried
        on carried.subscription_id = deliveries.subscription_id
       and (carried.id = deliveries.id or carried.leader_event_id = deliveries.event_id)
      join tinydevcrm.subscriptions
        on subscriptions.id = deliveries.subscription_id
      join tinydevcrm.matview_refresh_events as events
        on events.id = carried.event_id
     cross join lateral (
         select case
                    when subscriptions.notify_when is null and carried.row_numbers is null
                    then events
                    else tinydevcrm._address_event(
                        events, subscriptions.notify_when, carried.row_numbers)
                end as event
     ) as addressed
     where deliveries.id = _list_posted_events.delivery_id
$$;

comment on function tinydevcrm._list_posted_events(bigint) is
    'The event of a delivery, and those that it carries, with their place from the newest on.';

create function tinydevcrm._name_views(delivery_id bigint)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
               format('%s (%s)', regexp_replace(views.matview, '^public\.', ''), views.count),
               ', ' order by views.place) filter (where views.place <= 5)
           || case
                  when count(*) > 5 then format(' and %s other views', count(*) - 5)
                  else ''
              end
      from (
        select (posted.event).matview,
               count(*) as count,
               row_number() over (order by count(*) desc, min((posted.event).id)) as place
          from tinydevcrm._list_posted_events(_name_views.delivery_id) as posted
         group by (posted.event).matview
      ) as views
$$;

comment on function tinydevcrm._name_views(bigint) is
    'The materialized views that a gathered post is about, each with the number of its events.';

create function tinydevcrm._name_post(delivery_id bigint)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case count(*)
               when 1 then 'event_' || max((posted.event).id)
               else format('events_%s_%s', min((posted.event).id), max((posted.event).id))
           end
      from tinydevcrm._list_posted_events(_name_post.delivery_id) as posted
$$;

comment on function tinydevcrm._name_post(bigint) is
    'The message id of a gathered post, the same at each attempt: event_ and its id, or events_ and '
    'the first and last id.';

create function tinydevcrm._build_digest(webhook tinydevcrm.webhooks, delivery_id bigint)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with written as (
        select posted.place,
               (posted.event).started_at,
               -- Half of what the orchestrator posts at most; the newest in any case.
               posted.place = 1
               or sum(octet_length(documents.document::text)) over (order by posted.place) < 1048576
                   as is_shown,
               documents.document
          from tinydevcrm._list_posted_events(_build_digest.delivery_id) as posted
         cross join lateral (
            select case webhook.format
                       when 'standard' then tinydevcrm.event_json(posted.event)
                       else tinydevcrm._build_notification(webhook.subscription_id, posted.event)
                   end
         ) as documents (document)
         where posted.place <= 50
    ),
    shown as (
        select json_agg(written.document order by written.place desc) as documents,
               count(*) as count,
               max(written.started_at) as started_at,
               (array_agg(
                   written.document ->> 'severity'
                   order by array_position(
                       array['failure', 'dropped', 'late', 'silent', 'change'],
                       written.document ->> 'severity') nulls last))[1] as severity
          from written
         where written.is_shown
    ),
    counted as (
        select count(*) as count,
               tinydevcrm._name_views(_build_digest.delivery_id) as views
          from tinydevcrm._list_posted_events(_build_digest.delivery_id)
    )
    select case webhook.format
               when 'standard' then json_build_object(
                   'type', 'digest',
                   'timestamp', shown.started_at,
                   'data', json_build_object(
                       'event_count', counted.count,
                       'omitted_count', counted.count - shown.count,
                       'events', shown.documents))
               else json_build_object(
                   'message_id', tinydevcrm._name_post(_build_digest.delivery_id),
                   'is_test', false,
                   'title', format(
                       '%s notifications: %s',
                       counted.count,
                       regexp_replace(counted.views, '[[:cntrl:]]+', ' ', 'g')),
                   'summary', format('%s notifications from %s.', counted.count, counted.views)
                       || case
                              when counted.count = shown.count then ''
                              else format(
                                  ' The first %s are left out here.', counted.count - shown.count)
                          end,
                   'severity', shown.severity,
                   'key', 'digest ' || subscriptions.name,
                   'is_resolved', false,
                   'path', '/subscriptions/' || tinydevcrm._encode_path(subscriptions.name),
                   'matview', null,
                   'description', null,
                   'templates', json_build_object('title', null, 'message', null),
                   'event', null,
                   'events', shown.documents,
                   'limits', shown.documents -> 0 -> 'limits')
           end
      from shown
     cross join counted
      join tinydevcrm.subscriptions
        on subscriptions.id = webhook.subscription_id
$$;

comment on function tinydevcrm._build_digest(tinydevcrm.webhooks, bigint) is
    'The body of a post that carries several events: in format standard of type digest, with the '
    'events in data; else a notification whose events are notifications, as '
    'tinydevcrm._build_notification() returns them. The newest 50 at most, newest last, with the '
    'number of all.';

revoke execute on function
    tinydevcrm._gathers(tinydevcrm.webhooks),
    tinydevcrm._deliveries_gather(),
    tinydevcrm._deliveries_release(),
    tinydevcrm._lock_gathered(tinydevcrm.webhooks),
    tinydevcrm._list_posted_events(bigint),
    tinydevcrm._name_views(bigint),
    tinydevcrm._build_digest(tinydevcrm.webhooks, bigint),
    tinydevcrm._name_post(bigint)
from public;

grant execute on function
    tinydevcrm._gathers(tinydevcrm.webhooks),
    tinydevcrm._lock_gathered(tinydevcrm.webhooks),
    tinydevcrm._list_posted_events(bigint),
    tinydevcrm._name_views(bigint),
    tinydevcrm._build_digest(tinydevcrm.webhooks, bigint),
    tinydevcrm._name_post(bigint)
to tinydevcrm_user;
