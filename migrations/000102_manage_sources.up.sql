-- The calls that create, change, run, pause and drop sources.

create function tinydevcrm._find_own_source(name text)
    returns bigint
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    select sources.id
      into v_id
      from tinydevcrm.sources
     where sources.owner = quote_ident(current_user)::regrole
       and sources.name = _find_own_source.name;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('there is no source %L', coalesce(_find_own_source.name, '')),
            hint    = 'Create one with tinydevcrm.create_source().';
    end if;

    return v_id;
end
$$;

comment on function tinydevcrm._find_own_source(text) is
    'Number of a source of the caller. Raises TD001 when there is none of that name.';

create function tinydevcrm._request_run(source_id bigint, is_forced boolean)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into tinydevcrm.source_runs (source_id, is_forced)
    select sources.id,
           coalesce(_request_run.is_forced, false)
      from tinydevcrm.sources
     where sources.id = _request_run.source_id
       and sources.url !~ '^file:'
        on conflict do nothing;

    -- One that waits for its next attempt does not wait any longer.
    update tinydevcrm.source_runs
       set hidden_for = interval '0'
     where source_runs.source_id = _request_run.source_id
       and source_runs.status = 'waiting';

    perform tinydevcrm._notify(0);
end
$$;

comment on function tinydevcrm._request_run(bigint, boolean) is
    'Makes a source due now, unless a run of it is open, and wakes the orchestrators.';

