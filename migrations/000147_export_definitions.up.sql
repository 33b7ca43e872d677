-- The definitions of a role as they are. Secrets are written as references to the environment.

create function tinydevcrm._list_defined_tables(home name)
    returns setof tinydevcrm._definition
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select 'table',
           tinydevcrm._shorten_name(pg_namespace.nspname, pg_class.relname, _list_defined_tables.home),
           pg_namespace.nspname::text,
           pg_class.relname::text,
           jsonb_build_object('tracked', tracked.is_tracked),
           jsonb '{}'
      from pg_class
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     cross join lateral tinydevcrm._is_table_tracked(pg_class.oid) as tracked (is_tracked)
     where pg_class.relkind in ('r', 'p')
       and pg_class.relpersistence = 'p'
       and not pg_class.relispartition
       and pg_class.relowner = quote_ident(current_user)::regrole
       and pg_namespace.nspname not in ('tinydevcrm', 'pg_catalog', 'information_schema')
       and (
           tracked.is_tracked
           or exists (
               select
                 from tinydevcrm.matview_sources
                 join tinydevcrm.matviews
                   on matviews.id = matview_sources.matview_id
                where matview_sources.relation = pg_class.oid
                  and matviews.owner = pg_class.relowner
           )
       )
$$;

comment on function tinydevcrm._list_defined_tables(name) is
    'Your tables that are tracked or that a view of yours reads.';

create function tinydevcrm._list_defined_views(home name, printed jsonb)
    returns setof tinydevcrm._definition
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set intervalstyle = 'postgres'
as $$
    select 'view',
           tinydevcrm._shorten_name(pg_namespace.nspname, pg_class.relname, _list_defined_views.home),
           pg_namespace.nspname::text,
           pg_class.relname::text,
           tinydevcrm._without_nulls(jsonb_build_object(
               'description', obj_description(matviews.relation, 'pg_class'),
               'schedule', matviews.schedule,
               'catch_up', case
                   when matviews.catch_up
                        <> tinydevcrm._catches_up(schedules.schedule, schedules.seconds)
                   then matviews.catch_up
               end,
               'refresh_interval', nullif(matviews.refresh_interval, '1 second'),
               'paused', case when matviews.is_paused then true end,
               'notify_when', matviews.notify_when,
               'notify_interval', nullif(matviews.notify_interval, '0'),
               'notify_after', nullif(matviews.notify_after, 1),
               'notify_deadline', nullif(matviews.notify_deadline, '0'),
               'muted_until', tinydevcrm._show_time(matviews.muted_until),
               'key', nullif(matviews.key, '{}'),
               'ignored_columns', nullif(matviews.ignored_columns, '{}'),
               'origins', embeds.origins,
               'query', coalesce(
                   case when definitions.written_for = definitions.query then definitions.written end,
                   tinydevcrm._trim_query(_list_defined_views.printed ->> matviews.id::text)))),
           jsonb '{}'
      from tinydevcrm.matviews
      join tinydevcrm.matview_definitions as definitions
        on definitions.matview_id = matviews.id
      join pg_class
        on pg_class.oid = matviews.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
      left join tinydevcrm.schedules
        on schedules.id = matviews.schedule_id
      left join tinydevcrm.embeds
        on embeds.matview_id = matviews.id
       and embeds.owner = matviews.owner
     where matviews.owner = quote_ident(current_user)::regrole
$$;

comment on function tinydevcrm._list_defined_views(name, jsonb) is
    'Your watched views. printed has the queries of tinydevcrm._print_queries().';

create function tinydevcrm._list_defined_sources(home name)
    returns setof tinydevcrm._definition
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set intervalstyle = 'postgres'
as $$
    select 'source',
           sources.name,
           null,
           null,
           tinydevcrm._without_nulls(jsonb_build_object(
               'url', sources.url,
               'headers', nullif(sources.headers, '{}'),
               'table', nullif(
                   tinydevcrm._shorten_name(
                       sources.schema_name, sources.table_name, _list_defined_sources.home),
                   quote_ident(sources.name)),
               'mode', sources.mode,
               'key', sources.key,
               'options', nullif(sources.options, '{}'),
               'schedule', sources.schedule,
               'refuse_if_fewer', nullif(sources.refuse_if_fewer, 0),
               'accepts_empty', case when sources.accepts_empty then true end,
               'notify_deadline', nullif(sources.notify_deadline, '0'),
               'paused', case when sources.is_paused then true end)),
           sources.file_texts
      from tinydevcrm.sources
     where sources.owner = quote_ident(current_user)::regrole
