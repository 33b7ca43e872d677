-- What a person is notified of: an event in words. Each format of a webhook gives them its own shape.

create function tinydevcrm._encode_path(part text)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select string_agg(
                   case
                       when characters.value ~ '[A-Za-z0-9_.~-]' then characters.value
                       else regexp_replace(
                           upper(encode(convert_to(characters.value, 'UTF8'), 'hex')),
                           '(..)', '%\1', 'g')
                   end,
                   '' order by characters.number)
          from regexp_split_to_table(_encode_path.part, '')
               with ordinality as characters (value, number)
    );
end
$$;

comment on function tinydevcrm._encode_path(text) is
    'A text as one part of the path of a URL.';

create function tinydevcrm._count_rows(count bigint, verb text default null)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select concat_ws(
                   ' ',
                   case _count_rows.count
                       when 0 then 'no rows'
                       when 1 then '1 row'
                       else _count_rows.count || ' rows'
                   end,
                   _count_rows.verb)
    );
end
$$;

comment on function tinydevcrm._count_rows(bigint, text) is
    'A number of rows in words, with what happened to them.';

create function tinydevcrm._count_changes(event tinydevcrm.matview_refresh_events)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        -- An updated row counts as a removed and as an added one.
        select string_agg(
                   case counts.place
                       when 1 then tinydevcrm._count_rows(counts.count, counts.verb)
                       else format('%s %s', counts.count, counts.verb)
                   end,
                   ', ' order by counts.place)
          from (
            select row_number() over (order by found.place) as place,
                   found.count,
                   found.verb
              from (
                values (1, (event).added_count - coalesce((event).updated_count, 0), 'added'),
                       (2, (event).removed_count - coalesce((event).updated_count, 0), 'removed'),
                       (3, (event).updated_count, 'updated')
              ) as found (place, count, verb)
             where found.count > 0
          ) as counts
    );
end
$$;

comment on function tinydevcrm._count_changes(tinydevcrm.matview_refresh_events) is
    'How many rows of which kind an event has found, as in "3 rows added, 1 removed"; null for '
    'none.';

