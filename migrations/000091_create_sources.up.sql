-- Where files come from again and again: the orchestrator fetches a URL by a schedule, and imports what
-- it gets. sources say what, source_runs what became of it.

create table tinydevcrm.sources (
    id                 bigint generated always as identity,
    owner              regrole not null default quote_ident(current_user)::regrole,
    name               text not null,
    url                text not null,
    headers            jsonb not null default '{}',
    schema_name        name not null default current_schema(),
    table_name         name not null,
    mode               text not null default 'replace',
    key                text[],
    options            jsonb not null default '{}',
    refuse_if_fewer    numeric,
    accepts_empty      boolean not null default false,
    schedule           text,
    notify_deadline    interval not null default interval '0',
    is_paused          boolean not null default false,
    is_dropped         boolean not null default false,
    next_due_at        timestamptz,
    etag               text,
    last_modified      text,
    import_number      bigint,
    row_count          bigint,
    columns            jsonb,
    created_at         timestamptz not null default clock_timestamp(),
    checked_at         timestamptz,
    imported_at        timestamptz,
    failing_since      timestamptz,
    silent_since       timestamptz,

    constraint sources_pkey primary key (id),
    constraint sources_name_unique unique (owner, name),
    constraint sources_mode_fkey foreign key (mode)
        references tinydevcrm.import_modes (name),
    constraint sources_name_length check (octet_length(name) between 1 and 63),
    constraint sources_url_length check (length(url) between 1 and 2000),
    constraint sources_headers_are_object check (
        jsonb_typeof(headers) = 'object' and octet_length(headers::text) <= 16384
    ),
    constraint sources_table_name_length check (octet_length(table_name::text) between 1 and 63),
    constraint sources_key_of_upsert check ((mode = 'upsert') = (key is not null)),
    constraint sources_key_length check (octet_length(key::text) <= 10000),
    constraint sources_options_are_object check (
        jsonb_typeof(options) = 'object' and octet_length(options::text) <= 16384
    ),
    constraint sources_refuse_if_fewer_range check (refuse_if_fewer between 0 and 1),
    constraint sources_schedule_length check (octet_length(schedule) <= 200),
    constraint sources_notify_deadline_range check (
        notify_deadline = interval '0'
        or notify_deadline between interval '1 minute' and interval '10 years'
    )
);

comment on table tinydevcrm.sources is
    'Where files come from again and again. The orchestrator fetches each by its schedule and '
    'imports it into a table. Create one with tinydevcrm.create_source().';
comment on column tinydevcrm.sources.id is
    'Number of the source.';
comment on column tinydevcrm.sources.owner is
    'Role that created it, and that owns the table.';
comment on column tinydevcrm.sources.name is
    'Its name, which is unique for its owner.';
comment on column tinydevcrm.sources.url is
    'What is fetched: a URL that a trigger has checked, or file: and a pattern for the names of files '
    'in the folder of orchestrator up --inbox.';
comment on column tinydevcrm.sources.headers is
    'Headers of each request, such as {"Authorization": "Bearer …"}, which a trigger has checked. '
    'They may be secrets: no list or log shows them. A redirect to another host does not get them.';
comment on column tinydevcrm.sources.schema_name is
    'Schema of the table.';
comment on column tinydevcrm.sources.table_name is
    'Table that the rows go into. The first import creates it.';
comment on column tinydevcrm.sources.mode is
    'What an import does with the rows that are there.';
comment on column tinydevcrm.sources.key is
    'Columns by which mode upsert finds a row.';
comment on column tinydevcrm.sources.options is
    'Further options of the import, by the names of those of POST /upload-file: {"delimiter": ";", '
    '"null": ["NA", "-"], "type": {"zip": "text"}, "new_columns": "add"}.';
comment on column tinydevcrm.sources.refuse_if_fewer is
    'A file is refused when it has fewer rows than this share of those of the last import, 0 to 1; '
    'null for never.';
comment on column tinydevcrm.sources.accepts_empty is
    'Whether a file without rows is imported. Otherwise it is refused.';
comment on column tinydevcrm.sources.schedule is
    'When it is fetched, as it was typed; null for on request only.';
comment on column tinydevcrm.sources.notify_deadline is
    'When nothing new has come for so long, an event notifies, a minute to ten years; 0 for never.';
comment on column tinydevcrm.sources.is_paused is
    'Whether its schedule is paused. It can still be fetched on request.';
comment on column tinydevcrm.sources.is_dropped is
    'Setting it drops the source with its runs. The table stays.';