$$;

comment on function tinydevcrm._list_defined_sources(name) is
    'Your sources, with URLs and headers.';

create function tinydevcrm._list_defined_subscriptions(home name)
    returns setof tinydevcrm._definition
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select 'subscription',
           subscriptions.name,
           null,
           null,
           tinydevcrm._without_nulls(jsonb_build_object(
               'view', tinydevcrm._shorten_name(
                   pg_namespace.nspname, pg_class.relname, _list_defined_subscriptions.home),
               'url', case when webhooks.format <> 'email' then webhooks.url end,
               'recipients', case
                   when webhooks.format = 'email' then
                       string_to_array(substr(webhooks.url, 8), ',')
               end,
               'format', nullif(webhooks.format, tinydevcrm._guess_webhook_format(webhooks.url)),
               'headers', nullif(webhooks.headers, '{}'),
               'secret', case when webhook_formats.is_signed then webhooks.secret end,
               'digest', webhooks.digest,
               'notify_when', subscriptions.notify_when,
               'each_row', case when subscriptions.each_row then true end,
               'to_column', subscriptions.to_column,
               'allowed_domains', nullif(subscriptions.allowed_domains, '{}'),
               'max_attempts', nullif(subscriptions.max_attempts, 12),
               'numbers_as_text', case when subscriptions.numbers_as_text then true end,
               'groups_failures', nullif(
                   subscriptions.groups_failures, webhooks.subscription_id is not null),
               'title', subscriptions.title,
               'message', subscriptions.message,
               'paused', case when subscriptions.paused_by = 'user' then true end,
               'muted_until', tinydevcrm._show_time(subscriptions.muted_until))),
           subscriptions.file_texts
      from tinydevcrm.subscriptions
      left join tinydevcrm.matviews
        on matviews.id = subscriptions.matview_id
      left join pg_class
        on pg_class.oid = matviews.relation
      left join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
      left join tinydevcrm.webhooks
        on webhooks.subscription_id = subscriptions.id
      left join tinydevcrm.webhook_formats
        on webhook_formats.name = webhooks.format
     where subscriptions.owner = quote_ident(current_user)::regrole
       -- Of a dropped view there is nothing to subscribe to.
       and (subscriptions.matview_id is null or matviews.id is not null)
$$;

comment on function tinydevcrm._list_defined_subscriptions(name) is
    'Your subscriptions, with URLs, headers and secrets, but for those to dropped views. Who has '
    'unsubscribed from an e-mail is not among the keys: that is for this database.';

create function tinydevcrm._list_defined(home name, printed jsonb)
    returns setof tinydevcrm._definition
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select tables.*
      from tinydevcrm._list_defined_tables(_list_defined.home) as tables
     union all
    select views.*
      from tinydevcrm._list_defined_views(_list_defined.home, _list_defined.printed) as views
     union all
    select sources.*
      from tinydevcrm._list_defined_sources(_list_defined.home) as sources
     union all
    select subscriptions.*
      from tinydevcrm._list_defined_subscriptions(_list_defined.home) as subscriptions
$$;

comment on function tinydevcrm._list_defined(name, jsonb) is
    'All that you have defined, with secrets.';

create function tinydevcrm._hash_value(value jsonb)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select encode(sha256(convert_to(_hash_value.value::text, 'UTF8')), 'hex')
$$;

comment on function tinydevcrm._hash_value(jsonb) is
    'A hash of a value, by which a change is seen.';

