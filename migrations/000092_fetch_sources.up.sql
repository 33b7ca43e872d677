-- How orchestrators fetch: each takes a run for a minute and puts that off while it works. What it
-- answers counts only while the run is still its own, and in the transaction of the import.

create function tinydevcrm._make_due_runs()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    insert into tinydevcrm.source_runs (source_id)
    select due.id
      from (
        select sources.id
          from tinydevcrm.sources
         where sources.next_due_at <= clock_timestamp()
           and not exists (
               select
                 from tinydevcrm.source_runs
                where source_runs.source_id = sources.id
                  and source_runs.finished_at is null
           )
           -- Leaves out one for which its owner is just creating a run: that would be waited for.
           for update skip locked
      ) as due
        on conflict do nothing
$$;

comment on function tinydevcrm._make_due_runs() is
    'Creates a run for each source that is due and has none open. Never waits.';

create function tinydevcrm._is_fetchable(owner regrole)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._is_session_of(_is_fetchable.owner)
        or pg_has_role('tinydevcrm_orchestrator', 'usage')
$$;

comment on function tinydevcrm._is_fetchable(regrole) is
    'Whether this session may fetch the sources of a role: its own, and as an orchestrator all.';

create function tinydevcrm._fail_lost_runs()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.source_runs
       set status = 'failed',
           hidden_for = interval '0',
           error_code = 'TD013',
           error_message = 'the orchestrator ended during each of five attempts'
     where source_runs.id in (
         select lost.id
           from tinydevcrm.source_runs as lost
          where lost.status = 'fetching'
            and lost.attempts >= 5
            and lost.finished_at is null
            and lost.visible_at <= clock_timestamp()
            for no key update skip locked
     )
$$;

comment on function tinydevcrm._fail_lost_runs() is
    'Fails runs during whose attempts the program has ended again and again, as if killed by the file.';

create function tinydevcrm._take_run(hidden_for interval default interval '1 minute')
    returns tinydevcrm.source_runs
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_run tinydevcrm.source_runs;
begin
    perform tinydevcrm._make_due_runs(), tinydevcrm._fail_lost_runs();

    -- One run of another owner at a time, so that slow servers cost only those who named them.
    select source_runs.*
      into v_run
      from tinydevcrm.source_runs
     where source_runs.finished_at is null
       and source_runs.visible_at <= clock_timestamp()
       and source_runs.status <> 'staged'
       and tinydevcrm._is_fetchable(source_runs.owner)
       -- Files are taken from the inbox.
       and exists (
           select
             from tinydevcrm.sources
            where sources.id = source_runs.source_id
              and sources.url !~ '^file:'
       )
       and (
           tinydevcrm._is_session_of(source_runs.owner)
           or not exists (
               select
                 from tinydevcrm.source_runs as others
                where others.owner = source_runs.owner
                  and others.status = 'fetching'
                  and others.finished_at is null
                  and others.visible_at > clock_timestamp()
           )
       )
     order by source_runs.visible_at
     limit 1
       for no key update skip locked;

    if not found then
        return null;
    end if;

    update tinydevcrm.source_runs
       set status = 'fetching',
           attempts = least(source_runs.attempts + 1, 1000),
           hidden_for = _take_run.hidden_for
     where source_runs.id = v_run.id
    returning source_runs.*
         into v_run;
    return v_run;
end
$$;

comment on function tinydevcrm._take_run(interval) is
    'Takes the run that is due the longest, for a time after which another orchestrator may take it; '
    'null when there is none. Never waits.';

create function tinydevcrm._take_file(file_name text)
    returns tinydevcrm.source_runs
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_source_id bigint;
    v_run       tinydevcrm.source_runs;
begin
    select sources.id
      into v_source_id
      from tinydevcrm.sources
     where sources.url ~ '^file:'
       and not sources.is_paused
       and tinydevcrm._is_session_of(sources.owner)
       and _take_file.file_name like translate(
               regexp_replace(substr(sources.url, 6), '([\\%_])', '\\\1', 'g'), '*?', '%_')
     order by length(sources.url) desc,
              sources.id
     limit 1;

    if not found then
        return null;
    end if;

    -- One that is open was left by a program that was killed.
    insert into tinydevcrm.source_runs (source_id)
    values (v_source_id)
        on conflict do nothing;
    update tinydevcrm.source_runs
       set status = 'fetching',
           attempts = least(source_runs.attempts + 1, 1000),
           hidden_for = interval '1 minute'
     where source_runs.source_id = v_source_id
       and source_runs.finished_at is null
    returning source_runs.*
         into v_run;
    return v_run;