create function tinydevcrm._describe_event(
    event       tinydevcrm.matview_refresh_events,
    other_count bigint default 0
)
    returns table (
        title       text,
        summary     text,
        severity    text,
        key         text,
        is_resolved boolean,
        path        text
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        with names (matview, changes, row_count, rule, action, failure) as (
            select regexp_replace((event).matview, '^public\.', '')
                   || case _describe_event.other_count
                          when 0 then ''
                          when 1 then ' and another view'
                          else format(' and %s other views', _describe_event.other_count)
                      end,
                   tinydevcrm._count_changes(event),
                   tinydevcrm._count_rows((event).row_count),
                   (
                       select matviews.notify_when
                         from tinydevcrm.matviews
                        where matviews.id = (event).matview_id
                   ),
                   case when (event).source_id is null then 'refreshed' else 'imported' end,
                   case when (event).source_id is null then 'refresh failed' else 'import failed' end
        )
        select format(
                   '%s: %s',
                   regexp_replace(names.matview, '[[:cntrl:]]+', ' ', 'g'),
                   case (event).outcome
                       when 'refreshed' then coalesce(names.changes, names.row_count)
                       when 'recovered' then names.action || ' again'
                       when 'failed' then names.failure
                       when 'skipped' then 'refresh skipped'
                       when 'silent' then 'no new data'
                       when 'resumed' then 'new data again'
                       else (event).outcome
                   end),
               case (event).outcome
                   when 'refreshed' then
                       format('The view has %s.', names.row_count)
                       || coalesce(' Refreshes are plain now: ' || (event).plain_reason || '.', '')
                   when 'recovered' then
                       format(
                           case
                               when (event).source_id is null then
                                   'The refresh succeeds again, and the view has %s%s.'
                               else 'The import succeeds again, and the file has %s%s.'
                           end,
                           names.row_count, ': ' || names.changes)
                   when 'failed' then coalesce((event).error_message, 'The refresh failed.')
                   when 'skipped' then 'Another refresh of the view was running.'
                   else coalesce(
                       upper(left((event).reason, 1)) || substr((event).reason, 2) || '.',
                       'No reason is known.')
               end,
               case (event).outcome
                   when 'failed' then 'failure'
                   when 'recovered' then 'recovery'
                   when 'refreshed' then 'change'
                   else (event).outcome
               end,
               (event).matview
               || case
                      when (event).outcome in ('failed', 'recovered', 'late') then ' refresh'
                      when (event).outcome in ('silent', 'resumed') then ' tables'
                      else ''
                  end,
               case (event).outcome
                   when 'refreshed' then
                       (event).row_count = 0 and coalesce(names.rule, '') <> 'empty'
                   else (event).outcome in ('recovered', 'resumed')
               end,
               case
                   when (event).source_id is not null then
                       '/sources/' || tinydevcrm._encode_path(substr((event).matview, length('source ') + 1))
                   else format(
                       '/views/%s?event=%s', tinydevcrm._encode_path((event).matview), (event).id)
               end
          from names;
end
$$;

comment on function tinydevcrm._describe_event(tinydevcrm.matview_refresh_events, bigint) is
    'An event in words, for a person. title is one line, summary a sentence. severity is failure, '
    'recovery, change, late, silent, resumed or dropped. key names what is wrong: a failure and '
    'its recovery have the same one, and rows and the end of them, and silent and resumed. '
    'is_resolved says that it is over. path is the page of the view, with the event, or of the source. other_count '
    'is how many other views the notification is about: see tinydevcrm.grouped_events().';

create function tinydevcrm._name_message(event_id bigint, row_number integer)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Not a query, which would take five times as long: it runs for each post.
    return 'event_' || _name_message.event_id
           || coalesce('_' || nullif(_name_message.row_number, 0), '');
end
$$;

comment on function tinydevcrm._name_message(bigint, integer) is
    'The name of a message, the same at each attempt: event_17, or event_17_3 for a part of an '
    'event: see tinydevcrm.deliveries.row_number.';

create function tinydevcrm._build_notification(
    subscription_id bigint,
    event           tinydevcrm.matview_refresh_events,
    superseded_by   bigint default null,
    others          json default null,
    row_number      integer default 0
)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select json_build_object(
                   'message_id',
                   tinydevcrm._name_message((event).id, _build_notification.row_number),
                   'is_test', false,
                   'title', described.title,
                   'summary',
                   described.summary
                   || case
                          when _build_notification.superseded_by is null then ''
                          else ' A newer event of this view has been delivered before.'
                      end,
                   'severity', described.severity,
                   'key', described.key,
                   'is_resolved', described.is_resolved,
                   'path', described.path,
                   'matview', (event).matview,
                   'description', (
                       select obj_description(matviews.relation, 'pg_class')
                         from tinydevcrm.matviews
                        where matviews.id = (event).matview_id
                   ),
                   'templates', (
                       select json_build_object(
                                  'title', subscriptions.title,
                                  'message', subscriptions.message)
                         from tinydevcrm.subscriptions
                        where subscriptions.id = _build_notification.subscription_id
                   ),
                   'event', tinydevcrm.event_json(event),
                   'also', (
                       select json_agg(other.value ->> 'matview' order by other.number)
                         from json_array_elements(_build_notification.others)
                              with ordinality as other (value, number)
                   ),
                   'limits', (
                       select json_build_object(
                                  'title', webhook_formats.max_title,
                                  'text', webhook_formats.max_text,
                                  'rows', webhook_formats.max_rows,
                                  'bytes', webhook_formats.max_bytes)
                         from tinydevcrm.webhooks
                         join tinydevcrm.webhook_formats
                           on webhook_formats.name = webhooks.format
                        where webhooks.subscription_id = _build_notification.subscription_id
                   ))
          from tinydevcrm._describe_event(
                   event, coalesce(json_array_length(_build_notification.others), 0)) as described
    );
end
$$;

comment on function tinydevcrm._build_notification(
    bigint, tinydevcrm.matview_refresh_events, bigint, json, integer
) is
    'What the orchestrator needs to write the post of an event in a format other than standard: '
    'the event in words (see tinydevcrm._describe_event()) and as JSON, the comment on the view, '
    'the templates, the limits of the format, and the names of the other views that the post is '
    'about.';

revoke execute on function
    tinydevcrm._encode_path(text),
    tinydevcrm._name_message(bigint, integer),
    tinydevcrm._count_rows(bigint, text),
    tinydevcrm._count_changes(tinydevcrm.matview_refresh_events),
    tinydevcrm._describe_event(tinydevcrm.matview_refresh_events, bigint),
    tinydevcrm._build_notification(
        bigint, tinydevcrm.matview_refresh_events, bigint, json, integer)
from public;

grant execute on function
    tinydevcrm._encode_path(text),
    tinydevcrm._name_message(bigint, integer),
    tinydevcrm._count_rows(bigint, text),
    tinydevcrm._count_changes(tinydevcrm.matview_refresh_events),
    tinydevcrm._describe_event(tinydevcrm.matview_refresh_events, bigint),
    tinydevcrm._build_notification(
        bigint, tinydevcrm.matview_refresh_events, bigint, json, integer)
to tinydevcrm_user;
