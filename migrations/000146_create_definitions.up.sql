-- What a role has defined: which tables are tracked, its views, sources and subscriptions, as documents that files can
-- hold, and that another database can be given.

create table tinydevcrm.definition_keys (
    kind        text not null,
    rank        integer not null,
    name        text not null,
    type        text not null,
    is_kept     boolean not null default false,
    is_secret   boolean not null default false,
    description text not null,

    constraint definition_keys_pkey primary key (kind, name),
    constraint definition_keys_rank_unique unique (kind, rank),
    constraint definition_keys_kind_known check (kind in ('table', 'view', 'source', 'subscription')),
    constraint definition_keys_type_known check (
        type in ('text', 'number', 'boolean', 'list', 'object', 'query')
    )
);

comment on table tinydevcrm.definition_keys is
    'The keys that a definition may have. Files write them in this order. A key that is not there '
    'means the default.';
comment on column tinydevcrm.definition_keys.kind is
    'Of what: table, view, source or subscription.';
comment on column tinydevcrm.definition_keys.rank is
    'Its place in a file.';
comment on column tinydevcrm.definition_keys.name is
    'The key.';
comment on column tinydevcrm.definition_keys.type is
    'What it holds: text, number, boolean, list (of texts), object, or query, which is the text below '
    'the comment block of the file of a view.';
comment on column tinydevcrm.definition_keys.is_kept is
    'Whether what it sets stays as it is when the key is not there: what people do in operation, such '
    'as a pause.';
comment on column tinydevcrm.definition_keys.is_secret is
    'Whether it may hold secrets. Files give these by reference to the environment: ${NAME}.';
comment on column tinydevcrm.definition_keys.description is
    'What it sets, in one sentence.';

insert into tinydevcrm.definition_keys (kind, rank, name, type, is_kept, is_secret, description)
values ('table', 1, 'tracked', 'boolean', false, false,
        'Whether its changes are tracked, so that views that read it are refreshed only after one.'),
       ('view', 1, 'description', 'text', false, false,
        'The comment on the materialized view, which messages show.'),
       ('view', 2, 'schedule', 'text', false, false,
        'When it is refreshed, such as daily at 7:00, or on change; it has none by default.'),
       ('view', 3, 'catch_up', 'boolean', false, false,
        'Whether a time that passes while the database is down is made up for; by default when it is '
        'due at most once an hour.'),
       ('view', 4, 'refresh_interval', 'text', false, false,
        'On change: shortest time between two refreshes, 1 second by default.'),
       ('view', 5, 'paused', 'boolean', true, false,
        'Whether its schedule is paused.'),
       ('view', 6, 'notify_when', 'text', false, false,
        'The rule for when a refresh notifies; not_empty by default.'),
       ('view', 7, 'notify_interval', 'text', false, false,
        'Shortest time between two refreshes that notify; none by default.'),
       ('view', 8, 'notify_after', 'number', false, false,
        'In how many refreshes in a row the rule must hold; 1 by default.'),
       ('view', 9, 'notify_deadline', 'text', false, false,
        'When its tables have not changed for so long, it is silent; none by default.'),
       ('view', 10, 'muted_until', 'text', true, false,
        'Until when nothing notifies.'),
       ('view', 11, 'key', 'list', false, false,
        'Columns that identify a row.'),
       ('view', 12, 'ignored_columns', 'list', false, false,
        'Columns that comparisons ignore.'),
       ('view', 13, 'origins', 'list', false, false,
        'Sites that may show it as a widget. With any, its rows are public.'),
       ('view', 14, 'query', 'query', false, false,
        'The query.'),
       ('source', 1, 'url', 'text', false, true,
        'What is fetched.'),
       ('source', 2, 'headers', 'object', false, true,
        'Headers of each request.'),
       ('source', 3, 'table', 'text', false, false,
        'Where the rows go; a table of the name of the source by default.'),
       ('source', 4, 'mode', 'text', false, false,
        'replace (the default), append or upsert.'),
       ('source', 5, 'key', 'list', false, false,
        'Columns by which upsert finds a row.'),
       ('source', 6, 'options', 'object', false, false,
        'Options of the import.'),
       ('source', 7, 'schedule', 'text', false, false,
        'When it is fetched; on request only by default.'),
       ('source', 8, 'refuse_if_fewer', 'number', false, false,
        'A file with fewer rows than this share of those of the last one is refused.'),
       ('source', 9, 'accepts_empty', 'boolean', false, false,
        'Whether a file without rows is imported.'),
       ('source', 10, 'notify_deadline', 'text', false, false,
        'When nothing new has come for so long, an event notifies.'),
       ('source', 11, 'paused', 'boolean', true, false,
        'Whether its schedule is paused.'),
       ('subscription', 1, 'view', 'text', false, false,
        'The view whose events it gets; those of all views by default.'),
       ('subscription', 2, 'url', 'text', false, true,
        'Where a webhook posts. Without it and without recipients a worker receives the events.'),
       ('subscription', 3, 'recipients', 'list', false, false,
        'The addresses of an e-mail.'),
       ('subscription', 4, 'format', 'text', false, false,
        'The format of a webhook; that which fits the URL by default.'),
       ('subscription', 5, 'headers', 'object', false, true,
        'Headers of each post.'),
       ('subscription', 6, 'secret', 'text', true, true,
        'What signs the messages of a webhook; a new one is made by default.'),
       ('subscription', 7, 'digest', 'text', false, false,
        'When its deliveries are sent, all as one message.'),
       ('subscription', 8, 'notify_when', 'list', false, false,
        'Rules of its own.'),
       ('subscription', 9, 'each_row', 'boolean', false, false,
        'Whether each row is a delivery of its own.'),
       ('subscription', 10, 'to_column', 'text', false, false,
        'The column with the address of who gets a row.'),
       ('subscription', 11, 'allowed_domains', 'list', false, false,
        'The domains to which these addresses must belong.'),
       ('subscription', 12, 'max_attempts', 'number', false, false,
        'How often a delivery is tried; 12 by default.'),
       ('subscription', 13, 'numbers_as_text', 'boolean', false, false,
        'Whether the numbers in the rows of its events are texts.'),
       ('subscription', 14, 'groups_failures', 'boolean', false, false,
        'Whether views that fail for one reason are one delivery; by default for webhooks and e-mails.'),
       ('subscription', 15, 'title', 'text', false, false,
        'Template of the titles.'),
       ('subscription', 16, 'message', 'text', false, false,
        'Template of the texts.'),
       ('subscription', 17, 'paused', 'boolean', true, false,
        'Whether it is paused.'),
       ('subscription', 18, 'muted_until', 'text', true, false,
        'Until when it gets no events.');

