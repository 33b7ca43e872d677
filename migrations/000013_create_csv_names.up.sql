-- Names the columns of a CSV, and the table that is created from it.

create function tinydevcrm._cut_name(name text, size integer)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when octet_length(_cut_name.name) <= _cut_name.size then _cut_name.name
               else (
                   select left(_cut_name.name, max(length))
                     from generate_series(0, _cut_name.size) as length
                    where octet_length(left(_cut_name.name, length)) <= _cut_name.size
               )
           end
$$;

comment on function tinydevcrm._cut_name(text, integer) is
    'The first whole characters of a name that fit into a number of bytes.';

-- Postgres composes from 13 on, and PL/Python before. The orchestrator does too, before it sends the
-- names of a file.
do $do$
declare
    v_language text := 'sql';
    v_body     text := 'select _compose.name';
begin
    if to_regprocedure('pg_catalog."normalize"(text, text)') is not null then
        v_body := $$
            select case getdatabaseencoding()
                       when 'UTF8' then "normalize"(_compose.name, 'NFC')
                       else _compose.name
                   end
        $$;
    elsif exists (select from pg_catalog.pg_language where lanname = 'plpython3u')
          and current_setting('is_superuser') = 'on'
    then
        v_language := 'plpython3u';
        v_body := $$import unicodedata; return unicodedata.normalize('NFC', name)$$;
    end if;

    execute format(
        $sql$
            create function tinydevcrm._compose(name text)
                returns text
                language %I
                immutable
                strict
                set search_path = pg_catalog, pg_temp
            as %L
        $sql$,
        v_language, v_body);
end
$do$;

comment on function tinydevcrm._compose(text) is
    'A name with its combined characters composed (NFC), so that names that look the same are the '
    'same; as it is before PostgreSQL 13 without PL/Python.';

create function tinydevcrm._make_column_names(header text[])
    returns text[]
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_system constant text[] := '{ctid,xmin,cmin,xmax,cmax,tableoid}';
    v_header constant text[] := array(
        select tinydevcrm._compose(name)
          from unnest(_make_column_names.header) with ordinality as cells (name, place)
         order by place
    );
    v_names  text[] := v_header;
    v_taken  text[];
    v_column record;
    v_name   text;
    v_number integer;
    -- The last number that each cut name has got.
    v_last   jsonb := '{}';
begin
    if cardinality(v_header) > 1600 then
        raise exception using
            errcode = 'TD005',
            message = format('there are %s columns', cardinality(v_header)),
            hint    = 'A table has at most 1600. Is the delimiter the right one?';
    end if;

    -- Names that need no change go first, so that a changed name never takes one of them.
    v_taken := v_system || array(
        select distinct name
          from unnest(v_header) as name
         where name <> '' and octet_length(name) <= 63 and name <> all (v_system)
    );

    for v_column in
        select columns.place,
               tinydevcrm._cut_name(
                   coalesce(nullif(columns.name, ''), 'column_' || columns.place), 63) as name
          from (
            select name,
                   place,
                   row_number() over (partition by name order by place) = 1
                   and octet_length(name) between 1 and 63
                   and name <> all (v_system) as is_kept
              from unnest(v_header) with ordinality as cells (name, place)
          ) as columns
         where not columns.is_kept
         order by columns.place
    loop
        v_name := v_column.name;
        v_number := coalesce((v_last->>v_column.name)::integer, 1);
        while v_name = any (v_taken) loop
            v_number := v_number + 1;
            v_name := tinydevcrm._cut_name(v_column.name, 62 - length(v_number::text))
                      || '_' || v_number;
        end loop;

        v_last := v_last || jsonb_build_object(v_column.name, v_number);
        v_taken := v_taken || v_name;
        v_names[v_column.place] := v_name;
    end loop;

    return v_names;
end
$$;

comment on function tinydevcrm._make_column_names(text[]) is
    'Column names for the cells of a header, as written, with four exceptions: combined characters '
    'are composed; an empty name becomes column_N; a name over 63 bytes is cut; a name in use, or that of a system column such '
    'as xmin, gets _2, _3 …. Raises TD005 for more than the 1600 columns that a table can have.';

create function tinydevcrm._make_table_name(source text)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select max(candidate)
      from (
        select left(
                   coalesce(
                       nullif(
                           trim(both '_' from regexp_replace(
                               lower(regexp_replace(
                                   regexp_replace(_make_table_name.source, '^.*[/\\]', ''),
                                   '(\.(csv|tsv|txt|json|jsonl|ndjson|parquet|xlsx|gz|zst|bz2|zip))+$',
                                   '', 'i')),
                               '[^[:alnum:]_]+', '_', 'g')),
                           ''),
                       'imported'),
                   length) as candidate
          from generate_series(1, 40) as length
      ) as cut
     where octet_length(candidate) <= 63
$$;

comment on function tinydevcrm._make_table_name(text) is
    'Table name for the name of a file: without folder and endings, in lower case, with an '
    'underscore for each run of other characters. "Q3 Sales.csv.gz" becomes q3_sales.';

revoke execute on function
    tinydevcrm._cut_name(text, integer),
    tinydevcrm._compose(text),
    tinydevcrm._make_column_names(text[]),
    tinydevcrm._make_table_name(text)
from public;

grant execute on function
    tinydevcrm._cut_name(text, integer),
    tinydevcrm._compose(text),
    tinydevcrm._make_column_names(text[]),
    tinydevcrm._make_table_name(text)
to tinydevcrm_user;
