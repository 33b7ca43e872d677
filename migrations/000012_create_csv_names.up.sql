-- Names the columns of a CSV, and the table that is created from it. This is work on text, so
-- PL/Python.

create function tinydevcrm._make_column_names(header text[])
    returns text[]
    language plpython3u
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    import unicodedata

    # Check first, before the loops over all names: no timeout or cancel ends a loop in Python.
    if len(header) > 1600:
        plpy.error(
            f'there are {len(header)} columns', sqlstate='TD005',
            hint='A table has at most 1600. Is the delimiter the right one?')

    system_columns = {'ctid', 'xmin', 'cmin', 'xmax', 'cmax', 'tableoid'}

    def cut(name, size):
        return name.encode()[:size].decode(errors='ignore')

    def unique(name, taken):
        candidate, number = cut(name, 63), 1
        while candidate in taken:
            number += 1
            suffix = f'_{number}'
            candidate = cut(name, 63 - len(suffix)) + suffix
        return candidate

    # Names that look the same are the same.
    composed = [unicodedata.normalize('NFC', name) for name in header]

    # Names that need no change go first, so that a changed name never takes one of them.
    kept = {}
    for place, name in enumerate(composed):
        if name and name not in system_columns and len(name.encode()) <= 63:
            kept.setdefault(name, place)

    taken = set(kept) | system_columns
    names = []
    for place, name in enumerate(composed):
        if kept.get(name) != place:
            name = unique(name or f'column_{place + 1}', taken)
            taken.add(name)
        names.append(name)
    return names
$$;

comment on function tinydevcrm._make_column_names(text[]) is
    'Column names for the cells of a header, as written, with four exceptions: combined characters '
    'are composed (NFC); an empty name becomes column_N; a name over 63 bytes is cut; a name in use, or that of a system column such '
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
    tinydevcrm._make_column_names(text[]),
    tinydevcrm._make_table_name(text)
from public;

grant execute on function
    tinydevcrm._make_column_names(text[]),
    tinydevcrm._make_table_name(text)
to tinydevcrm_user;
