-- The files of other roles: an orchestrator puts the rows into a staging table of ours, and the owner's
-- own pg_cron job moves them into the table, because defaults, checks and triggers of that table run
-- as the role that fills it.

create table tinydevcrm.source_rows (
    run_id     bigint not null,
    row_number bigint not null,
    cells      text[] not null,

    constraint source_rows_pkey primary key (run_id, row_number),
    constraint source_rows_run_fkey foreign key (run_id)
        references tinydevcrm.source_runs (id) on delete cascade,
    constraint source_rows_row_number_positive check (row_number > 0),
    constraint source_rows_cells_count check (array_length(cells, 1) between 1 and 1600)
);

comment on table tinydevcrm.source_rows is
    'The rows of files that were fetched for other roles, until a job of the owner has imported them: '
    'see tinydevcrm.import_fetched().';
comment on column tinydevcrm.source_rows.run_id is
    'The run that fetched the file.';
comment on column tinydevcrm.source_rows.row_number is
    'Number of the row in the file, from 1, without the header and the lines that were left out.';
comment on column tinydevcrm.source_rows.cells is
    'Its values, as the file has them, in the order of tinydevcrm.source_runs.header.';

alter table tinydevcrm.source_rows enable row level security;

create policy source_rows_owner on tinydevcrm.source_rows
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.source_runs
         where source_runs.id = source_rows.run_id
           and pg_has_role(source_runs.owner, 'usage')
    ));

create policy source_rows_orchestrator on tinydevcrm.source_rows
    for insert
    to tinydevcrm_orchestrator
    with check (true);

grant select on tinydevcrm.source_rows to tinydevcrm_user;

grant insert (run_id, row_number, cells) on tinydevcrm.source_rows to tinydevcrm_orchestrator;

create function tinydevcrm._create_fetch_job(owner regrole)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._create_job(
               _create_fetch_job.owner,
               format('tinydevcrm sources of %s', _create_fetch_job.owner::oid),
               case when tinydevcrm._cron_has_seconds() then '5 seconds' else '* * * * *' end,
               'call tinydevcrm.import_fetched()')
$$;

comment on function tinydevcrm._create_fetch_job(regrole) is
    'Creates the job that imports the fetched files of an owner, and returns its number. '
    'settle_jobs() removes the job when no file is left.';

create function tinydevcrm._source_runs_create_job()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._create_fetch_job(new.owner);
    return null;
end
$$;

comment on function tinydevcrm._source_runs_create_job() is
    'Creates the job that imports a file. Security definer: orchestrators and users cannot create '
    'jobs. As a trigger it runs only for a change of a run that row-level security has let through.';

create trigger _600_create_job
    after update of status on tinydevcrm.source_runs
    for each row
    when (new.status = 'staged' and old.status <> 'staged')
    execute function tinydevcrm._source_runs_create_job();

create function tinydevcrm._source_runs_clear()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.source_rows
     where source_rows.run_id = new.id;
    return null;
end
$$;

comment on function tinydevcrm._source_runs_clear() is
    'Removes the rows of a file that needs them no more. Security definer: users cannot delete. As a '
    'trigger it runs only for a change of a run that row-level security has let through.';

create trigger _700_clear
    after update of status on tinydevcrm.source_runs
    for each row
    when (old.status = 'staged' and new.status <> 'staged')
    execute function tinydevcrm._source_runs_clear();

create function tinydevcrm._forget_staging(import_id bigint)
    returns void
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    delete
      from tinydevcrm.imports
     where imports.id = _forget_staging.import_id
       and imports.schema_name::text like 'pg\_temp\_%'
$$;

comment on function tinydevcrm._forget_staging(bigint) is
    'Removes the import into a temporary table from the log: the import by the owner is what counts. '
    'Security definer: lends the right to delete such rows, which say nothing.';

