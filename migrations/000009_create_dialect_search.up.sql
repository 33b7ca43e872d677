-- Finds how a CSV is written: the delimiter and the quote that cut it best. This is work on text,
-- so PL/Python.

create type tinydevcrm.csv_dialect as (
    encoding   text,
    delimiter  text,
    quote      text,
    escape     text,
    line_end   text,
    has_header boolean,
    skip_lines integer
);

comment on type tinydevcrm.csv_dialect is
    'How a CSV file is written. sniff_csv() finds it.';
comment on column tinydevcrm.csv_dialect.encoding is
    'UTF8, WIN1252, UTF16LE, UTF16BE, or what the caller of sniff_csv() gave.';
comment on column tinydevcrm.csv_dialect.delimiter is
    'Separates two cells: one ASCII character, or the two characters comma and blank. For a file '
    'of one column, a character that does not occur in it.';
comment on column tinydevcrm.csv_dialect.quote is
    'Begins and ends a quoted cell: one ASCII character.';
comment on column tinydevcrm.csv_dialect.escape is
    'Stands before a quote within a quoted cell: the quote itself when quotes are doubled, else '
    'one other ASCII character, mostly a backslash.';
comment on column tinydevcrm.csv_dialect.line_end is
    'What ends a line, by name: LF, CRLF or CR.';
comment on column tinydevcrm.csv_dialect.has_header is
    'Whether the first record after the skipped lines names the columns.';
comment on column tinydevcrm.csv_dialect.skip_lines is
    'Number of physical lines before the header, or before the first record when there is no '
    'header. Blank lines count. Lines within quotes count too: they end with LF, or with CR when '
    'line_end is CR.';

