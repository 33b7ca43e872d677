-- The functions that users call to create, watch and drop a materialized view.

create function tinydevcrm._find_registration(relation regclass)
    returns tinydevcrm.matviews
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews;
begin
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.relation = _find_registration.relation;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format(
                'materialized view %s is not watched',
                coalesce(_find_registration.relation::text, 'null')),
            hint    = 'Start with tinydevcrm.watch_matview() or tinydevcrm.create_matview().';
    end if;

    return v_matview;
end
$$;

comment on function tinydevcrm._find_registration(regclass) is
    'The registration of a materialized view. Raises TD001 when it is not watched.';

create function tinydevcrm._find_own_matview(relation regclass)
    returns tinydevcrm.matviews
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(_find_own_matview.relation);
begin
    -- An administrator sees the registrations of other owners too.
    if not pg_has_role(v_matview.owner, 'usage') then
        raise exception using
            errcode = '42501',
            message = format('must be owner of materialized view %s', _find_own_matview.relation);
    end if;

    return v_matview;
end
$$;

comment on function tinydevcrm._find_own_matview(regclass) is
    'The registration of a materialized view of yours. Raises TD001 when it is not watched, 42501 '
    'when it is not yours.';

create function tinydevcrm.watch_matview(
    relation        regclass,
    notify_when     text default null,
    ignored_columns text[] default null,
    notify_interval interval default null,
    notify_after    integer default null,
    notify_deadline interval default null
)
    returns tinydevcrm.matviews
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_class   pg_class;
    v_unknown text;
    v_matview tinydevcrm.matviews;
begin
    select pg_class.*
      into v_class
      from pg_class
     where oid = watch_matview.relation;

    if v_class.relkind is distinct from 'm' then
        raise exception using
            errcode = 'TD008',
            message = format(
                '%s is not a materialized view', coalesce(watch_matview.relation::text, 'null')),
            hint    = 'Create one with create materialized view or tinydevcrm.create_matview().';
    end if;

    if not pg_has_role(v_class.relowner, 'usage') then
        raise exception using
            errcode = '42501',
            message = format('must be owner of materialized view %s', watch_matview.relation);
    end if;

    select ignored.name
      into v_unknown
      from unnest(watch_matview.ignored_columns) as ignored (name)
     where ignored.name is null
        or not exists (
        select
          from pg_attribute
         where attrelid = watch_matview.relation
           and attname = ignored.name
           and attnum > 0
           and not attisdropped
     )
     limit 1;

    if found then
        raise exception using
            errcode = 'TD007',
            message = format(
                '%s has no column %s',
                watch_matview.relation, coalesce(quote_ident(v_unknown), 'null')),
            hint    = 'Only columns of the materialized view can be ignored.';
    end if;

    -- Takes the lock of a refresh first: so the two wait for each other and cannot deadlock.
    perform
       from tinydevcrm._locks
      where _locks.what = 'matview'
        and _locks.id = (
            select matviews.id
              from tinydevcrm.matviews
             where matviews.relation = watch_matview.relation
        )
        for update;

    insert into tinydevcrm.matviews (
               relation, notify_when, ignored_columns, notify_interval, notify_after,
               notify_deadline)
    values (
               watch_matview.relation,
               coalesce(watch_matview.notify_when, 'not_empty'),
               coalesce(watch_matview.ignored_columns, '{}'),
               coalesce(watch_matview.notify_interval, '0'),
               coalesce(watch_matview.notify_after, 1),
               coalesce(watch_matview.notify_deadline, '0'))
    on conflict on constraint matviews_relation_unique do update
       set notify_when = coalesce(watch_matview.notify_when, matviews.notify_when),
           ignored_columns = coalesce(watch_matview.ignored_columns, matviews.ignored_columns),
           notify_interval = coalesce(watch_matview.notify_interval, matviews.notify_interval),
           notify_after = coalesce(watch_matview.notify_after, matviews.notify_after),
           notify_deadline = coalesce(watch_matview.notify_deadline, matviews.notify_deadline)
    returning matviews.*
         into v_matview;

    if v_matview.last_refreshed_at is null and tinydevcrm._is_session_of(v_matview.owner) then
        perform tinydevcrm._track_reads(v_matview.relation);
    end if;

    if watch_matview.notify_deadline is not null then
        perform tinydevcrm._check_deadline(v_matview);
    end if;

    return v_matview;
