-- The query of a view as it was typed: Postgres keeps neither its comments nor its lines.

alter table tinydevcrm.matview_definitions
    add column written text,
    add column written_for text,
    add constraint matview_definitions_written_short check (octet_length(written) <= 1000000);

comment on column tinydevcrm.matview_definitions.written is
    'The query as it was typed, with its comments, in at most 1,000,000 bytes; null when that is not '
    'known. It is out of date when written_for is not query.';
comment on column tinydevcrm.matview_definitions.written_for is
    'The query, as Postgres printed it, when written was set. A trigger sets it.';

grant update (written) on tinydevcrm.matview_definitions to tinydevcrm_user;

create function tinydevcrm._matview_definitions_note_written()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.written_for := new.query;
    return new;
end
$$;

comment on function tinydevcrm._matview_definitions_note_written() is
    'Notes for which query of a view its text was written.';

create trigger _100_note_written
    before update of written on tinydevcrm.matview_definitions
    for each row
    execute function tinydevcrm._matview_definitions_note_written();

create function tinydevcrm._trim_query(query text)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select regexp_replace(
               rtrim(replace(_trim_query.query, e'\r\n', e'\n'), e' \t\r\n'), '^([ \t]*\n)+', '')
$$;

comment on function tinydevcrm._trim_query(text) is
    'A query as a file keeps it: lines end in LF, and there is no empty line before or after it.';

create function tinydevcrm._keep_written(relation regclass, query text)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.matview_definitions
       set written = case
               when octet_length(_keep_written.query) <= 1000000 then
                   tinydevcrm._trim_query(_keep_written.query)
           end
      from tinydevcrm.matviews
     where matviews.relation = _keep_written.relation
       and matview_definitions.matview_id = matviews.id
$$;

comment on function tinydevcrm._keep_written(regclass, text) is
    'Keeps the query of a watched view as it was typed.';

revoke execute on function
    tinydevcrm._matview_definitions_note_written(),
    tinydevcrm._trim_query(text),
    tinydevcrm._keep_written(regclass, text)
from public;

grant execute on function
    tinydevcrm._trim_query(text),
    tinydevcrm._keep_written(regclass, text)
to tinydevcrm_user;
