-- Definitions that somebody writes, in the form in which those of the database are listed.

create function tinydevcrm._read_name(name text, home name, out schema_name text, out relname text)
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parts constant text[] := parse_ident(_read_name.name);
begin
    if cardinality(v_parts) > 2 then
        raise exception using
            errcode = 'TD007',
            message = format('%s is not a name with at most a schema', _read_name.name),
            hint    = 'Write it as in SQL: orders, sales.orders or "My Orders".';
    end if;

    schema_name := case cardinality(v_parts) when 2 then v_parts[1] else _read_name.home::text end;
    relname := v_parts[cardinality(v_parts)];
end
$$;

comment on function tinydevcrm._read_name(text, name) is
    'Schema and name of a relation, from its name as SQL writes it; without a schema it is in home. '
    'Raises TD007, or 22023 when it is no name.';

create function tinydevcrm._normalize_name(name text, home name)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._shorten_name(named.schema_name, named.relname, _normalize_name.home)
      from tinydevcrm._read_name(_normalize_name.name, _normalize_name.home) as named
$$;

comment on function tinydevcrm._normalize_name(text, name) is
    'The name of a relation as tinydevcrm._shorten_name() writes it.';

create function tinydevcrm._list_texts(list jsonb)
    returns text[]
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select nullif(array_agg(texts.text order by texts.place), '{}')
      from jsonb_array_elements_text(_list_texts.list) with ordinality as texts (text, place)
$$;

comment on function tinydevcrm._list_texts(jsonb) is
    'The texts of a list; null when there are none.';

create function tinydevcrm._list_sorted(list jsonb)
    returns text[]
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select nullif(array_agg(distinct lower(texts.text) order by lower(texts.text)), '{}')
      from jsonb_array_elements_text(_list_sorted.list) as texts (text)
$$;

comment on function tinydevcrm._list_sorted(jsonb) is
    'The texts of a list in lower case, each once; null when there are none.';

create function tinydevcrm._normalize_schedule(schedule text)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select nullif(trim(both from regexp_replace(_normalize_schedule.schedule, '\s+', ' ', 'g')), '')
$$;

comment on function tinydevcrm._normalize_schedule(text) is
    'A schedule as the registry keeps it; null for an empty one.';