end
$$;

comment on function tinydevcrm._take_file(text) is
    'Begins a run for a file of the inbox: of the source of this session''s role with the longest '
    'pattern that fits its name; null when none does.';

create function tinydevcrm._describe_run(run tinydevcrm.source_runs)
    returns table (
        id            bigint,
        attempt       integer,
        source        text,
        url           text,
        headers       jsonb,
        etag          text,
        last_modified text,
        is_own        boolean,
        schema_name   text,
        table_name    text,
        mode          text,
        key           text[],
        options       jsonb
    )
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- Volatile, so that it sees what tinydevcrm._take_run() saw in the same statement: a source that was
    -- committed a moment ago.
    select run.id,
           run.attempts,
           sources.name,
           sources.url,
           sources.headers,
           known.etag,
           known.last_modified,
           is_own,
           sources.schema_name::text,
           sources.table_name::text,
           sources.mode,
           sources.key,
           case
               when is_own then sources.options
               -- The types and what the table wants are for the job of the owner.
               else (
                   select coalesce(jsonb_object_agg(given.key, given.value), '{}')
                     from jsonb_each(sources.options - 'type') as given
                    where not tinydevcrm._list_shape_options(sources.options) ? given.key
               ) || '{"type": {"*": "text"}}'
           end
      from tinydevcrm.sources
     cross join lateral (
         select tinydevcrm._is_session_of(sources.owner) as is_own
     ) as session
      -- What the server has is nothing new only while the table has it too.
      left join lateral (
          select sources.etag,
                 sources.last_modified
           where not run.is_forced
             -- Not to_regclass(), which needs a right on the schema.
             and exists (
                 select
                   from pg_class
                   join pg_namespace
                     on pg_namespace.oid = pg_class.relnamespace
                  where pg_namespace.nspname = sources.schema_name
                    and pg_class.relname = sources.table_name
             )
      ) as known
        on true
     where sources.id = run.source_id
$$;

comment on function tinydevcrm._describe_run(tinydevcrm.source_runs) is
    'What an orchestrator needs to fetch a run: the URL, the headers, what the server said of the last '
    'file, and how to import the new one. is_own: this session may import it into the table. '
    'Otherwise the options are those that make a staging table of texts.';

create function tinydevcrm._lock_run(run_id bigint, attempt integer)
    returns tinydevcrm.source_runs
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- Its owner may have locked it. Then it is taken again.
    set lock_timeout = '5s'
as $$
declare
    v_run tinydevcrm.source_runs;
begin
    select source_runs.*
      into v_run
      from tinydevcrm.source_runs
     where source_runs.id = _lock_run.run_id
       and source_runs.attempts = _lock_run.attempt
       and source_runs.status = 'fetching'
       for no key update;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format('attempt %s of run %s has ended', _lock_run.attempt, _lock_run.run_id),
            hint    = 'Another orchestrator has taken it, or the source was dropped.';
    end if;

    return v_run;
end
$$;

comment on function tinydevcrm._lock_run(bigint, integer) is
    'Locks a run that an orchestrator has taken. Raises TD001 when that is over.';

create function tinydevcrm._extend_run(run_id bigint, attempt integer, hidden_for interval)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._lock_run(_extend_run.run_id, _extend_run.attempt);
    update tinydevcrm.source_runs
       set hidden_for = _extend_run.hidden_for
     where source_runs.id = _extend_run.run_id;
end
$$;

comment on function tinydevcrm._extend_run(bigint, integer, interval) is
    'Keeps a run that an orchestrator has taken for some time from now on. Raises TD001 when that is '
    'over.';

create function tinydevcrm._return_run(run_id bigint, attempt integer)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
as $$
begin
    perform tinydevcrm._lock_run(_return_run.run_id, _return_run.attempt);
    update tinydevcrm.source_runs
       set status = 'due',
           attempts = source_runs.attempts - 1,
           hidden_for = interval '0'
     where source_runs.id = _return_run.run_id;
    perform tinydevcrm._notify(0);