create function tinydevcrm._load_record_cutter()
    returns void
    language plpython3u
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    import csv
    import io
    from collections import Counter

    def is_blank(cells):
        return not any(cell.strip() for cell in cells)

    def cut(text, delimiter, quote, escape):
        """Pairs: the number of lines before a record, and its cells; a blank line has none."""
        reader = csv.reader(
            io.StringIO(text), delimiter=delimiter[0], skipinitialspace=delimiter == ', ',
            quotechar=quote, doublequote=escape == quote,
            escapechar=None if escape == quote else escape)
        line = 0
        for cells in reader:
            yield line, cells
            line = reader.line_num

    def complete(records, text):
        """The records without a last one that the end of the text or an open quote cut."""
        line, cells = records[-1]
        is_open = not text.endswith('\n') or any('\n' in cell for cell in cells)
        if is_open and len(records) > 1 and len(cells) < len(records[-2][1]):
            return records[:-1]
        if is_open and len(records) > 2:
            return records[:-1] + [(line, cells[:-1] + [''])]
        return records

    def first_record(records):
        """Index of the first record below the blank lines."""
        return next((place for place, (_, cells) in enumerate(records)
                     if len(cells) > 1 or not is_blank(cells)), 0)

    def table_start(records, delimiter):
        """Index of the first record below the blank lines, comments and titles."""
        first = first_record(records)
        widths = [len(cells) for _, cells in records if len(cells) > 1 or not is_blank(cells)]
        later = Counter(widths[len(widths) // 2:])
        width = max(later, key=lambda width: (later[width], width), default=1)
        if width == 1 or 2 * widths.count(1) > len(widths):
            return first

        blank, titles = -1, []
        for start, (_, cells) in enumerate(records):
            if is_blank(cells):
                blank = start
            elif cells[0].startswith('#') and len(cells) != width:
                continue
            # Two cells are a name and its value. A title may contain the delimiter of the table.
            elif len(cells) == 1 or width > 2 and (len(cells) == 2 or is_blank(cells[1:])):
                titles.append(start)
            else:
                break
        else:
            return first

        # A row directly above the table is a title only when it cannot be the header. When the
        # delimiter is a comma and a blank, or a blank, sentences contain it. Then even one cell
        # above many can be the header: that of one column.
        has_table = [len(cells) for _, cells in records[start:] if cells][:3] == [width] * 3
        above = width > 2 and delimiter not in (' ', ', ')
        for title in titles:
            alone = len(records[title][1]) == 1
            if not (has_table and (title < blank or alone and above)):
                return title
        return start

    GD.update(tinydevcrm_record_cutter=(is_blank, cut, complete, first_record, table_start))
$$;

comment on function tinydevcrm._load_record_cutter() is
    'Puts Python functions into GD[tinydevcrm_record_cutter] for another PL/Python function: '
    'whether a record is blank, the records of a text, the complete ones among them, the index of '
    'the first record that is not blank, and the index of the first record below titles and '
    'comments.';

create function tinydevcrm._find_dialect(
    sample     bytea,
    delimiter  text,
    quote      text,
    escape     text,
    has_header boolean,
    skip_lines integer
)
    returns tinydevcrm.csv_dialect
    language plpython3u
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    # Cuts the sample by each possible delimiter and quote, and chooses the pair that cuts it best.
    # The score is that of G.J.J. van den Burg, A. Nazabal and C. Sutton, "Wrangling messy CSV files
    # by detecting row and type patterns" (2019): records of few different widths, times cells of a
    # known kind. Some rules apply before the score; each is a function of its own.
    import csv
    import re
    from collections import Counter, namedtuple

    plpy.execute('select tinydevcrm._load_cell_kinds(), tinydevcrm._load_record_cutter()')
    VALUES, kind, column_kinds, find_header = GD.pop('tinydevcrm_cell_kinds')
    is_blank, cut, complete, first_record, table_start = GD.pop('tinydevcrm_record_cutter')

    # --- Quotes --------------------------------------------------------------------------------

    def quoted(delimiter, quote, escape):
        """Pattern of a quoted cell, up to its closing quote."""
        mark = re.escape(quote)
        if escape == quote:
            inside = '[^{0}]*(?:{0}{0}[^{0}]*)*'.format(mark)
        else:
            inside = r'[^{0}{1}]*(?:{1}.[^{0}{1}]*)*'.format(mark, re.escape(escape))
        return '(?ms)(?:^|' + re.escape(delimiter) + ')' + mark + inside + mark

    def find_escape(delimiter, quote):
        """Backslash if one precedes a quote within a cell and explains more cells than doubling."""
        if escape is not None:
            return escape
        after = '(?!' + re.escape(delimiter) + '|$'
        if quote == '\\' or not re.search(r'(?m)\\' + re.escape(quote) + after + ')', head):
            return quote

        def misfits(escape):
            goes_on = after + '|' + re.escape(quote) + ')'
            return sum(1 for _ in re.finditer(quoted(delimiter, quote, escape) + goes_on, head))

        return '\\' if misfits('\\') < misfits(quote) else quote

    def find_quotes(delimiter):
        """Quotes to try: an apostrophe only when cells begin and end with it, and none with "."""
        if quote is not None:
            return [quote]
        end = '(?=' + re.escape(delimiter) + '|$)'
        single, double = (mark in head and re.search(quoted(delimiter, mark, mark) + end, head)
                          for mark in '\'"')
        return ['"', "'"] if single and not double else ['"']

    # --- Delimiters ----------------------------------------------------------------------------

    def find_delimiters():
        """Delimiters to try, likeliest first. A blank after every comma is part of it."""
        mark = re.escape(quote or '"')
        cell = r'(?m)(^|, ?){0}[^{0}]*(?:{0}{0}[^{0}]*)*(?:{0}|\Z)'.format(mark)
        bare = re.sub(cell, r'\1', head)
        always = not re.search(r',(?!\Z)(?! (?! ))', bare)
        if always and sum(', ' in line for line in bare.split('\n')) > 1:
            tried = [';', '\t', '|', ' ', ', ']
        else:
            tried = [',', ';', '\t', '|', ' ']
        return [delimiter for delimiter in tried if delimiter[0] not in (quote, escape)]

    def blanks_delimit(table):
        """Whether the blank is the delimiter, and not part of sentences, times or 1 000."""
        return (len({len(cells) for cells in table}) == 1
                and {'number', 'date'} & set(column_kinds(table))
                and any(kind(' '.join(cells)) not in VALUES for cells in table[1:]))

    def known(table):
        """Share of the cells that are of a known kind; never 0."""
        kinds = [kind(cell) for cells in table[:200] for cell in cells]
        return max(len(kinds) - kinds.count(None), 0.001) / len(kinds)

    def score(table, delimiter):
        """How well the table is cut; 0 when it is more likely one column."""
        widths = [len(cells) for cells in table]
        first, others = widths[0], widths[1:]
        if first == 1 or delimiter == ' ' and not blanks_delimit(table):
            return 0
        weight = 1
        if others and 2 * others.count(first) <= len(others):
            # The first record differs from most: for example, all but the header end with a
            # delimiter.
            if delimiter in (' ', ', ') or 2 * others.count(1) > len(others):
                return 0
            weight = 0.1
        patterns = Counter(widths)
        pattern = sum(count * (width - 1) / width for width, count in patterns.items())
        return weight * pattern / len(patterns) * known(table)

    def unused_delimiter(quote):
        """A delimiter for a file of one column: it cuts no line of the sample."""
        for delimiter in ',;\t|':
            if delimiter not in (quote, escape):
                records = cut(text, delimiter, quote, find_escape(delimiter, quote))
                if all(len(cells) < 2 for _, cells in records):
                    return delimiter
        return '\x1f'

    # --- All of it -----------------------------------------------------------------------------

    def read(delimiter, quote):
        escape = find_escape(delimiter, quote)
        records = complete(list(cut(head, delimiter, quote, escape)), head)
        start = table_start(records, delimiter) if skip_lines is None else 0
        table = [cells for _, cells in records[start:] if len(cells) > 1 or not is_blank(cells)]
        # Titles are above a header. Without a header, a short line is a record.
        first = first_record(records)
        titles = [cells for _, cells in records[first:start] if not (cells and cells[0][:1] == '#')]
        if titles and not (find_header(table) if has_header is None else has_header):
            start = first
            table = [cells for _, cells in records[start:] if len(cells) > 1 or not is_blank(cells)]
        return Cut(delimiter, quote, escape, records[start][0], table or [['']])

    Cut = namedtuple('Cut', 'delimiter quote escape lines table')
    csv.field_size_limit(len(sample) + 1)

    # A thousand lines are enough. A given delimiter that is also the escape or the quote is
    # ignored.
    text = sample.decode()
    head = '\n'.join(text[:65536].split('\n')[:1000])
    wanted = None if delimiter in (quote, escape) else delimiter

    tried = find_delimiters() if wanted is None else [wanted]
    cuts = [read(delimiter, quote) for delimiter in tried for quote in find_quotes(delimiter)]
    scores = [score(cut.table, cut.delimiter) for cut in cuts]
    best = cuts[scores.index(max(scores))]
    if max(scores) == 0:
        cuts = [read(wanted or unused_delimiter(quote), quote) for quote in find_quotes('\n')]
        best = max(cuts, key=lambda cut: known(cut.table))

    return {
        'encoding': None,
        'delimiter': best.delimiter,
        'quote': best.quote,
        'escape': best.escape,
        'line_end': None,
        'has_header': find_header(best.table) if has_header is None else has_header,
        'skip_lines': best.lines,
    }
$$;

comment on function tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer) is
    'Finds the dialect of a text, for sniff_csv(), except its encoding and line end. The text is '
    'in UTF-8 with line feeds. When skip_lines is given, whatever its value, no lines to skip are '
    'looked for.';

revoke execute on function
    tinydevcrm._load_record_cutter(),
    tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer)
from public;

grant execute on function
    tinydevcrm._load_record_cutter(),
    tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer)
to tinydevcrm_user;