create function tinydevcrm._write_secrets(definition jsonb, texts jsonb, variable text)
    returns jsonb
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               jsonb_object_agg(
                   secrets.key,
                   case
                       when kept.text ->> 'hash' = tinydevcrm._hash_value(secrets.value) then
                           kept.text -> 'text'
                       when secrets.key = 'headers' then (
                           select jsonb_object_agg(
                                      headers.name,
                                      format(
                                          '${%s_%s}',
                                          _write_secrets.variable,
                                          -- Those two are the variables of keys.
                                          regexp_replace(
                                              words.text, '^(URL|SECRET)$', 'HEADER_\1')))
                             from jsonb_object_keys(secrets.value) as headers (name)
                            cross join lateral upper(
                                      regexp_replace(headers.name, '[^A-Za-z0-9]', '_', 'g')
                                  ) as words (text)
                       )
                       when secrets.value #>> '{}' ~ '^file:' then
                           to_jsonb(replace(secrets.value #>> '{}', '${', '$' || '${'))
                       else
                           to_jsonb(format('${%s_%s}', _write_secrets.variable, upper(secrets.key)))
                   end),
               '{}')
      from jsonb_each(_write_secrets.definition) as secrets
     cross join lateral (
         select _write_secrets.texts -> secrets.key as text
     ) as kept
     where secrets.key in (
               select definition_keys.name
                 from tinydevcrm.definition_keys
                where definition_keys.is_secret
           )
$$;

comment on function tinydevcrm._write_secrets(jsonb, jsonb, text) is
    'What files write for the keys of a definition that may be secret: as the file did that last gave '
    'this value (texts: see tinydevcrm.subscriptions.file_texts), else a variable of the environment. '
    'So are all URLs but those of the inbox, because who has the URL of a receiver can often post '
    'there without anything else.';

create function tinydevcrm._name_variables(home name, printed jsonb)
    returns setof tinydevcrm._definition
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select named.kind,
           named.name,
           named.schema_name,
           named.relname,
           named.definition,
           tinydevcrm._write_secrets(
               named.definition,
               named.texts,
               named.stem || case when named.place > 1 then '_' || named.place else '' end)
      from (
        select defined.*,
               stems.stem,
               row_number() over (partition by stems.stem order by defined.name collate "C") as place
          from tinydevcrm._list_defined(_name_variables.home, _name_variables.printed) as defined
         cross join lateral (
             select upper(regexp_replace(
                        defined.kind || '_' || defined.name, '[^A-Za-z0-9]+', '_', 'g')) as stem
         ) as stems
      ) as named
$$;

comment on function tinydevcrm._name_variables(name, jsonb) is
    'All that you have defined, with secrets in definition and what a file writes for them in texts. '
    'Two names that would have the same variable are numbered.';

create function tinydevcrm.export_definitions(
    home    name default current_schema(),
    printed jsonb default tinydevcrm._print_queries()
)
    returns table (kind text, name text, schema_name text, relname text, definition jsonb)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select defined.kind,
           defined.name,
           nullif(defined.schema_name, _shown.home),
           defined.relname,
           defined.definition || defined.texts
      from (select export_definitions.home::text as home) as _shown
     cross join lateral tinydevcrm._name_variables(
               export_definitions.home, export_definitions.printed) as defined
     order by array_position('{table,view,source,subscription}', defined.kind),
              defined.name collate "C"
$$;

comment on function tinydevcrm.export_definitions(name, jsonb) is
    'What you have defined: tracked tables, watched views, sources and subscriptions, each with the '
    'keys of tinydevcrm.definition_keys that differ from the default, for files. Secrets are '
    'references to the environment, ${NAME}. The name of a view is as SQL writes it; schema_name and '
    'relname are as they are, schema_name null for that of home, which is the first one of your '
    'search_path.';

revoke execute on function
    tinydevcrm._list_defined_tables(name),
    tinydevcrm._list_defined_views(name, jsonb),
    tinydevcrm._list_defined_sources(name),
    tinydevcrm._list_defined_subscriptions(name),
    tinydevcrm._list_defined(name, jsonb),
    tinydevcrm._hash_value(jsonb),
    tinydevcrm._write_secrets(jsonb, jsonb, text),
    tinydevcrm._name_variables(name, jsonb),
    tinydevcrm.export_definitions(name, jsonb)
from public;

grant execute on function
    tinydevcrm._list_defined_tables(name),
    tinydevcrm._list_defined_views(name, jsonb),
    tinydevcrm._list_defined_sources(name),
    tinydevcrm._list_defined_subscriptions(name),
    tinydevcrm._list_defined(name, jsonb),
    tinydevcrm._hash_value(jsonb),
    tinydevcrm._write_secrets(jsonb, jsonb, text),
    tinydevcrm._name_variables(name, jsonb),
    tinydevcrm.export_definitions(name, jsonb)
to tinydevcrm_user;
