-- Reading the beginning of a CSV: how it is written, and what its columns and its table are to be
-- called. Text work, so PL/Python.

create type tinydevcrm.csv_dialect as (
    encoding  text,
    delimiter text,
    quote     text,
    header    text[]
);

comment on type tinydevcrm.csv_dialect is
    'How a CSV file is written: encoding as PostgreSQL names it, delimiter and quote of one '
    'character each, and the cells of its first record.';

create function tinydevcrm.sniff_csv(sample bytea)
    returns tinydevcrm.csv_dialect
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_start constant bytea := substring(sniff_csv.sample from 1 for 2);
    v_dialect        tinydevcrm.csv_dialect;
begin
    if btrim(coalesce(sniff_csv.sample, ''), '\x20090a0d') = '' then
        raise exception using
            errcode = 'TD005',
            message = 'the file is empty',
            hint    = 'Its first line must name the columns.';
    end if;

    if v_start in ('\xfffe', '\xfeff') then
        raise exception using
            errcode = 'TD005',
            message = 'the file is in UTF-16',
            hint    = 'Save it as UTF-8.';
    end if;

    if position('\x00'::bytea in sniff_csv.sample) > 0 then
        raise exception using
            errcode = 'TD005',
            message = 'the file is not text: it has a byte of value 0',
            hint    = 'Export it as CSV.';
    end if;

    -- COPY takes exactly the first line for the header, and a quote anywhere in it for one that opens.
    if sniff_csv.sample::text ~ '^\\x(efbbbf)?(0d)?0a' then
        raise exception using
            errcode = 'TD005',
            message = 'the first line is blank',
            hint    = 'The first line must name the columns: remove the blank ones above it.';
    end if;

    v_dialect := tinydevcrm._find_dialect(sniff_csv.sample);

    if v_dialect.header is null then
        raise exception using
            errcode = 'TD005',
            message = 'a quote in the header opens and does not close',
            hint    = 'Write a name with a quote in quotes, and that quote twice: "Height 5""".';
    end if;

    return v_dialect;
end
$$;

comment on function tinydevcrm.sniff_csv(bytea) is
    'Dialect of a CSV file, from its first bytes (256 kB are plenty). Delimiters tried: comma, '
    'semicolon, tab, bar. What is not valid UTF-8 is taken for Windows-1252. '
    'Raises TD005 when the sample is empty or not text.';

create function tinydevcrm._find_dialect(sample bytea)
    returns tinydevcrm.csv_dialect
    language plpython3u
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    import codecs
    import csv
    import io

    # The sample may end within a character: an incremental decoder waits for the rest of it.
    try:
        encoding = 'UTF8'
        text = codecs.getincrementaldecoder('utf-8-sig')().decode(sample)
    except UnicodeDecodeError:
        encoding = 'WIN1252'
        text = sample.decode('cp1252', errors='replace')

    csv.field_size_limit(len(sample) + 1)

    def records(delimiter, most):
        found = []
        for record in csv.reader(io.StringIO(text, newline=''), delimiter=delimiter):
            if record:
                found.append(record)
            if len(found) == most:
                break
        return found

    # The delimiter that cuts most records into as many cells as the first has; a file in which
    # none does has one column.
    def consistency(delimiter):
        widths = [len(record) for record in records(delimiter, 100)]
        if widths[0] == 1:
            return (0, 0)
        return (widths.count(widths[0]) / len(widths), widths[0])

    delimiter = max(',;\t|', key=consistency)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter)
    header = next(reader)
    lines = io.StringIO(text, newline='')
    if sum(next(lines).count('"') for _ in range(reader.line_num)) % 2:
        header = None
    return {'encoding': encoding, 'delimiter': delimiter, 'quote': '"', 'header': header}
$$;

comment on function tinydevcrm._find_dialect(bytea) is
    'The dialect of a sample of text, for sniff_csv(); no header when a quote in it does not '
    'close.';

create function tinydevcrm._column_names(header text[])
    returns text[]
    language plpython3u
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
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

    # A name that needs no change is never taken by one that does: those go first.
    kept = {}
    for place, name in enumerate(header):
        if name and name not in system_columns and len(name.encode()) <= 63:
            kept.setdefault(name, place)

    taken = set(kept) | system_columns
    names = []
    for place, name in enumerate(header):
        if kept.get(name) != place:
            name = unique(name or f'column_{place + 1}', taken)
            taken.add(name)
        names.append(name)
    return names
$$;

comment on function tinydevcrm._column_names(text[]) is
    'Column names for the cells of a header: as written, except that an empty one becomes '
    'column_N, one over 63 bytes is cut, and one in use (or a system column''s, such as xmin) '
    'gets _2, _3 ….';

create function tinydevcrm._table_name(source text)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select left(
        coalesce(
            nullif(
                trim(both '_' from regexp_replace(
                    lower(regexp_replace(
                        regexp_replace(_table_name.source, '^.*[/\\]', ''),
                        '(\.(csv|tsv|txt))+$', '', 'i')),
                    '[^[:alnum:]_]+', '_', 'g')),
                ''),
            'imported'),
        40)
$$;

comment on function tinydevcrm._table_name(text) is
    'Table name for a file''s name: without folder and ending, in lower case, each run of other '
    'characters an underscore: "Q3 Sales.csv" is q3_sales.';

revoke execute on function
    tinydevcrm.sniff_csv(bytea),
    tinydevcrm._find_dialect(bytea),
    tinydevcrm._column_names(text[]),
    tinydevcrm._table_name(text)
from public;

grant execute on function
    tinydevcrm.sniff_csv(bytea),
    tinydevcrm._find_dialect(bytea),
    tinydevcrm._column_names(text[]),
    tinydevcrm._table_name(text)
to tinydevcrm_user;
