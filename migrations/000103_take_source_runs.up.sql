-- How orchestrators take runs: for a minute each, which they put off while they work. So a run of a
-- program that was killed is taken again.

create function tinydevcrm._make_due_runs()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row of theirs. The next look tries again.
    set lock_timeout = '100ms'
as $$
declare
    v_owner regrole;
begin
    for v_owner in
        select distinct sources.owner
          from tinydevcrm.sources
         where sources.next_due_at <= clock_timestamp()
    loop
        begin
            insert into tinydevcrm.source_runs (source_id)
            select due.id
              from (
                select sources.id
                  from tinydevcrm.sources
                 where sources.owner = v_owner
                   and sources.next_due_at <= clock_timestamp()
                   and not exists (
                       select
                         from tinydevcrm.source_runs
                        where source_runs.source_id = sources.id
                          and source_runs.finished_at is null
                   )
                 order by sources.next_due_at
                 limit 1
                   -- Leaves out one for which its owner is just creating a run.
                   for update skip locked
              ) as due
                on conflict do nothing;
        exception
            when lock_not_available then
                null;
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not note what is due of %: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next look tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._make_due_runs() is
    'Creates a run for a source of each owner, the one that is due the longest and has none open. So '
    'one owner with many sources delays nobody else. Hardly waits.';

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
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '100ms'
as $$
declare
    v_run_id bigint;
begin
    for v_run_id in
        select distinct on (lost.owner) lost.id
          from tinydevcrm.source_runs as lost
         where lost.status = 'fetching'
           and lost.attempts >= 5
           and lost.finished_at is null
           and lost.visible_at <= clock_timestamp()
         order by lost.owner,
                  lost.id
    loop
        begin
            update tinydevcrm.source_runs
               set status = 'failed',
                   hidden_for = interval '0',
                   error_code = 'TD013',
                   error_message = 'the orchestrator ended during each of five attempts'
             where source_runs.id = v_run_id
               and source_runs.status = 'fetching'
               and source_runs.visible_at <= clock_timestamp();
        exception
            -- The owner has locked the run, its source or a subscription. The next look tries again.
            when lock_not_available then
                null;
        end;
    end loop;
end
$$;

comment on function tinydevcrm._fail_lost_runs() is
    'Fails runs during whose attempts the program has ended again and again, as if killed by the file: '
    'one of each owner. Hardly waits.';

create function tinydevcrm._may_fetch_more(owner regrole)
    returns boolean
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._is_fetchable(_may_fetch_more.owner)
       and (
           tinydevcrm._is_session_of(_may_fetch_more.owner)
           or not exists (
               select
                 from tinydevcrm.source_runs
                where source_runs.owner = _may_fetch_more.owner
                  and source_runs.status = 'fetching'
                  and source_runs.finished_at is null
                  and source_runs.visible_at > clock_timestamp()
           )
       )
$$;

comment on function tinydevcrm._may_fetch_more(regrole) is
    'Whether this session may fetch a source of a role now: of another owner one run at a time, so that '
    'slow servers cost only those who named them.';

create function tinydevcrm._take_run(
    hidden_for interval default interval '1 minute',
    busy       bigint[] default '{}'
)
    returns tinydevcrm.source_runs
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
    v_run   tinydevcrm.source_runs;
begin
    perform tinydevcrm._make_due_runs(), tinydevcrm._fail_lost_runs();

    for v_owner in
        select source_runs.owner
          from tinydevcrm.source_runs
         where source_runs.finished_at is null
           and source_runs.visible_at <= clock_timestamp()
           and source_runs.status <> 'staged'
           and source_runs.owner::oid::bigint <> all (_take_run.busy)
         group by source_runs.owner
         order by min(source_runs.visible_at)
    loop
        continue when not tinydevcrm._may_fetch_more(v_owner);

        update tinydevcrm.source_runs
           set status = 'fetching',
               attempts = least(source_runs.attempts + 1, 1000),
               hidden_for = _take_run.hidden_for
         where source_runs.id = (
               select waiting.id
                 from tinydevcrm.source_runs as waiting
                where waiting.owner = v_owner
                  and waiting.finished_at is null
                  and waiting.visible_at <= clock_timestamp()
                  and waiting.status <> 'staged'
                  -- Files are taken from the inbox.
                  and exists (
                      select
                        from tinydevcrm.sources
                       where sources.id = waiting.source_id
                         and sources.url !~ '^file:'
                  )
                order by waiting.visible_at
                limit 1
                  for no key update skip locked
         )
        returning source_runs.*
             into v_run;

        if found then
            return v_run;
        end if;
    end loop;

    return null;
end
$$;

comment on function tinydevcrm._take_run(interval, bigint[]) is
    'Takes the run that is due the longest, for a time after which another orchestrator may take it; '
    'null when there is none. busy are the other owners, as oids, of whom this orchestrator fetches one '
    'already: what they write into their runs does not get them another. Hardly waits.';

create function tinydevcrm._take_file(filename text)
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
       and _take_file.filename like translate(
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

create function tinydevcrm._note_file(import_id bigint, file_state text)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.imports
       set file_state = _note_file.file_state
     where imports.id = _note_file.import_id
$$;

comment on function tinydevcrm._note_file(bigint, text) is
    'Notes, in the transaction of its import, which file of the inbox without a source was imported.';

create function tinydevcrm._is_file_imported(file_state text)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
          from tinydevcrm.imports
          join pg_class
            on pg_class.oid = imports.relation
         where imports.owner = quote_ident(current_user)::regrole
           and imports.file_state = _is_file_imported.file_state
    )
$$;

comment on function tinydevcrm._is_file_imported(text) is
    'Whether this very file of the inbox was imported, into a table that is still there.';

create function tinydevcrm._describe_run(run tinydevcrm.source_runs)
    returns table (
        id            bigint,
        owner         bigint,
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
           run.owner::oid::bigint,
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
               when is_own then
                   sources.options || tinydevcrm._list_shape_options(sources.options)
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

revoke execute on function
    tinydevcrm._make_due_runs(),
    tinydevcrm._is_fetchable(regrole),
    tinydevcrm._fail_lost_runs(),
    tinydevcrm._may_fetch_more(regrole),
    tinydevcrm._take_run(interval, bigint[]),
    tinydevcrm._take_file(text),
    tinydevcrm._note_file(bigint, text),
    tinydevcrm._is_file_imported(text),
    tinydevcrm._describe_run(tinydevcrm.source_runs)
from public;

grant execute on function
    tinydevcrm._make_due_runs(),
    tinydevcrm._is_fetchable(regrole),
    tinydevcrm._fail_lost_runs(),
    tinydevcrm._may_fetch_more(regrole),
    tinydevcrm._take_run(interval, bigint[]),
    tinydevcrm._take_file(text),
    tinydevcrm._note_file(bigint, text),
    tinydevcrm._is_file_imported(text),
    tinydevcrm._describe_run(tinydevcrm.source_runs)
to tinydevcrm_user;