comment on column tinydevcrm.sources.next_due_at is
    'When it is fetched next; null when it is paused or has no schedule. Triggers write this and the '
    'columns below.';
comment on column tinydevcrm.sources.etag is
    'The ETag of the last file that was imported, for the server to answer that it has not changed.';
comment on column tinydevcrm.sources.last_modified is
    'Its Last-Modified, likewise.';
comment on column tinydevcrm.sources.import_number is
    'Number of the last import.';
comment on column tinydevcrm.sources.row_count is
    'How many rows that file had.';
comment on column tinydevcrm.sources.columns is
    'The columns of that file, as in tinydevcrm.imports.';
comment on column tinydevcrm.sources.created_at is
    'When it was created.';
comment on column tinydevcrm.sources.checked_at is
    'When a run last ended.';
comment on column tinydevcrm.sources.imported_at is
    'When something new was last imported.';
comment on column tinydevcrm.sources.failing_since is
    'When the first of the runs ended that have failed since the last success; null when the last one '
    'succeeded.';
comment on column tinydevcrm.sources.silent_since is
    'When an event has said that nothing new has come within notify_deadline; null since something '
    'has.';

create index sources_mode_idx on tinydevcrm.sources (mode);

create index sources_due_idx on tinydevcrm.sources (next_due_at);

alter table tinydevcrm.sources enable row level security;

create policy sources_owner on tinydevcrm.sources
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

grant select,
      insert (
          name, url, headers, schema_name, table_name, mode, key, options, refuse_if_fewer,
          accepts_empty, schedule, notify_deadline),
      update (
          url, headers, mode, key, options, refuse_if_fewer, accepts_empty, schedule,
          notify_deadline, is_paused, is_dropped)
   on tinydevcrm.sources
   to tinydevcrm_user;