exception
    when check_violation or foreign_key_violation then
        raise exception using
            errcode = 'TD007',
            message = format(
                'there is no rule %L with the interval %s after %s refreshes in a row, deadline %s',
                coalesce(watch_matview.notify_when, 'not_empty'),
                coalesce(watch_matview.notify_interval, '0'),
                coalesce(watch_matview.notify_after, 1),
                coalesce(watch_matview.notify_deadline, '0')),
            hint    = format(
                'The rules are %s; an interval is 0 to 10 years; notify_after is 1 to 1000; a '
                'deadline is 2 minutes to 10 years, or 0 for none.',
                (
                    select string_agg(notify_rules.name, ', ' order by notify_rules.rank)
                      from tinydevcrm.notify_rules
                ));
end
$$;

comment on function tinydevcrm.watch_matview(
    regclass, text, text[], interval, integer, interval
) is
    'Registers an existing materialized view, or changes the notify rule of a registered one: see '
    'tinydevcrm.matviews. A null argument leaves its setting as it is; for a new registration it '
    'means not_empty, no columns, no interval, after one refresh, no deadline. Raises TD007 for an '
    'unknown rule or column, a value that is out of range, a deadline when no table that the view '
    'reads is tracked or imported, or when the view belongs to a group such as tinydevcrm_user, '
    'TD008 when the relation is not a materialized view, 42501 when it is not yours.';

