-- What orchestrators answer. It counts only while the run is still their own, and is written in the
-- transaction of the import, which what is refused undoes.

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
    v_least constant bigint := ceil((source).refuse_if_fewer * (source).row_count);
begin
    if (import).row_count = 0 and not (source).accepts_empty then
        raise exception using
            errcode = 'TD005',
            message = 'the file has no rows',
            hint    = 'If that is right, let the source accept files without rows: accepts_empty.';
    elsif (import).row_count < v_least then
        raise exception using
            errcode = 'TD006',
            message = format(
                'the file has %s, and the last one had %s',
                tinydevcrm._count_rows((import).row_count), tinydevcrm._count_rows((source).row_count)),
            hint    = format(
                'Fewer than %s are refused (refuse_if_fewer = %s). If it is right, change that.',
                v_least, (source).refuse_if_fewer);
    end if;
end
$$;

comment on function tinydevcrm._check_rows(tinydevcrm.sources, tinydevcrm.imports) is
    'Checks how many rows an import of a source has, before its commit. Raises TD005 when there are '
    'none, TD006 when there are fewer than refuse_if_fewer allows.';

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
           etag = nullif(left(_end_run.etag, 500), ''),
           last_modified = nullif(left(_end_run.last_modified, 100), ''),
           filename = v_import.source,
           import_number = v_import.id,
           byte_count = coalesce(v_import.byte_count, source_runs.byte_count),
           row_count = v_import.row_count,
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
    tinydevcrm._lock_run(bigint, integer),
    tinydevcrm._extend_run(bigint, integer, interval),
    tinydevcrm._return_run(bigint, integer),
    tinydevcrm._check_rows(tinydevcrm.sources, tinydevcrm.imports),
    tinydevcrm._end_run(bigint, bigint, text, text),
    tinydevcrm._finish_run(bigint, integer, bigint, text, text),
    tinydevcrm._note_unchanged(bigint, integer),
    tinydevcrm._fail_run(bigint, integer, text, text, boolean, interval)
to tinydevcrm_user;
