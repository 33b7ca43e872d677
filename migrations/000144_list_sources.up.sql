-- What the page lists of sources, and shows of one.

create function tinydevcrm._list_sources(
    part          text,
    sort          text default null,
    is_descending boolean default false,
    row_limit     integer default null,
    row_offset    integer default 0
)
    returns setof tinydevcrm.source_status
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- In two steps, so that the last runs are read only for those that are shown.
    with named as (
        select sources.name,
               case
                   when _list_sources.sort is distinct from 'name' then
                       tinydevcrm._needs_attention(tinydevcrm._source_state(sources))
               end as is_troubled
          from tinydevcrm.sources
         where sources.owner = quote_ident(current_user)::regrole
           and position(
                   lower(_list_sources.part)
                   in lower(concat_ws(' ', sources.name, sources.table_name))) > 0
        -- Keeps the state from being computed for each comparison.
        offset 0
    ),
    shown as (
        select named.name,
               row_number() over (
                   order by named.is_troubled desc,
                            case when _list_sources.is_descending then named.name end desc,
                            named.name) as place
          from named
         order by place
         limit _list_sources.row_limit
        offset _list_sources.row_offset
    )
    select source_status.*
      from tinydevcrm.source_status
      join shown
        on shown.name = source_status.name
     where source_status.owner = quote_ident(current_user)::regrole
       -- Goes into the view, which would be read whole otherwise.
       and source_status.name = any (array(select shown.name from shown))
     order by shown.place
$$;

comment on function tinydevcrm._list_sources(text, text, boolean, integer, integer) is
    'Your sources of which the name or that of the table contains a part. Those that need attention come '
    'first, unless sort is name.';

create function tinydevcrm._describe_source(name text)
    returns table (
        source          tinydevcrm.source_status,
        words           text,
        table_key       text,
        upsert_key      text[],
        options         jsonb,
        header_names    text[],
        refuse_if_fewer numeric,
        accepts_empty   boolean,
        is_paused       boolean,
        is_open         boolean,
        created_at      timestamptz
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select source_status,
           case
               when sources.schedule is not null then
                   (tinydevcrm.describe_schedule(sources.schedule)).words
           end,
           (
               select format('%I.%I', pg_namespace.nspname, pg_class.relname)
                 from pg_class
                 join pg_namespace
                   on pg_namespace.oid = pg_class.relnamespace
                where pg_namespace.nspname = sources.schema_name
                  and pg_class.relname = sources.table_name
                  and tinydevcrm._is_session_of(pg_class.relowner)
           ),
           coalesce(sources.key, '{}'),
           sources.options,
           array(
               select headers.name
                 from jsonb_object_keys(sources.headers) as headers (name)
                order by headers.name
           ),
           nullif(sources.refuse_if_fewer, 0),
           sources.accepts_empty,
           sources.is_paused,
           exists (
               select
                 from tinydevcrm.source_runs
                where source_runs.source_id = sources.id
                  and source_runs.finished_at is null
           ),
           sources.created_at
      from tinydevcrm.sources
      join tinydevcrm.source_status
        on source_status.owner = sources.owner
       and source_status.name = sources.name
     where sources.owner = quote_ident(current_user)::regrole
       and _describe_source.name in (sources.name, quote_ident(sources.name))
     order by sources.name = _describe_source.name desc
     limit 1
$$;

comment on function tinydevcrm._describe_source(text) is
    'What the page of your source shows beside its runs. The name is as it is, or quoted where SQL needs '
    'that, as in events. Of its headers only the names, as the values may be secrets. table_key is null while '
    'there is no such table of the role that has logged in. is_open says that a run is under way.';

create function tinydevcrm._advise_run(error_code text, error_message text)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when coalesce(_advise_run.error_code, '') <> 'TD013' then null
               when _advise_run.error_message ~ '^40[137]\M' then
                   'Check the headers, or user and password: the server does not accept them.'
               when _advise_run.error_message ~ '^(404|410)\M' then
                   'Check the URL: the server has no such file.'
               when _advise_run.error_message ~ '^(408|425|429|5\d\d)\M' then
                   'The server is busy or in trouble. It is asked again.'
               when _advise_run.error_message like '%web page%' then
                   'Mostly it is the page of a log-in. Check the URL, the headers, or user and password.'
               when _advise_run.error_message like '%is private%' then
                   'Use a public address, or start the orchestrator with --allow-webhooks-to and its '
                   'network.'
               when _advise_run.error_message like '%--max-upload%' then
                   'Start the orchestrator with a larger --max-upload, or fetch a smaller file.'
               when _advise_run.error_message like '%redirect%' then
                   'Enter the URL to which the server leads.'
               else 'Check whether the server answers at this URL. It is asked again at the next time.'
           end
$$;

comment on function tinydevcrm._advise_run(text, text) is
    'What to do when a file could not be fetched (TD013); null for other errors, which have hints of '
    'their own.';

create function tinydevcrm._list_source_runs(name text, before bigint, row_limit integer)
    returns table (
        id              bigint,
        status          text,
        attempts        integer,
        filename        text,
        import_number   bigint,
        byte_count      bigint,
        row_count       bigint,
        error_code      text,
        error_message   text,
        advice          text,
        created_at      timestamptz,
        finished_at     timestamptz,
        next_attempt_at timestamptz,
        is_late         boolean
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select source_runs.id,
           source_runs.status,
           source_runs.attempts,
           source_runs.filename,
           source_runs.import_number,
           source_runs.byte_count,
           source_runs.row_count,
           source_runs.error_code,
           source_runs.error_message,
           tinydevcrm._advise_run(source_runs.error_code, source_runs.error_message),
           source_runs.created_at,
           source_runs.finished_at,
           case when source_runs.status = 'waiting' then source_runs.visible_at end,
           tinydevcrm._is_run_late(source_runs)
      from tinydevcrm.source_runs
     where source_runs.source_id = tinydevcrm._find_own_source(_list_source_runs.name)
       and (_list_source_runs.before is null or source_runs.id < _list_source_runs.before)
     order by source_runs.id desc
     limit _list_source_runs.row_limit
$$;

comment on function tinydevcrm._list_source_runs(text, bigint, integer) is
    'The runs of your source, newest first; with before those before this one. next_attempt_at is null '
    'unless the run waits for it. Raises TD001 when there is no such source.';

create function tinydevcrm._list_sources_of(table_key text)
    returns table (name text, schedule text, state text, is_troubled boolean)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select judged.name,
           judged.schedule,
           judged.state,
           tinydevcrm._needs_attention(judged.state)
      from (
        select sources.name,
               sources.schedule,
               tinydevcrm._source_state(sources) as state
          from tinydevcrm.sources
         where sources.owner = quote_ident(current_user)::regrole
           and format('%I.%I', sources.schema_name, sources.table_name) = _list_sources_of.table_key
        offset 0
      ) as judged
     order by judged.name
$$;

comment on function tinydevcrm._list_sources_of(text) is
    'Your sources that fill a table, which has its name with its schema, quoted where needed.';

revoke execute on function
    tinydevcrm._list_sources(text, text, boolean, integer, integer),
    tinydevcrm._describe_source(text),
    tinydevcrm._advise_run(text, text),
    tinydevcrm._list_source_runs(text, bigint, integer),
    tinydevcrm._list_sources_of(text)
from public;

grant execute on function
    tinydevcrm._list_sources(text, text, boolean, integer, integer),
    tinydevcrm._describe_source(text),
    tinydevcrm._advise_run(text, text),
    tinydevcrm._list_source_runs(text, bigint, integer),
    tinydevcrm._list_sources_of(text)
to tinydevcrm_user;