create function tinydevcrm._refuse_source(name text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The error of the constraint would show the whole row, with the URL and the headers.
    raise exception using
        errcode = 'TD007',
        message = format('%L cannot be a source', _refuse_source.name),
        hint    = 'A name has 1 to 63 bytes, a URL up to 2000 characters, all headers 16 kB, the mode is '
                  'replace, append or upsert, refuse_if_fewer a share from 0 to 1, a deadline at least '
                  'a minute.';
end
$$;

comment on function tinydevcrm._refuse_source(text) is
    'Raises TD007 for a source that a constraint refuses.';

create function tinydevcrm.create_source(
    name            text,
    url             text,
    table_name      text default null,
    mode            text default 'replace',
    key             text[] default null,
    options         jsonb default '{}',
    schedule        text default null,
    headers         jsonb default '{}',
    refuse_if_fewer numeric default null,
    accepts_empty   boolean default false,
    notify_deadline interval default '0',
    schema_name     name default current_schema()
)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    insert into tinydevcrm.sources (
               name, url, table_name, mode, key, options, schedule, headers, refuse_if_fewer,
               accepts_empty, notify_deadline, schema_name)
    values (
               create_source.name,
               create_source.url,
               tinydevcrm._check_table_name(
                   coalesce(nullif(create_source.table_name, ''), create_source.name)),
               coalesce(create_source.mode, 'replace'),
               nullif(create_source.key, '{}'),
               coalesce(create_source.options, '{}'),
               nullif(create_source.schedule, ''),
               coalesce(create_source.headers, '{}'),
               create_source.refuse_if_fewer,
               coalesce(create_source.accepts_empty, false),
               coalesce(create_source.notify_deadline, '0'),
               create_source.schema_name)
    returning sources.id
         into v_id;

    perform tinydevcrm._request_run(v_id, false);
    return v_id;
exception
    when unique_violation then
        raise exception using
            errcode = 'TD004',
            message = format('source %L is there already', create_source.name),
            hint    = 'Choose another name, or drop it with tinydevcrm.drop_source().';
    when check_violation or not_null_violation or foreign_key_violation then
        perform tinydevcrm._refuse_source(create_source.name);
end
$$;

comment on function tinydevcrm.create_source(
    text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name
) is
    'Creates a source and has it fetched, now and by its schedule, such as ''daily at 6:00''; without '
    'one only on request. The file goes into the table (by default of the same name) of your '
    'schema. options are those of an upload: see tinydevcrm.sources. headers are sent with each '
    'request. A file is refused that has no rows, unless it accepts_empty, or fewer than the share '
    'refuse_if_fewer of those of the last one. When nothing new has come for notify_deadline, an '
    'event notifies. Returns the number of the source. Raises TD003 for a bad schedule, TD004 when '
    'there is a source of that name, TD007 for a bad name, URL, header, mode, key, option or limit.';

create function tinydevcrm.run_source(name text, is_forced boolean default false)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._request_run(
               tinydevcrm._find_own_source(run_source.name), run_source.is_forced)
$$;

comment on function tinydevcrm.run_source(text, boolean) is
    'Has a source fetched now, also while it is paused. is_forced fetches it even if the server has '
    'nothing new. A run that is open goes on instead. Raises TD001 when there is no such source.';

create function tinydevcrm.alter_source(
    name            text,
    url             text default null,
    headers         jsonb default null,
    options         jsonb default null,
    schedule        text default null,
    refuse_if_fewer numeric default null,
    notify_deadline interval default null,
    mode            text default null,
    key             text[] default null,
    accepts_empty   boolean default null
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.sources
       set url = coalesce(alter_source.url, sources.url),
           headers = coalesce(alter_source.headers, sources.headers),
           options = coalesce(alter_source.options, sources.options),
           schedule = case
               when alter_source.schedule is null then sources.schedule
               else nullif(alter_source.schedule, '')
           end,
           refuse_if_fewer = coalesce(alter_source.refuse_if_fewer, sources.refuse_if_fewer),
           notify_deadline = coalesce(alter_source.notify_deadline, sources.notify_deadline),
           mode = coalesce(alter_source.mode, sources.mode),
           key = case
               when alter_source.key is not null then nullif(alter_source.key, '{}')
               when coalesce(alter_source.mode, sources.mode) = 'upsert' then sources.key
           end,
           accepts_empty = coalesce(alter_source.accepts_empty, sources.accepts_empty)
     where sources.id = tinydevcrm._find_own_source(alter_source.name);
exception
    when check_violation or not_null_violation or foreign_key_violation then
        perform tinydevcrm._refuse_source(alter_source.name);
end
$$;

comment on function tinydevcrm.alter_source(
    text, text, jsonb, jsonb, text, numeric, interval, text, text[], boolean
) is
    'Changes a source; what is null stays. Headers, options and key replace all that there were. An empty '
    'schedule ends it, 0 ends refuse_if_fewer and notify_deadline. After a change of the URL, headers, '
    'mode, key or options the next file counts as new. Raises TD001 when there is no such source, and the '
    'errors of tinydevcrm.create_source().';

create function tinydevcrm._set_source_pause(name text, is_paused boolean)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.sources
       set is_paused = _set_source_pause.is_paused
     where sources.id = tinydevcrm._find_own_source(_set_source_pause.name)
$$;

comment on function tinydevcrm._set_source_pause(text, boolean) is
    'Pauses or resumes a source. Raises TD001 when there is no such source.';

create function tinydevcrm.pause_source(name text)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._set_source_pause(pause_source.name, true)
$$;

comment on function tinydevcrm.pause_source(text) is
    'Pauses the schedule of a source. Raises TD001 when there is no such source.';

create function tinydevcrm.resume_source(name text)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._set_source_pause(resume_source.name, false)
$$;

comment on function tinydevcrm.resume_source(text) is
    'Ends the pause of a source: it is fetched at the next time of its schedule. Raises TD001 when '
    'there is no such source.';

create function tinydevcrm.drop_source(name text)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.sources
       set is_dropped = true
     where sources.id = tinydevcrm._find_own_source(drop_source.name)
$$;

comment on function tinydevcrm.drop_source(text) is
    'Drops a source with its runs. The table stays. Raises TD001 when there is no such source.';

revoke execute on function
    tinydevcrm._find_own_source(text),
    tinydevcrm._refuse_source(text),
    tinydevcrm.create_source(
        text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name),
    tinydevcrm._request_run(bigint, boolean),
    tinydevcrm.run_source(text, boolean),
    tinydevcrm.alter_source(
        text, text, jsonb, jsonb, text, numeric, interval, text, text[], boolean),
    tinydevcrm._set_source_pause(text, boolean),
    tinydevcrm.pause_source(text),
    tinydevcrm.resume_source(text),
    tinydevcrm.drop_source(text)
from public;

grant execute on function
    tinydevcrm._find_own_source(text),
    tinydevcrm._refuse_source(text),
    tinydevcrm.create_source(
        text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name),
    tinydevcrm._request_run(bigint, boolean),
    tinydevcrm.run_source(text, boolean),
    tinydevcrm.alter_source(
        text, text, jsonb, jsonb, text, numeric, interval, text, text[], boolean),
    tinydevcrm._set_source_pause(text, boolean),
    tinydevcrm.pause_source(text),
    tinydevcrm.resume_source(text),
    tinydevcrm.drop_source(text)
to tinydevcrm_user;