end
$$;

comment on function tinydevcrm._return_run(bigint, integer) is
    'Returns a run that an orchestrator which ends cannot finish. Raises TD001 when another one has '
    'taken it.';

create function tinydevcrm._check_rows(source tinydevcrm.sources, import tinydevcrm.imports)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_least   constant bigint := ceil((source).refuse_if_fewer * (source).row_count);
    v_options constant jsonb :=
        tinydevcrm._check_options(tinydevcrm._list_shape_options((source).options));
    v_changes text;
begin
    if (import).row_count = 0 and not (source).accepts_empty then
        raise exception using
            errcode = 'TD005',
            message = 'the file has no rows',
            hint    = 'If that is right, create the source with accepts_empty.';
    elsif (import).row_count < v_least then
        raise exception using
            errcode = 'TD006',
            message = format(
                'the file has %s rows, and the last one had %s', (import).row_count,
                (source).row_count),
            hint    = format(
                'Fewer than %s are refused (refuse_if_fewer = %s). If it is right, change that.',
                v_least, (source).refuse_if_fewer);
    end if;

    -- The other modes have compared the file with the table.
    if (import).mode <> 'replace' then
        return;
    end if;

    select string_agg(changes.what, ', ' order by changes.what)
      into v_changes
      from (
        select case
                   when before.name is null and v_options->>'new_columns' = 'refuse' then
                       format('%I is new', after.name)
                   when after.name is null and v_options->>'missing_columns' = 'refuse' then
                       format('%I is missing', before.name)
                   when before.type <> after.type and v_options->>'widen' = 'no' then
                       format('%I is %s and was %s', before.name, after.type, before.type)
               end as what
          from jsonb_to_recordset((source).columns) as before (name text, type text)
          full join jsonb_to_recordset((import).columns) as after (name text, type text)
            on after.name = before.name
         where (source).columns is not null
      ) as changes;

    if v_changes is not null then
        raise exception using
            errcode = 'TD006',
            message = format('the columns differ from those of the last file: %s', left(v_changes, 2000)),
            hint    = 'Let columns come (new_columns: add or ignore), go (missing_columns: null) or '
                      'get other types (widen: yes).';
    end if;
end
$$;

comment on function tinydevcrm._check_rows(tinydevcrm.sources, tinydevcrm.imports) is
    'Checks an import of a source before its commit. Raises TD005 when the file has no rows, TD006 '
    'when it has fewer than refuse_if_fewer allows, or, in mode replace, other columns or types than '
    'the last one and the options do not let them come and go.';