create function tinydevcrm._stage_run(
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
declare
    v_import tinydevcrm.imports;
    v_header text[];
    v_cells  text;
begin
    perform tinydevcrm._lock_run(_stage_run.run_id, _stage_run.attempt);

    select imports.*
      into v_import
      from tinydevcrm.imports
     where imports.id = _stage_run.import_id;

    perform tinydevcrm._check_session_of(v_import.relation);

    select array_agg(attname::text order by attnum),
           string_agg(format('%I::text', attname), ', ' order by attnum)
      into v_header, v_cells
      from pg_attribute
     where attrelid = v_import.relation
       and attnum > 0
       and not attisdropped;

    execute format(
        'insert into tinydevcrm.source_rows (run_id, row_number, cells) '
        'select $1, row_number() over (), array[%s] from %s',
        v_cells, v_import.relation)
      using _stage_run.run_id;

    update tinydevcrm.source_runs
       set status = 'staged',
           attempts = 0,
           hidden_for = interval '0',
           etag = left(_stage_run.etag, 500),
           last_modified = left(_stage_run.last_modified, 100),
           filename = v_import.source,
           dialect = v_import.dialect,
           header = v_header,
           byte_count = v_import.byte_count,
           row_count = v_import.row_count,
           problems = (
               select jsonb_agg(
                          jsonb_build_object(
                              'line', first.line, 'reason', first.reason,
                              'line_text', left(first.line_text, 250),
                              'is_rejected', first.is_rejected))
                 from (
                   select import_problems.line,
                          import_problems.reason,
                          import_problems.line_text,
                          import_problems.is_rejected
                     from tinydevcrm.import_problems
                    where import_problems.import_id = v_import.id
                    order by import_problems.id
                    limit 1000
                 ) as first
           )
     where source_runs.id = _stage_run.run_id;

    execute format('drop table %s', v_import.relation);
    perform tinydevcrm._forget_staging(v_import.id);
end
$$;

comment on function tinydevcrm._stage_run(bigint, integer, bigint, text, text) is
    'Hands the rows of a file that an orchestrator has loaded into a temporary table to the job of the '
    'source''s owner. Raises TD001 when another orchestrator has taken the run, 42501 when the table '
    'is not of the session''s role.';

create function tinydevcrm._begin_fetched(after_id bigint)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_run tinydevcrm.source_runs;
begin
    select source_runs.*
      into v_run
      from tinydevcrm.source_runs
     where source_runs.status = 'staged'
       and source_runs.id > _begin_fetched.after_id
       and tinydevcrm._is_session_of(source_runs.owner)
     order by source_runs.id
     limit 1
       for no key update skip locked;

    -- The attempt counts even if it ends the session.
    update tinydevcrm.source_runs
       set attempts = source_runs.attempts + 1,
           status = case when v_run.attempts >= 5 then 'failed' else 'staged' end,
           error_code = case when v_run.attempts >= 5 then 'TD013' end,
           error_message = case
               when v_run.attempts >= 5 then 'the session of its job ended during each of five attempts'
           end
     where source_runs.id = v_run.id;

    return v_run.id;
end
$$;

comment on function tinydevcrm._begin_fetched(bigint) is
    'The next file that waits for a job of this session''s role; null when there is none.';

create function tinydevcrm._load_fetched(run_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_run    tinydevcrm.source_runs;
    v_source tinydevcrm.sources;
    v_import tinydevcrm.imports;
begin
    select source_runs.*
      into v_run
      from tinydevcrm.source_runs
     where source_runs.id = _load_fetched.run_id;

    select sources.*
      into v_source
      from tinydevcrm.sources
     where sources.id = v_run.source_id;

    -- It has the name of the source, which the log of imports shows.
    execute (
        select format(
                   'create temporary table %I (%s) on commit drop',
                   v_source.name,
                   string_agg(format('%I text', column_name), ', ' order by number))
          from unnest(v_run.header) with ordinality as header (column_name, number)
    );
    execute (
        select format(
                   'insert into pg_temp.%I select %s from tinydevcrm.source_rows '
                   'where run_id = $1 order by row_number',
                   v_source.name,
                   string_agg(format('cells[%s]', number), ', ' order by number))
          from unnest(v_run.header) with ordinality as header (column_name, number)
    )
      using v_run.id;

    v_import := tinydevcrm.import_staging(
        staging     => format('pg_temp.%I', v_source.name)::regclass,
        table_name  => v_source.table_name::text,
        mode        => v_source.mode,
        key         => v_source.key,
        types       => coalesce(v_source.options->'type', '{}'),
        schema_name => v_source.schema_name,
        options     => tinydevcrm._list_shape_options(v_source.options),
        dialect     => v_run.dialect);

    insert into tinydevcrm.import_problems (import_id, line, reason, line_text, is_rejected)
    select v_import.id,
           problem.line,
           problem.reason,
           problem.line_text,
           problem.is_rejected
      from jsonb_to_recordset(v_run.problems)
               as problem (line bigint, reason text, line_text text, is_rejected boolean);

    update tinydevcrm.imports
       set problem_count = imports.problem_count + coalesce(jsonb_array_length(v_run.problems), 0),
           reject_count = imports.reject_count + (
               select count(*)
                 from jsonb_to_recordset(v_run.problems) as problem (is_rejected boolean)
                where problem.is_rejected
           )
     where imports.id = v_import.id;

    execute format('drop table pg_temp.%I', v_source.name);
    perform tinydevcrm._end_run(v_run.id, v_import.id, v_run.etag, v_run.last_modified);
end
$$;

comment on function tinydevcrm._load_fetched(bigint) is
    'Imports a fetched file from our staging table. Raises the errors of tinydevcrm.import_staging() '
    'and tinydevcrm._check_rows().';

create function tinydevcrm._import_fetched(run_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_message text;
    v_detail  text;
    v_hint    text;
begin
    perform
       from tinydevcrm.source_runs
      where source_runs.id = _import_fetched.run_id
        and source_runs.status = 'staged'
        and tinydevcrm._is_session_of(source_runs.owner)
        for no key update skip locked;

    if not found then
        return;
    end if;

    perform tinydevcrm._load_fetched(_import_fetched.run_id);
exception
    -- The run keeps the cause.
    when others or query_canceled then
        get stacked diagnostics
            v_message = message_text, v_detail = pg_exception_detail, v_hint = pg_exception_hint;
        update tinydevcrm.source_runs
           set status = 'failed',
               error_code = sqlstate,
               error_message = left(
                   concat_ws(
                       e'\n  ', v_message, nullif(v_detail, ''), 'Hint: ' || nullif(v_hint, '')),
                   2500)
         where source_runs.id = _import_fetched.run_id;
end
$$;

comment on function tinydevcrm._import_fetched(bigint) is
    'Imports a fetched file of this session''s role, or records why that fails: then the table stays '
    'as it was.';

create procedure tinydevcrm.import_fetched()
    language plpgsql
as $$
-- Commits, so it cannot set a search_path and qualifies all names.
declare
    v_run_id bigint := 0;
begin
    loop
        v_run_id := tinydevcrm._begin_fetched(v_run_id);
        commit;
        exit when v_run_id is null;
        perform tinydevcrm._import_fetched(v_run_id);
        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.import_fetched() is
    'Imports the files that an orchestrator has fetched for the sources of this session''s role, each '
    'in a transaction of its own. A pg_cron job of the owner calls it while there are such files.';

revoke execute on procedure tinydevcrm.import_fetched() from public;

revoke execute on function
    tinydevcrm._create_fetch_job(regrole),
    tinydevcrm._source_runs_create_job(),
    tinydevcrm._source_runs_clear(),
    tinydevcrm._forget_staging(bigint),
    tinydevcrm._stage_run(bigint, integer, bigint, text, text),
    tinydevcrm._begin_fetched(bigint),
    tinydevcrm._load_fetched(bigint),
    tinydevcrm._import_fetched(bigint)
from public;

grant execute on procedure tinydevcrm.import_fetched() to tinydevcrm_user;

grant execute on function
    tinydevcrm._begin_fetched(bigint),
    tinydevcrm._load_fetched(bigint),
    tinydevcrm._import_fetched(bigint)
to tinydevcrm_user;

grant execute on function
    tinydevcrm._forget_staging(bigint),
    tinydevcrm._stage_run(bigint, integer, bigint, text, text)
to tinydevcrm_orchestrator;
