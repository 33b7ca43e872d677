-- Reads the beginning of a CSV and finds how it is written. This is work on text, so PL/Python.

create function tinydevcrm._read_start(
    sample           bytea,
    inout encoding   text,
    quote            text,
    escape           text,
    inout skip_lines integer,
    out   line_end   text,
    out   delimiter  text,
    out   utf8       bytea
)
    returns record
    language plpython3u
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    import codecs
    import re

    MARKS = [
        (codecs.BOM_UTF8, 'UTF8'),
        (codecs.BOM_UTF16_LE, 'UTF16LE'),
        (codecs.BOM_UTF16_BE, 'UTF16BE'),
    ]

    def python_name(name):
        name = re.sub(r'^win(?:dows)?[-_]?(?=\d+$)', 'cp', name.strip().lower())
        name = re.sub(r'^koi8(?=[ru]$)', 'koi8-', name)
        return re.sub(r'^utf-?(16|32)-?([lb]e)$', r'utf-\1-\2', name)

    def decode(name, errors):
        """Decodes a sample that may end within a character, with an incremental decoder."""
        'a'.encode(python_name(name))    # refuses what is not for text, such as hex
        return codecs.getincrementaldecoder(python_name(name))(errors).decode(sample)

    def find_encoding():
        for mark, name in MARKS:
            if sample.startswith(mark):
                return name
        # A bad byte among more good characters is a bad line, not another encoding.
        text = decode('UTF8', 'replace')
        bad = text.count('\ufffd')
        good = sum(character > '\x7f' for character in text) - bad
        return 'UTF8' if good >= bad else 'WIN1252'

    def find_line_end(text):
        """The most frequent line end outside of quotes; the first one decides LF or CRLF."""
        mark = re.escape(quote or '"')
        inside = '[^{0}]*(?:{0}{0}[^{0}]*)*'.format(mark)
        if escape not in (None, quote or '"'):
            inside = r'(?s:[^{0}{1}]|{1}.)*'.format(mark, re.escape(escape))
        cell = r'(?<![^\s,;|])' + mark + inside + mark
        bare = re.sub(cell, '', text)
        if len(re.findall('\r(?!\n)', bare)) > bare.count('\n'):
            return 'CR'
        end = re.search('\r?\n', bare)
        return 'CRLF' if end and end.group() == '\r\n' else 'LF'

    name = find_encoding() if encoding is None else encoding
    try:
        text = decode(name, 'replace')
    except (LookupError, UnicodeError):
        return {'encoding': name, 'skip_lines': None, 'line_end': None, 'delimiter': None,
                'utf8': None}
    if text.startswith('\ufeff'):
        text = text[1:]

    line_end = find_line_end(text[:65536])
    if line_end == 'CR':
        text = text.replace('\r\n', '\n').replace('\r', '\n')
    else:
        text = text.replace('\r\n', '\n').replace('\r', ' ')

    # The line "sep=" is first and names the delimiter for Excel.
    named = re.match(r'\s*"?sep=([\t,;|:^~!#$%&*+/])"?[ \t]*(?:\n|\Z)', text, re.IGNORECASE)
    skipped = skip_lines
    if skipped is None:
        skipped = named.group().count('\n') if named else 0

    rest = ''.join(text.split('\n', skipped)[skipped:])
    return {'encoding': name, 'skip_lines': skipped, 'line_end': line_end,
            'delimiter': named and named.group(1), 'utf8': rest.encode('utf-8', 'replace')}
$$;

comment on function tinydevcrm._read_start(bytea, text, text, text, integer) is
    'First look at a sample, for sniff_csv(): its encoding, its line end, the delimiter that a '
    'line sep= names, and the text after that line, or after the lines to skip, as UTF-8 with line '
    'feeds. The text is null when Python does not know the encoding.';

create function tinydevcrm.sniff_csv(
    sample     bytea,
    encoding   text    default null,
    delimiter  text    default null,
    quote      text    default null,
    escape     text    default null,
    has_header boolean default null,
    skip_lines integer default null
)
    returns tinydevcrm.csv_dialect
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_delimiter constant text :=
        case lower(sniff_csv.delimiter)
            when 'tab' then E'\t'
            when '\t' then E'\t'
            when 'space' then ' '
            else sniff_csv.delimiter
        end;
    -- One ASCII character, no blank and no line end.
    v_mark      constant text := '^[\x01-\x08\x0b\x0c\x0e-\x1f\x21-\x7f]$';
    v_message            text;
    v_hint               text;
    v_start              record;
    v_dialect            tinydevcrm.csv_dialect;