create function tinydevcrm._end_run(
    run_id        bigint,
    import_id     bigint,
    etag          text,
    last_modified text
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import tinydevcrm.imports;
    v_source tinydevcrm.sources;
begin
    select imports.*
      into v_import
      from tinydevcrm.imports
     where imports.id = _end_run.import_id;

    select sources.*
      into v_source
      from tinydevcrm.source_runs
      join tinydevcrm.sources
        on sources.id = source_runs.source_id
     where source_runs.id = _end_run.run_id;

    perform tinydevcrm._check_rows(v_source, v_import);

    update tinydevcrm.source_runs
       set status = 'imported',
           hidden_for = interval '0',
           etag = left(_end_run.etag, 500),
           last_modified = left(_end_run.last_modified, 100),
           file_name = v_import.source,
           import_number = v_import.id,
           byte_count = coalesce(v_import.byte_count, source_runs.byte_count),
           row_count = v_import.row_count,
           columns = v_import.columns,
           error_code = null,
           error_message = null
     where source_runs.id = _end_run.run_id;
end
$$;

comment on function tinydevcrm._end_run(bigint, bigint, text, text) is
    'Ends a run in the transaction of its import, and before the commit. Raises the errors of '
    'tinydevcrm._check_rows(), which then undo the import.';

create function tinydevcrm._finish_run(
    run_id        bigint,
    attempt       integer,
    import_id     bigint,
    etag          text,
    last_modified text
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
as $$
begin
    perform tinydevcrm._lock_run(_finish_run.run_id, _finish_run.attempt);
    perform tinydevcrm._end_run(
        _finish_run.run_id, _finish_run.import_id, _finish_run.etag, _finish_run.last_modified);
end
$$;

comment on function tinydevcrm._finish_run(bigint, integer, bigint, text, text) is
    'Ends a run that an orchestrator has imported, as tinydevcrm._end_run(). Raises TD001 when '
    'another one has taken it.';

create function tinydevcrm._note_unchanged(run_id bigint, attempt integer)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
as $$
begin
    perform tinydevcrm._lock_run(_note_unchanged.run_id, _note_unchanged.attempt);
    update tinydevcrm.source_runs
       set status = 'unchanged',
           hidden_for = interval '0',
           error_code = null,
           error_message = null
     where source_runs.id = _note_unchanged.run_id;
end
$$;

comment on function tinydevcrm._note_unchanged(bigint, integer) is
    'Ends a run whose server has nothing new. Raises TD001 when another orchestrator has taken it.';

create function tinydevcrm._fail_run(
    run_id        bigint,
    attempt       integer,
    error_code    text,
    error_message text,
    is_final      boolean,
    retry_after   interval default interval '0'
)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
as $$
declare
    v_run tinydevcrm.source_runs := tinydevcrm._lock_run(_fail_run.run_id, _fail_run.attempt);
begin
    update tinydevcrm.source_runs
       set status = case when tries.are_over then 'failed' else 'waiting' end,
           error_code = left(coalesce(nullif(_fail_run.error_code, ''), 'TD013'), 5),
           error_message = left(_fail_run.error_message, 2500),
           hidden_for = case
               when tries.are_over then interval '0'
               else least(
                   greatest(
                       -- 15 s, 45 s, 2 min, 7 min, each plus or minus half.
                       interval '5 seconds' * 3 ^ v_run.attempts * (0.5 + random()),
                       _fail_run.retry_after),
                   interval '1 hour')
           end
      from (
        select _fail_run.is_final or v_run.attempts >= 5 as are_over
      ) as tries
     where source_runs.id = v_run.id
    returning source_runs.*
         into v_run;
    return v_run.status = 'failed';
end
$$;

comment on function tinydevcrm._fail_run(bigint, integer, text, text, boolean, interval) is
    'Records that an attempt has failed. The run is repeated with exponential backoff, up to five '
    'attempts, unless the failure is_final; the next time of the schedule is another run. Returns '
    'whether the run has ended. Raises TD001 when another orchestrator has taken it.';

revoke execute on function
    tinydevcrm._make_due_runs(),
    tinydevcrm._is_fetchable(regrole),
    tinydevcrm._fail_lost_runs(),
    tinydevcrm._take_run(interval),
    tinydevcrm._take_file(text),
    tinydevcrm._describe_run(tinydevcrm.source_runs),
    tinydevcrm._lock_run(bigint, integer),
    tinydevcrm._extend_run(bigint, integer, interval),
    tinydevcrm._return_run(bigint, integer),
    tinydevcrm._check_rows(tinydevcrm.sources, tinydevcrm.imports),
    tinydevcrm._end_run(bigint, bigint, text, text),
    tinydevcrm._finish_run(bigint, integer, bigint, text, text),
    tinydevcrm._note_unchanged(bigint, integer),
    tinydevcrm._fail_run(bigint, integer, text, text, boolean, interval)
from public;

grant execute on function
    tinydevcrm._make_due_runs(),
    tinydevcrm._is_fetchable(regrole),
    tinydevcrm._fail_lost_runs(),
    tinydevcrm._take_run(interval),
    tinydevcrm._take_file(text),
    tinydevcrm._describe_run(tinydevcrm.source_runs),
    tinydevcrm._lock_run(bigint, integer),
    tinydevcrm._extend_run(bigint, integer, interval),
    tinydevcrm._return_run(bigint, integer),
    tinydevcrm._check_rows(tinydevcrm.sources, tinydevcrm.imports),
    tinydevcrm._end_run(bigint, bigint, text, text),
    tinydevcrm._finish_run(bigint, integer, bigint, text, text),
    tinydevcrm._note_unchanged(bigint, integer),
    tinydevcrm._fail_run(bigint, integer, text, text, boolean, interval)
to tinydevcrm_user;