alter table tinydevcrm.definition_keys enable row level security;

create policy definition_keys_read on tinydevcrm.definition_keys
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.definition_keys to tinydevcrm_user;

create type tinydevcrm._definition as (
    kind        text,
    name        text,
    schema_name text,
    relname     text,
    definition  jsonb,
    texts       jsonb
);

comment on type tinydevcrm._definition is
    'What is defined: its kind and its name, for a view as SQL writes it, with its schema and name as '
    'they are; the keys of tinydevcrm.definition_keys that differ from the default; and how a file '
    'writes those that may be secret.';

create function tinydevcrm._without_nulls(document jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(given.key, given.value), '{}')
      from jsonb_each(_without_nulls.document) as given
     where given.value <> 'null'
$$;

comment on function tinydevcrm._without_nulls(jsonb) is
    'An object without the keys whose value is null; values within values stay.';

create function tinydevcrm._shorten_name(schema_name text, relname text, home name)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _shorten_name.schema_name = _shorten_name.home then quote_ident(_shorten_name.relname)
               else format('%I.%I', _shorten_name.schema_name, _shorten_name.relname)
           end
$$;

comment on function tinydevcrm._shorten_name(text, text, name) is
    'The name of a relation as SQL writes it, with its schema unless that is home.';

create function tinydevcrm._show_time(at timestamptz)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _show_time.at > now() then
                   to_char(_show_time.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
           end
$$;

comment on function tinydevcrm._show_time(timestamptz) is
    'A time as files write it; null when it is past.';

-- Prints names as the session would write them. So it sets no search_path and qualifies all names.
create function tinydevcrm._print_queries()
    returns jsonb
    language sql
    stable
as $$
    select coalesce(
               pg_catalog.jsonb_object_agg(
                   matviews.id::pg_catalog.text, tinydevcrm._show_query(matviews.relation)),
               '{}')
      from tinydevcrm.matviews
      join tinydevcrm.matview_definitions as definitions
        on definitions.matview_id operator(pg_catalog.=) matviews.id
     where matviews.owner operator(pg_catalog.=)
               pg_catalog.quote_ident(current_user)::pg_catalog.regrole
       and (definitions.written is null
            or definitions.written_for operator(pg_catalog.<>) definitions.query)
$$;

comment on function tinydevcrm._print_queries() is
    'The queries of your views whose text as it was typed is not known, as Postgres prints them, by '
    'the numbers of the registrations.';

revoke execute on function
    tinydevcrm._without_nulls(jsonb),
    tinydevcrm._shorten_name(text, text, name),
    tinydevcrm._show_time(timestamptz),
    tinydevcrm._print_queries()
from public;

grant execute on function
    tinydevcrm._without_nulls(jsonb),
    tinydevcrm._shorten_name(text, text, name),
    tinydevcrm._show_time(timestamptz),
    tinydevcrm._print_queries()
to tinydevcrm_user;
