-- Where files come from again and again: a URL that the orchestrator fetches by a schedule, and how what
-- it gets is imported.

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
    file_texts         jsonb not null default '{}',
    next_due_at        timestamptz,
    etag               text,
    last_modified      text,
    import_number      bigint,
    row_count          bigint,
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
    constraint sources_file_texts_short check (
        jsonb_typeof(file_texts) = 'object' and octet_length(file_texts::text) <= 65536
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
comment on column tinydevcrm.sources.file_texts is
    'How a file gave URL and headers, as in tinydevcrm.subscriptions.';
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

create index sources_due_idx on tinydevcrm.sources (owner, next_due_at);

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
          notify_deadline, is_paused, is_dropped, file_texts)
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
    select '{"keep_table": "yes"}' || coalesce(jsonb_object_agg(given.key, given.value), '{}')
      from jsonb_each(_list_shape_options.options) as given
     where given.key in ('new_columns', 'missing_columns', 'widen', 'keep_table', 'bad')
$$;

comment on function tinydevcrm._list_shape_options(jsonb) is
    'Of the options of a source, those of tinydevcrm.begin_import(). The table keeps its columns and '
    'types unless they say otherwise, so that views on it stay.';

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

    -- Each costs whoever lists or counts them all.
    if tg_op = 'INSERT' and (
           select count(*) >= 1000
             from tinydevcrm.sources
            where sources.owner = new.owner
       )
    then
        raise exception using
            errcode = 'TD007',
            message = 'you have 1000 sources, which is the most',
            hint    = 'Drop one that you no longer need.';
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
       or (new.url, new.headers, new.mode, new.key, new.options)
          is distinct from (old.url, old.headers, old.mode, old.key, old.options)
    then
        new.etag := null;
        new.last_modified := null;
    end if;

    return new;
end
$$;

comment on function tinydevcrm._sources_fill_in() is
    'Checks a source, and sets when it is due. Raises TD003 when its schedule is none, TD007 for more '
    'than 1000 sources, and when its URL, headers, schema, mode, key or options cannot be used.';

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

revoke execute on function
    tinydevcrm._compute_next_fetch(text, timestamptz),
    tinydevcrm._find_source_problem(tinydevcrm.sources),
    tinydevcrm._sources_fill_in(),
    tinydevcrm._list_shape_options(jsonb),
    tinydevcrm._sources_drop()
from public;

grant execute on function
    tinydevcrm._compute_next_fetch(text, timestamptz),
    tinydevcrm._find_source_problem(tinydevcrm.sources),
    tinydevcrm._list_shape_options(jsonb)
to tinydevcrm_user;