create function tinydevcrm._compute_next_fetch(schedule text, after timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule record;
begin
    if _compute_next_fetch.schedule is null then
        return null;
    end if;

    select parsed.*
      into v_schedule
      from tinydevcrm._parse_schedule(_compute_next_fetch.schedule) as parsed;

    if v_schedule.schedule = 'on change' or v_schedule.seconds is not null then
        raise exception using
            errcode = 'TD003',
            message = format(
                '%L cannot be the schedule of a source', left(_compute_next_fetch.schedule, 50)),
            hint    = 'Write when it is fetched, at most once a minute: "every 10 minutes", "daily at '
                      '6:00 Europe/Berlin".';
    end if;

    return tinydevcrm._compute_next_due(
        null, v_schedule.schedule, v_schedule.time_zone, _compute_next_fetch.after);
end
$$;

comment on function tinydevcrm._compute_next_fetch(text, timestamptz) is
    'When a source is fetched first after a time; null without a schedule. Raises TD003 when it is '
    'not a schedule by the clock, of a minute or more.';

create function tinydevcrm._find_source_problem(source tinydevcrm.sources)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (source).url ~ '^file:' then
        return case
            when (source).url !~ '^file:[^/\\[:cntrl:]]+$' or (source).url ~ '^file:\.' then
                'a pattern for files has no folder and does not begin with a dot: file:orders-*.csv'
            when (source).schedule is not null then
                'a file is imported as soon as it is there: leave the schedule out'
            when not pg_has_role((source).owner, 'tinydevcrm_orchestrator', 'usage') then
                'files in the inbox are for the role of the orchestrator alone'
        end;
    end if;

    return coalesce(
        tinydevcrm._find_url_problem((source).url),
        tinydevcrm._find_header_problem((source).headers));
end
$$;

comment on function tinydevcrm._find_source_problem(tinydevcrm.sources) is
    'Why the URL of a source cannot be fetched with its headers; null when there is nothing against '
    'it. Never shows the URL or a header, which may be secrets.';

create function tinydevcrm._list_shape_options(options jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(given.key, given.value), '{}')
      from jsonb_each(_list_shape_options.options) as given
     where given.key in ('new_columns', 'missing_columns', 'widen', 'bad')
$$;

comment on function tinydevcrm._list_shape_options(jsonb) is
    'Of the options of an upload, those of tinydevcrm.begin_import().';

create function tinydevcrm._sources_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text;
begin
    -- A source can be paused even if its URL would be refused by now.
    if tg_op = 'INSERT'
       or (new.url, new.headers, new.schedule) is distinct from (old.url, old.headers, old.schedule)
    then
        v_problem := tinydevcrm._find_source_problem(new);
    end if;

    if v_problem is not null then
        raise exception using
            errcode = 'TD007',
            message = format('source %L cannot be fetched: %s', new.name, v_problem),
            hint    = case
                when v_problem like '% is private' then
                    'Use a public address, or start the orchestrator with --allow-webhooks-to and '
                    'its network.'
                when new.url ~ '^file:' then 'Write it as file:orders-*.csv.'
                else 'Write it as https://example.com/export.csv, and secrets as headers.'
            end;
    end if;

    perform tinydevcrm._check_schema(new.schema_name);

    if new.mode = 'create' then
        raise exception using
            errcode = 'TD007',
            message = 'a source cannot have the mode create, which takes one file only',
            hint    = 'The first file creates the table in each mode: replace, append or upsert.';
    end if;

    if (new.mode = 'upsert') <> (coalesce(cardinality(new.key), 0) > 0) then
        raise exception using
            errcode = 'TD007',
            message = 'mode upsert needs a key, and other modes take none',
            hint    = 'Name the columns by which a row is found: key => ''{id}''.';
    end if;

    -- Its other options are those of the program.
    perform tinydevcrm._check_options(tinydevcrm._list_shape_options(new.options));

    if new.options ?| '{table,mode,key,distribute_by}'
       or jsonb_typeof(coalesce(new.options->'type', '{}')) <> 'object'
    then
        raise exception using
            errcode = 'TD007',
            message = 'table, mode and key are no options of a source, and type is an object',
            hint    = 'Write types as {"type": {"zip": "text"}}.';
    end if;

    new.next_due_at := case
        when not new.is_paused then
            tinydevcrm._compute_next_fetch(new.schedule, clock_timestamp())
    end;

    if tg_op = 'UPDATE' and new.notify_deadline <> old.notify_deadline then
        new.silent_since := null;
    end if;

    -- What the old file was tells nothing about another one.
    if tg_op = 'INSERT'
       or (new.url, new.headers, new.mode, new.options)
          is distinct from (old.url, old.headers, old.mode, old.options)
    then
        new.etag := null;
        new.last_modified := null;
    end if;

    return new;
end
$$;

comment on function tinydevcrm._sources_fill_in() is
    'Checks a source, and sets when it is due. Raises TD003 when its schedule is none, TD007 when its '
    'URL, headers, schema, mode, key or options cannot be used.';

create trigger _100_fill_in
    before insert
        or update of url, headers, mode, key, options, schedule, notify_deadline, is_paused
    on tinydevcrm.sources
    for each row
    execute function tinydevcrm._sources_fill_in();

create function tinydevcrm._sources_drop()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.sources
     where sources.id = new.id;
    return null;
end
$$;

comment on function tinydevcrm._sources_drop() is
    'Deletes a source whose owner has set is_dropped. Security definer: lends delete on that one '
    'row. As a trigger it runs only for a change that row-level security has let through.';

create trigger _900_drop
    after update of is_dropped on tinydevcrm.sources
    for each row
    when (new.is_dropped)
    execute function tinydevcrm._sources_drop();

create table tinydevcrm.source_runs (
    id            bigint generated always as identity,
    source_id     bigint not null,
    owner         regrole not null,
    status        text not null default 'due',
    is_forced     boolean not null default false,
    attempts      integer not null default 0,
    hidden_for    interval not null default interval '0',
    visible_at    timestamptz not null default clock_timestamp(),
    file_name     text,
    etag          text,
    last_modified text,
    header        text[],
    problems      jsonb,
    import_number bigint,
    byte_count    bigint,
    row_count     bigint,
    columns       jsonb,
    error_code    text,
    error_message text,
    created_at    timestamptz not null default clock_timestamp(),
    finished_at   timestamptz,

    constraint source_runs_pkey primary key (id),
    constraint source_runs_source_fkey foreign key (source_id)
        references tinydevcrm.sources (id) on delete cascade,
    constraint source_runs_status_known check (
        status = any (array[
            'due', 'fetching', 'waiting', 'staged', 'imported', 'unchanged', 'failed'])
    ),
    constraint source_runs_attempts_range check (attempts between 0 and 1000),
    constraint source_runs_hidden_for_range check (
        hidden_for between interval '0' and interval '7 days'
    ),
    constraint source_runs_file_name_length check (octet_length(file_name) <= 1000),
    constraint source_runs_etag_length check (octet_length(etag) <= 2000),
    constraint source_runs_last_modified_length check (octet_length(last_modified) <= 200),
    constraint source_runs_header_length check (octet_length(header::text) <= 1000000),
    constraint source_runs_problems_length check (octet_length(problems::text) <= 4000000),
    constraint source_runs_columns_length check (octet_length(columns::text) <= 4000000),
    constraint source_runs_counts_not_negative check (
        import_number >= 0 and byte_count >= 0 and row_count >= 0
    ),
    constraint source_runs_error_length check (
        octet_length(error_code) <= 5 and octet_length(error_message) <= 10000
    )
);

comment on table tinydevcrm.source_runs is
    'What became of the sources: one row each time that a source was due or asked for. One run of a '
    'source is open at a time.';
comment on column tinydevcrm.source_runs.id is
    'Number of the run.';
comment on column tinydevcrm.source_runs.source_id is
    'The source.';
comment on column tinydevcrm.source_runs.owner is
    'Owner of the source.';
comment on column tinydevcrm.source_runs.status is
    'due: an orchestrator takes it next; fetching: one has taken it; waiting: the attempt failed and '
    'is repeated; staged: fetched, and a job of the owner imports it. At the end: imported; '
    'unchanged: the server has nothing new; failed.';
comment on column tinydevcrm.source_runs.is_forced is
    'Whether it is fetched even if the server has nothing new.';
comment on column tinydevcrm.source_runs.attempts is
    'How many times it was taken. Only the last attempt may end it.';
comment on column tinydevcrm.source_runs.hidden_for is
    'For how long from now on no orchestrator takes it, at most 7 days. Sets visible_at.';
comment on column tinydevcrm.source_runs.visible_at is
    'From when on an orchestrator takes it; one that is fetching it puts this off. So a run of a '
    'program that has ended is taken again.';
comment on column tinydevcrm.source_runs.file_name is
    'Name of the file, for the log of imports.';
comment on column tinydevcrm.source_runs.etag is
    'The ETag of the answer.';
comment on column tinydevcrm.source_runs.last_modified is
    'Its Last-Modified.';
comment on column tinydevcrm.source_runs.header is
    'The columns of a staged file.';
comment on column tinydevcrm.source_runs.problems is
    'The lines of a staged file that were repaired or left out, as in tinydevcrm.import_problems; up '
    'to 1000.';
comment on column tinydevcrm.source_runs.import_number is
    'Number of its import; null when there is none.';
comment on column tinydevcrm.source_runs.byte_count is
    'Bytes of the file, as they were received.';
comment on column tinydevcrm.source_runs.row_count is
    'Rows of the file.';
comment on column tinydevcrm.source_runs.columns is
    'Columns of the import, as in tinydevcrm.imports.';
comment on column tinydevcrm.source_runs.error_code is
    'SQLSTATE of the last failure, TD013 when the file could not be fetched; null when there was none.';
comment on column tinydevcrm.source_runs.error_message is
    'What the last failure was, without the URL and the headers.';
comment on column tinydevcrm.source_runs.created_at is
    'When it was due.';
comment on column tinydevcrm.source_runs.finished_at is
    'When it ended; null while it is open.';

-- The next one begins when the last one has ended.
create unique index source_runs_open_unique on tinydevcrm.source_runs (source_id)
 where finished_at is null;

create index source_runs_source_idx on tinydevcrm.source_runs (source_id, id);

create index source_runs_visible_idx on tinydevcrm.source_runs (visible_at)
 where finished_at is null;

alter table tinydevcrm.source_runs enable row level security;

create policy source_runs_owner on tinydevcrm.source_runs
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

grant select,
      insert (source_id, is_forced),
      update (
          status, attempts, hidden_for, file_name, etag, last_modified, header, problems,
          import_number, byte_count, row_count, columns, error_code, error_message)
   on tinydevcrm.source_runs
   to tinydevcrm_user;

create function tinydevcrm._source_runs_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        -- Null for one that the caller does not see, which row-level security then refuses.
        select sources.owner
          into new.owner
          from tinydevcrm.sources
         where sources.id = new.source_id;
        return new;
    end if;

    if old.finished_at is not null then
        raise exception using
            errcode = 'TD001',
            message = format('run %s has ended', old.id);
    end if;

    new.visible_at := clock_timestamp() + new.hidden_for;
    new.finished_at := case
        when new.status in ('imported', 'unchanged', 'failed') then clock_timestamp()
    end;
    return new;
end
$$;

comment on function tinydevcrm._source_runs_fill_in() is
    'Sets the owner of a run, and its times. Raises TD001 for a run that has ended.';

create trigger _100_fill_in
    before insert or update on tinydevcrm.source_runs
    for each row
    execute function tinydevcrm._source_runs_fill_in();

create function tinydevcrm._source_runs_note_due()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.sources
       set next_due_at = tinydevcrm._compute_next_fetch(sources.schedule, clock_timestamp())
     where sources.id = new.source_id
       and sources.next_due_at <= clock_timestamp();
    return null;
end
$$;

comment on function tinydevcrm._source_runs_note_due() is
    'Sets when a source that has just become due is due again. Security definer: users cannot write '
    'that time. As a trigger it runs only for a run that row-level security has let through.';

create trigger _500_note_due
    after insert on tinydevcrm.source_runs
    for each row
    execute function tinydevcrm._source_runs_note_due();

create function tinydevcrm._source_runs_end()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.sources
       set checked_at = new.finished_at,
           failing_since = case
               when new.status = 'failed' then coalesce(sources.failing_since, new.finished_at)
           end
     where sources.id = new.source_id;

    if new.status = 'imported' then
        update tinydevcrm.sources
           set etag = new.etag,
               last_modified = new.last_modified,
               import_number = new.import_number,
               row_count = new.row_count,
               columns = new.columns,
               imported_at = new.finished_at,
               silent_since = null
         where sources.id = new.source_id;
    end if;

    return null;
end
$$;

comment on function tinydevcrm._source_runs_end() is
    'Records with a source how its run has ended. Security definer: users cannot write these columns. '
    'As a trigger it runs only for a change of a run that row-level security has let through.';

create trigger _500_end
    after update of status on tinydevcrm.source_runs
    for each row
    when (new.finished_at is not null)
    execute function tinydevcrm._source_runs_end();

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
        raise exception using
            errcode = 'TD007',
            message = format('%L cannot be a source', create_source.name),
            hint    = 'A name has 1 to 63 bytes, the mode is replace, append or upsert, '
                      'refuse_if_fewer a share from 0 to 1, a deadline at least a minute.';
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
    notify_deadline interval default null
)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.sources
       set url = coalesce(alter_source.url, sources.url),
           headers = coalesce(alter_source.headers, sources.headers),
           options = coalesce(alter_source.options, sources.options),
           schedule = case
               when alter_source.schedule is null then sources.schedule
               else nullif(alter_source.schedule, '')
           end,
           refuse_if_fewer = coalesce(alter_source.refuse_if_fewer, sources.refuse_if_fewer),
           notify_deadline = coalesce(alter_source.notify_deadline, sources.notify_deadline)
     where sources.id = tinydevcrm._find_own_source(alter_source.name)
