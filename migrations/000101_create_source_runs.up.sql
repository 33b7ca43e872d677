-- What became of the sources: a run each time that one is due or asked for.

create table tinydevcrm.source_runs (
    id            bigint generated always as identity,
    source_id     bigint not null,
    owner         regrole not null,
    status        text not null default 'due',
    is_forced     boolean not null default false,
    attempts      integer not null default 0,
    hidden_for    interval not null default interval '0',
    visible_at    timestamptz not null default clock_timestamp(),
    filename     text,
    etag          text,
    last_modified text,
    dialect       tinydevcrm.csv_dialect,
    header        text[],
    problems      jsonb,
    import_number bigint,
    byte_count    bigint,
    row_count     bigint,
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
    constraint source_runs_filename_length check (octet_length(filename) <= 1000),
    constraint source_runs_etag_length check (octet_length(etag) <= 2000),
    constraint source_runs_last_modified_length check (octet_length(last_modified) <= 200),
    constraint source_runs_header_length check (octet_length(header::text) <= 1000000),
    constraint source_runs_problems_length check (octet_length(problems::text) <= 4000000),
    constraint source_runs_dialect_length check (octet_length(dialect::text) <= 4000),
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
comment on column tinydevcrm.source_runs.filename is
    'Name of the file, for the log of imports.';
comment on column tinydevcrm.source_runs.etag is
    'The ETag of the answer.';
comment on column tinydevcrm.source_runs.last_modified is
    'Its Last-Modified.';
comment on column tinydevcrm.source_runs.dialect is
    'How a staged file was written.';
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

create index source_runs_visible_idx on tinydevcrm.source_runs (owner, visible_at)
 where finished_at is null;

-- Which source an import came from.
create index source_runs_import_idx on tinydevcrm.source_runs (import_number)
 where import_number is not null;

alter table tinydevcrm.source_runs enable row level security;

create policy source_runs_owner on tinydevcrm.source_runs
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

grant select,
      insert (source_id, is_forced),
      update (
          status, attempts, hidden_for, filename, etag, last_modified, dialect, header, problems,
          import_number, byte_count, row_count, error_code, error_message)
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
        -- Null for one that the caller does not see, which row-level security then refuses. Locked
        -- before the run has its place in the index, where an orchestrator would wait for it.
        select sources.owner
          into new.owner
          from tinydevcrm.sources
         where sources.id = new.source_id
           for key share;
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

revoke execute on function
    tinydevcrm._source_runs_fill_in(),
    tinydevcrm._source_runs_note_due(),
    tinydevcrm._source_runs_end()
from public;