begin
    select problems.message,
           problems.hint
      into v_message,
           v_hint
      from (
        values
            (1, btrim(sniff_csv.encoding) = '',
                'the encoding has no name',
                'Name one, such as UTF8 or WIN1252, or leave it out.'),
            (2, v_delimiter <> ', ' and v_delimiter !~ '^[\x01-\x09\x0b\x0c\x0e-\x7f]$',
                format('delimiter %L is not one character', sniff_csv.delimiter),
                'Give one ASCII character, such as ; or |, or one of the words tab and space.'),
            (3, v_delimiter in ('"', ''''),
                format('delimiter %L is a quote', sniff_csv.delimiter),
                'Give another character, such as ; or |, or one of the words tab and space.'),
            (4, sniff_csv.quote !~ v_mark,
                format('quote %L is not one character', sniff_csv.quote),
                'Give one ASCII character, mostly ".'),
            (5, sniff_csv.escape !~ v_mark,
                format('escape %L is not one character', sniff_csv.escape),
                'Give one ASCII character: the quote when quotes are doubled, else mostly \.'),
            (6, v_delimiter = sniff_csv.quote,
                format('delimiter and quote are both %L', sniff_csv.quote),
                'Leave one of the two out, and sniff_csv() finds it.'),
            (7, v_delimiter = sniff_csv.escape,
                format('delimiter and escape are both %L', sniff_csv.escape),
                'Leave one of the two out, and sniff_csv() finds it.'),
            (8, sniff_csv.skip_lines < 0,
                format('%s lines cannot be skipped', sniff_csv.skip_lines),
                'Give 0 to skip none.')
      ) as problems (place, applies, message, hint)
     where problems.applies
     order by problems.place
     limit 1;

    if found then
        raise exception using
            errcode = 'TD007',
            message = v_message,
            hint    = v_hint;
    end if;

    v_start := tinydevcrm._read_start(
        coalesce(sniff_csv.sample, ''), sniff_csv.encoding, sniff_csv.quote, sniff_csv.escape,
        sniff_csv.skip_lines);

    if v_start.utf8 is null then
        raise exception using
            errcode = 'TD007',
            message = format('encoding %L is not known', sniff_csv.encoding),
            hint    = 'Name another, such as UTF8 or WIN1252, or leave it out.';
    end if;

    if btrim(v_start.utf8, '\x20090a0d') = '' then
        raise exception using
            errcode = 'TD005',
            message = 'the file is empty',
            hint    =
                case
                    when sniff_csv.skip_lines > 0 then
                        'There is only blank text after the lines to skip: skip fewer.'
                    else 'Choose a file with at least one line of text.'
                end;
    end if;

    if position('\x00'::bytea in v_start.utf8) > 0 then
        raise exception using
            errcode = 'TD005',
            message = 'the file is not text: it has a byte of value 0',
            hint    = 'Export it as CSV. If it is UTF-16 without a byte order mark, give the '
                      'encoding: UTF16LE or UTF16BE.';
    end if;

    v_dialect := tinydevcrm._find_dialect(
        v_start.utf8, coalesce(v_delimiter, v_start.delimiter), sniff_csv.quote, sniff_csv.escape,
        sniff_csv.has_header, sniff_csv.skip_lines);

    v_dialect.encoding := v_start.encoding;
    v_dialect.line_end := v_start.line_end;
    v_dialect.skip_lines :=
        coalesce(sniff_csv.skip_lines, v_start.skip_lines + v_dialect.skip_lines);
    return v_dialect;
end
$$;

comment on function tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer) is
    'Finds the dialect of a CSV file from its first bytes. 256 kB are plenty, and they may end '
    'anywhere. A part that you give stays as it is, and the rest is found with it; delimiter may '
    'also be tab, \t or space. Delimiters tried: comma, semicolon, tab, bar, blank, comma and '
    'blank. A file without a byte order mark is UTF-8 when that is valid, else Windows-1252. '
    'Raises TD005 when the sample is empty or not text, TD007 for a bad part or an encoding that '
    'Python does not know.';

revoke execute on function
    tinydevcrm._read_start(bytea, text, text, text, integer),
    tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer)
from public;

grant execute on function
    tinydevcrm._read_start(bytea, text, text, text, integer),
    tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer)
to tinydevcrm_user;