create function tinydevcrm._normalize_view(definition jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set intervalstyle = 'postgres'
as $$
declare
    v_schedule constant text := tinydevcrm._normalize_schedule(definition ->> 'schedule');
    v_parsed   record;
begin
    if coalesce(octet_length(definition ->> 'query'), 0) not between 1 and 1000000 then
        raise exception using
            errcode = 'TD002',
            message = 'there is no query, or one of more than 1,000,000 bytes',
            hint    = 'Write one select, values or table statement.';
    end if;

    if v_schedule is not null and definition ? 'catch_up' then
        v_parsed := tinydevcrm._parse_schedule(v_schedule);
        if (definition ->> 'catch_up')::boolean
           = tinydevcrm._catches_up(v_parsed.schedule, v_parsed.seconds)
        then
            definition := definition - 'catch_up';
        end if;
    end if;

    return definition || jsonb_build_object(
        'description', nullif(definition ->> 'description', ''),
        'schedule', v_schedule,
        'catch_up', case when v_schedule is not null then definition -> 'catch_up' end,
        'refresh_interval', nullif((definition ->> 'refresh_interval')::interval, '1 second'),
        'notify_when', coalesce(definition ->> 'notify_when', 'not_empty'),
        'notify_interval', nullif((definition ->> 'notify_interval')::interval, '0'),
        'notify_after', nullif((definition ->> 'notify_after')::integer, 1),
        'notify_deadline', nullif((definition ->> 'notify_deadline')::interval, '0'),
        'muted_until', tinydevcrm._show_time((definition ->> 'muted_until')::timestamptz),
        'key', tinydevcrm._list_texts(definition -> 'key'),
        'ignored_columns', tinydevcrm._list_texts(definition -> 'ignored_columns'),
        'origins', (
            select array_agg(regexp_replace(lower(given.origin), '/$', '') order by given.place)
              from unnest(tinydevcrm._list_texts(definition -> 'origins')) with ordinality
                       as given (origin, place)
        ),
        'query', tinydevcrm._trim_query(definition ->> 'query'));
end
$$;

comment on function tinydevcrm._normalize_view(jsonb) is
    'The definition of a view in the form of tinydevcrm._list_defined_views(), where what is not given '
    'is null. Raises TD002 without a query, and the errors of bad values.';

create function tinydevcrm._normalize_source(name text, definition jsonb, home name)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set intervalstyle = 'postgres'
as $$
    select _normalize_source.definition || jsonb_build_object(
               'headers', nullif(_normalize_source.definition -> 'headers', '{}'),
               'table', nullif(
                   tinydevcrm._normalize_name(
                       _normalize_source.definition ->> 'table', _normalize_source.home),
                   quote_ident(_normalize_source.name)),
               'mode', coalesce(_normalize_source.definition ->> 'mode', 'replace'),
               'key', tinydevcrm._list_texts(_normalize_source.definition -> 'key'),
               'options', nullif(_normalize_source.definition -> 'options', '{}'),
               'schedule', tinydevcrm._normalize_schedule(_normalize_source.definition ->> 'schedule'),
               'refuse_if_fewer', nullif(
                   (_normalize_source.definition ->> 'refuse_if_fewer')::numeric, 0),
               'accepts_empty', nullif(
                   (_normalize_source.definition ->> 'accepts_empty')::boolean, false),
               'notify_deadline', nullif(
                   (_normalize_source.definition ->> 'notify_deadline')::interval, '0'))
$$;

comment on function tinydevcrm._normalize_source(text, jsonb, name) is
    'The definition of a source in the form of tinydevcrm._list_defined_sources(), likewise.';

create function tinydevcrm._normalize_subscription(definition jsonb, home name)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_url constant text := definition ->> 'url';
begin
    if v_url ~ '^mailto:' then
        definition := definition - 'url' - 'format' || jsonb_build_object(
            'recipients', string_to_array(substr(v_url, 8), ','));
    end if;

    if definition ? 'url' and definition ? 'recipients' then
        raise exception using
            errcode = 'TD007',
            message = 'it has a url and recipients',
            hint    = 'Recipients are for an e-mail, a url for a webhook: make two of it.';
    end if;

    return definition || jsonb_build_object(
        'view', tinydevcrm._normalize_name(definition ->> 'view', _normalize_subscription.home),
        'recipients', tinydevcrm._list_texts(definition -> 'recipients'),
        'format', nullif(
            definition ->> 'format', tinydevcrm._guess_webhook_format(definition ->> 'url')),
        'headers', nullif(definition -> 'headers', '{}'),
        'digest', nullif(definition ->> 'digest', ''),
        'notify_when', tinydevcrm._list_sorted(definition -> 'notify_when'),
        'each_row', nullif((definition ->> 'each_row')::boolean, false),
        'to_column', nullif(definition ->> 'to_column', ''),
        'allowed_domains', tinydevcrm._list_sorted(definition -> 'allowed_domains'),
        'max_attempts', nullif((definition ->> 'max_attempts')::integer, 12),
        'numbers_as_text', nullif((definition ->> 'numbers_as_text')::boolean, false),
        'groups_failures', nullif(
            (definition ->> 'groups_failures')::boolean, definition ?| '{url,recipients}'),
        'title', nullif(definition ->> 'title', ''),
        'message', nullif(definition ->> 'message', ''),
        'muted_until', tinydevcrm._show_time((definition ->> 'muted_until')::timestamptz));
end
$$;

comment on function tinydevcrm._normalize_subscription(jsonb, name) is
    'The definition of a subscription in the form of tinydevcrm._list_defined_subscriptions(), '
    'likewise. Raises TD007 when it is both a webhook and an e-mail.';

revoke execute on function
    tinydevcrm._read_name(text, name),
    tinydevcrm._normalize_name(text, name),
    tinydevcrm._list_texts(jsonb),
    tinydevcrm._list_sorted(jsonb),
    tinydevcrm._normalize_schedule(text),
    tinydevcrm._normalize_view(jsonb),
    tinydevcrm._normalize_source(text, jsonb, name),
    tinydevcrm._normalize_subscription(jsonb, name)
from public;

grant execute on function
    tinydevcrm._read_name(text, name),
    tinydevcrm._normalize_name(text, name),
    tinydevcrm._list_texts(jsonb),
    tinydevcrm._list_sorted(jsonb),
    tinydevcrm._normalize_schedule(text),
    tinydevcrm._normalize_view(jsonb),
    tinydevcrm._normalize_source(text, jsonb, name),
    tinydevcrm._normalize_subscription(jsonb, name)
to tinydevcrm_user;