$$;

comment on function tinydevcrm.alter_source(text, text, jsonb, jsonb, text, numeric, interval) is
    'Changes a source; what is null stays. Headers and options replace all that there were. An empty '
    'schedule ends it. The next file counts as new. Raises TD001 when there is no such source, and '
    'the errors of tinydevcrm.create_source().';

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
    tinydevcrm._compute_next_fetch(text, timestamptz),
    tinydevcrm._find_source_problem(tinydevcrm.sources),
    tinydevcrm._sources_fill_in(),
    tinydevcrm._list_shape_options(jsonb),
    tinydevcrm._sources_drop(),
    tinydevcrm._source_runs_fill_in(),
    tinydevcrm._source_runs_note_due(),
    tinydevcrm._source_runs_end(),
    tinydevcrm._find_own_source(text),
    tinydevcrm.create_source(
        text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name),
    tinydevcrm._request_run(bigint, boolean),
    tinydevcrm.run_source(text, boolean),
    tinydevcrm.alter_source(text, text, jsonb, jsonb, text, numeric, interval),
    tinydevcrm._set_source_pause(text, boolean),
    tinydevcrm.pause_source(text),
    tinydevcrm.resume_source(text),
    tinydevcrm.drop_source(text)
from public;

grant execute on function
    tinydevcrm._compute_next_fetch(text, timestamptz),
    tinydevcrm._find_source_problem(tinydevcrm.sources),
    tinydevcrm._list_shape_options(jsonb),
    tinydevcrm._find_own_source(text),
    tinydevcrm.create_source(
        text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name),
    tinydevcrm._request_run(bigint, boolean),
    tinydevcrm.run_source(text, boolean),
    tinydevcrm.alter_source(text, text, jsonb, jsonb, text, numeric, interval),
    tinydevcrm._set_source_pause(text, boolean),
    tinydevcrm.pause_source(text),
    tinydevcrm.resume_source(text),
    tinydevcrm.drop_source(text)
to tinydevcrm_user;