create function tinydevcrm._suggest_rule(
    relation        regclass,
    out notify_when text,
    out reason      text
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(_suggest_rule.relation);
    v_limit   integer;
    v_count   bigint;
begin
    select settings.suggested_row_limit
      into v_limit
      from tinydevcrm.settings;

    if v_matview.is_tracked then
        _suggest_rule.notify_when := 'changed';
        _suggest_rule.reason := 'its tables are tracked: its rows are compared only after a change';
        return;
    end if;

    perform tinydevcrm._check_session_of(_suggest_rule.relation);
    execute format(
        'select count(*) from (select from %s limit $1::bigint + 1) as counted',
        _suggest_rule.relation)
       into v_count
      using v_limit;

    if v_count <= v_limit then
        _suggest_rule.notify_when := 'changed';
        _suggest_rule.reason := format(
            'it has at most %s rows, which are compared quickly', v_limit);
    else
        _suggest_rule.notify_when := 'not_empty';
        _suggest_rule.reason := format(
            'it has more than %s rows, and is refreshed at each round, because %s: comparing its '
            'rows each time would be slow', v_limit, v_matview.untracked_reason);
    end if;
end
$$;

comment on function tinydevcrm._suggest_rule(regclass) is
    'The notify rule that fits a new view, and why: changed when the view is tracked, or has at '
    'most tinydevcrm.settings.suggested_row_limit rows; else not_empty. The page and the command '
    'line use it for a view that is created without a rule. Volatile, so that it sees a view which '
    'the same statement has created. Raises TD001 when the view is not watched, 42501 when it has '
    'to count rows and the session has not logged in as the owner.';

-- Runs the caller's query, so it sets no search_path and qualifies all names.
create function tinydevcrm.create_matview(
    name            text,
    query           text,
    notify_when     text default 'not_empty',
    schema_name     name default current_schema(),
    key             text[] default null,
    ignored_columns text[] default null,
    notify_interval interval default null,
    notify_after    integer default null,
    notify_deadline interval default null
)
    returns regclass
    language plpgsql
    volatile
as $$
declare
    v_statement text := tinydevcrm._build_matview_statement(
        create_matview.schema_name, create_matview.name);
    v_relation  regclass;
begin
    if not tinydevcrm._is_session_of(pg_catalog.quote_ident(current_user)::pg_catalog.regrole) then
        raise exception using
            errcode = '42501',
            message = pg_catalog.format(
                'this session has not logged in as %s, who would own the materialized view',
                current_user),
            hint    = 'Log in as its owner: code in indexes, defaults, checks and triggers of a '
                      'table runs as the role that writes or reads it.';
    end if;

    perform tinydevcrm._check_query(create_matview.query);

    perform tinydevcrm._make_view(v_statement, create_matview.query);
    v_relation := tinydevcrm._relation(create_matview.schema_name, create_matview.name);
    perform tinydevcrm.watch_matview(
        v_relation,
        create_matview.notify_when,
        create_matview.ignored_columns,
        create_matview.notify_interval,
        create_matview.notify_after,
        create_matview.notify_deadline);
    if create_matview.notify_when is null then
        perform tinydevcrm.watch_matview(
            v_relation, (tinydevcrm._suggest_rule(v_relation)).notify_when);
    end if;
    perform tinydevcrm._set_key(v_relation, create_matview.key);
    perform tinydevcrm._keep_written(v_relation, create_matview.query);

    return v_relation;
end
$$;

comment on function tinydevcrm.create_matview(
    text, text, text, name, text[], text[], interval, integer, interval
) is
    'Creates a materialized view of one query in the first schema of your search_path, fills it '
    'and registers it. For rule, ignored columns, interval, notify_after and deadline see '
    'tinydevcrm.matviews; the rule null means that of tinydevcrm._suggest_rule(). The key is '
    'columns that identify a row; it lets others read the view during a refresh. Nothing notifies '
    'before the first refresh. Raises TD002 when the query is not exactly one that returns rows, '
    'TD004 when the name is in use, TD007 for a bad name or rule, TD009 when two rows have the '
    'same key, 42501 after "set role", and the errors of the query.';

create function tinydevcrm._build_matview_statement(schema_name name, name text)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._check_schema(_build_matview_statement.schema_name);

    if coalesce(octet_length(_build_matview_statement.name), 0) not between 1 and 63 then
        raise exception using
            errcode = 'TD007',
            message = format(
                '%L cannot be the name of a materialized view', _build_matview_statement.name),
            hint    = 'A name has 1 to 63 bytes.';
    end if;

    if tinydevcrm._relation(
           _build_matview_statement.schema_name, _build_matview_statement.name) is not null
    then
        raise exception using
            errcode = 'TD004',
            message = format('%I.%I is there already',
                _build_matview_statement.schema_name, _build_matview_statement.name),
            hint    = 'Choose another name, or drop it.';
    end if;

    return format(
        'create materialized view %I.%I as ',
        _build_matview_statement.schema_name,
        _build_matview_statement.name);
end
$$;

comment on function tinydevcrm._build_matview_statement(name, text) is
    'The statement that creates a materialized view, up to its query. Raises TD004 when the name '
    'is in use, TD007 for a bad name or no schema.';

create function tinydevcrm._relation(schema_name name, name text)
    returns regclass
    language sql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select to_regclass(format('%I.%I', _relation.schema_name, _relation.name))
$$;

comment on function tinydevcrm._relation(name, text) is
    'The relation of that schema and name; null when there is none.';

revoke execute on function
    tinydevcrm._find_registration(regclass),
    tinydevcrm._find_own_matview(regclass),
    tinydevcrm.watch_matview(regclass, text, text[], interval, integer, interval),
    tinydevcrm._suggest_rule(regclass),
    tinydevcrm.create_matview(
        text, text, text, name, text[], text[], interval, integer, interval),
    tinydevcrm._build_matview_statement(name, text),
    tinydevcrm._relation(name, text)
from public;

grant execute on function
    tinydevcrm._find_registration(regclass),
    tinydevcrm._find_own_matview(regclass),
    tinydevcrm.watch_matview(regclass, text, text[], interval, integer, interval),
    tinydevcrm._suggest_rule(regclass),
    tinydevcrm.create_matview(
        text, text, text, name, text[], text[], interval, integer, interval),
    tinydevcrm._build_matview_statement(name, text),
    tinydevcrm._relation(name, text)
to tinydevcrm_user;
