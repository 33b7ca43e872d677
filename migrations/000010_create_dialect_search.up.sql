-- Finds how a CSV is written: the delimiter and the quote that cut it best. This is work on text,
-- so PL/Python.

create type tinydevcrm.csv_dialect as (
    encoding   text,
    delimiter  text,
    quote      text,
    escape     text,
    line_end   text,
    has_header boolean,
    skip_lines integer,
    has_blanks boolean,
    warnings   text[],
    format     text,
    sheet      text,
    members    text[]
);

comment on type tinydevcrm.csv_dialect is
    'How a file is written. sniff_csv() finds it for a CSV file. Of a file in another format it has '
    'only what that format has.';
comment on column tinydevcrm.csv_dialect.encoding is
    'UTF8, UTF16LE, UTF16BE, WIN1252, WIN1251, WIN1250, MACINTOSH, SJIS, GBK, or what the caller '
    'of sniff_csv() gave.';
comment on column tinydevcrm.csv_dialect.delimiter is
    'Separates two cells: 1 to 10 characters. For a file of one column, a character that does not '
    'occur in it.';
comment on column tinydevcrm.csv_dialect.quote is
    'Begins and ends a quoted cell: one ASCII character; null when no cell is quoted.';
comment on column tinydevcrm.csv_dialect.escape is
    'Stands before a quote within a quoted cell: the quote itself when quotes are doubled, else '
    'one other ASCII character, mostly a backslash; null when no cell is quoted.';
comment on column tinydevcrm.csv_dialect.line_end is
    'What ends a line, by name: LF, CRLF or CR. When it is CR, lines may also end with LF. Several '
    'carriage returns before a line feed are one line end with it.';
comment on column tinydevcrm.csv_dialect.has_header is
    'Whether the first record after the skipped lines names the columns.';
comment on column tinydevcrm.csv_dialect.skip_lines is
    'Number of physical lines before the header, or before the first record when there is no '
    'header. Blank lines count. Lines within quotes count too: they end with LF, and also with CR '
    'when line_end is CR.';
comment on column tinydevcrm.csv_dialect.has_blanks is
    'Whether blanks may stand before and after a quoted cell, and do not belong to it.';
comment on column tinydevcrm.csv_dialect.warnings is
    'Sentences about what is a weak guess. An import adds them to its notices.';
comment on column tinydevcrm.csv_dialect.format is
    'The format, as --format names it: csv, json, jsonl, parquet or xlsx.';
comment on column tinydevcrm.csv_dialect.sheet is
    'The sheet of a workbook; null for other files.';
comment on column tinydevcrm.csv_dialect.members is
    'Which files of a zip were asked for, as --member names them; null for its only file, and for '
    'other files.';

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

    def cut(text, delimiter, quote, escape, blanks=False):
        """Pairs: the number of lines before a record, and its cells; a blank line has none."""
        if len(delimiter) > 1 and delimiter != ', ':
            text, delimiter = text.replace(delimiter, '\x1f'), '\x1f'
        # Python 3.13 takes no line end as the delimiter, which means that there is none, and no
        # blank when blanks are skipped.
        if delimiter == '\n':
            delimiter = '\x1f'
        reader = csv.reader(
            io.StringIO(text), delimiter=delimiter[0],
            skipinitialspace=(blanks or delimiter == ', ') and delimiter != ' ',
            quotechar=quote, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            doublequote=escape == quote, escapechar=None if escape == quote else escape)
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

    def table_start(records, delimiter, header_votes):
        """Index of the first record below the blank lines, comments and titles."""
        def is_comment(cells):
            return cells[0].lstrip().startswith('#')

        def is_header(start):
            """Whether a record can only be the header of what is below it."""
            table = [cells for _, cells in records[start:start + 50] if not is_blank(cells)]
            for_it, against = header_votes(table) if len(table) > 1 else (0, 0)
            return for_it > against and len(table[0]) == len(table[1]) == width

        def next_record(start):
            return next((place for place in range(start, len(records))
                         if not is_blank(records[place][1]) and not is_comment(records[place][1])),
                        len(records))

        first = first_record(records)
        filled = [cells for _, cells in records if len(cells) > 1 or not is_blank(cells)]
        widths = [len(cells) for cells in filled if not is_comment(cells)]
        widths = widths or [len(cells) for cells in filled]
        later = Counter(widths[len(widths) // 2:])
        width = max(later, key=lambda width: (later[width], width), default=1)
        if width == 1 or 2 * widths.count(1) > len(widths):
            return first

        blank, titles = -1, []
        for start, (_, cells) in enumerate(records):
            if is_blank(cells):
                blank = start
            elif is_comment(cells) and (
                    len(cells) != width or is_header(next_record(start))):
                continue
            # Two cells are a name and its value. A title may contain the delimiter of the table,
            # and a spreadsheet fills it up with empty cells.
            elif len(cells) == 1 or width > 2 and (
                    len(cells) < width or is_blank(cells[1:]) or width > 3 and is_blank(cells[2:])):
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
        # A title may also have as many cells as the table, by chance.
        if titles and delimiter not in (' ', ', '):
            near = range(start, min(start + 20, len(records)))
            header = next(filter(is_header, near), None)
            if header is not None:
                return header
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
    import itertools
    import re
    from collections import Counter, namedtuple

    plpy.execute('select tinydevcrm._load_cell_kinds(), tinydevcrm._load_record_cutter()')
    VALUES, kind, column_kinds, header_votes, find_header = GD.pop('tinydevcrm_cell_kinds')
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
        if escape is not None or quote is None:
            return quote and escape
        after = '(?!' + re.escape(delimiter) + '|$'
        if quote == '\\' or not re.search(r'(?m)\\' + re.escape(quote) + after + ')', head):
            return quote

        def misfits(escape):
            goes_on = after + '|' + re.escape(quote) + ')'
            return sum(1 for _ in re.finditer(quoted(delimiter, quote, escape) + goes_on, head))

        return '\\' if misfits('\\') < misfits(quote) else quote

    def is_all_quoted(delimiter):
        """Whether all cells of a column, two or more, are in apostrophes."""
        rows = [cells for _, cells in cut(head, delimiter, None, None) if not is_blank(cells)]
        columns = ([cell.strip() for cell in column if cell and cell.strip()]
                   for column in itertools.zip_longest(*rows))
        return any(
            len(cells) > 1 and all(cell[0] == cell[-1] == "'" != cell for cell in cells)
            for cells in columns)

    def find_quotes(delimiter):
        """Quotes to try: an apostrophe only when cells need it, or a whole column has it, and no
        cell begins and ends with "."""
        if quote is not None:
            return [None if quote == 'none' else quote]
        end = '(?=' + re.escape(delimiter) + '|$)'
        single, double = (
            [match.group() for match in re.finditer(quoted(delimiter, mark, mark) + end, head)]
            if mark in head else [] for mark in '\'"')
        if double and is_unquoted(delimiter, double):
            return [None]
        needed = any(re.search("''|\n|" + re.escape(delimiter), cell.strip("\n'")[len(delimiter):])
                     for cell in single)
        if single and not double and (needed or is_all_quoted(delimiter)):
            return ['"', "'"]
        return ['"']

    def is_unquoted(delimiter, double):
        """Whether quotes only seem to enclose line ends: each closing quote begins a cell too, and
        without quotes all lines have the same number of cells."""
        long = [cell for cell in double if '\n' in cell.strip('\n')]
        opens = '(^|\n|' + re.escape(delimiter) + ')"$'
        if not long or not all(re.search(opens, cell) for cell in long):
            return False
        widths = {len(cells) for _, cells in cut(head, delimiter, None, None) if cells}
        return len(widths) == 1 and widths != {1}

    def has_blanks(delimiter, quote):
        """Whether blanks stand before quoted cells, and each such quote closes at a delimiter."""
        if quote is None or delimiter in (' ', ', '):
            return False
        mark = re.escape(quote)
        begins = '(?m)(?:^|' + re.escape(delimiter) + ') +' + mark
        closes = begins + '[^{0}]*(?:{0}{0}[^{0}]*)*{0} *(?:(?={1})|$)'.format(
            mark, re.escape(delimiter))
        count = len(re.findall(begins, head))
        return count > 0 and count == len(re.findall(closes, head))

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

    def lengthen(best):
        """The cut by a longer delimiter, such as || or |~|, of which only a part was tried: every
        second cell of all records is then the same."""
        middles = {cell for cells in best.table for cell in cells[1::2]}
        widths = {len(cells) % 2 for cells in best.table}
        # An empty column is a column, unless it also has no name.
        is_likely = best.delimiter in '~^:' or best.delimiter == '|' and find_header(best.table)
        if (len(best.table) < 2 or len(middles) != 1 or widths != {1} or not is_likely
                or max(map(len, best.table)) < 3):
            return best
        middle = middles.pop()
        return read(best.delimiter + middle + best.delimiter, best.quote) \
            if re.fullmatch(r'[^\w\s]{0,8}', middle) else best

    def find_rare():
        """The best cut by a rarer delimiter, if it cuts every line into the same number of cells."""
        cuts = []
        for delimiter, least in (('~', 2), ('^', 2), ('\u00a6', 2), ('\x01', 2), (':', 3)):
            if delimiter in (quote, escape) or head.count(delimiter) < 2:
                continue
            one = lengthen(read(delimiter, find_quotes(delimiter)[0]))
            widths = {len(cells) for cells in one.table}
            if (len(one.table) > 1 and len(widths) == 1 and min(widths) >= least
                    and all(kind(delimiter.join(cells)) not in VALUES for cells in one.table)
                    and known(one.table) > 0.5):
                cuts.append(one)
        return max(cuts, key=lambda cut: known(cut.table), default=None)

    def find_close(lines):
        """Names of the delimiters that most lines of a file of one column contain."""
        lines = [line for line in lines if line.strip()]
        names = {',': 'comma', ';': 'semicolon', '\t': 'tab', '|': '|'}
        return [names[mark] for mark in names if 2 * sum(mark in line for line in lines) > len(lines)]

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
        blanks = has_blanks(delimiter, quote)
        records = complete(list(cut(head, delimiter, quote, escape, blanks)), head)
        start = table_start(records, delimiter, header_votes) if skip_lines is None else 0
        table = [cells for _, cells in records[start:] if len(cells) > 1 or not is_blank(cells)]
        # Titles are above a header. Without a header, a short line is a record.
        first = first_record(records)
        titles = [cells for _, cells in records[first:start] if not (cells and cells[0][:1] == '#')]
        if titles and not (find_header(table) if has_header is None else has_header):
            start = first
            table = [cells for _, cells in records[start:] if len(cells) > 1 or not is_blank(cells)]
        # Comments within are refused later, and do not count here.
        others = [cells for cells in table if len(cells) > 1 or not cells[0].lstrip().startswith('#')]
        if any(len(cells) > 1 for cells in others):
            table = others
        return Cut(delimiter, quote, escape, blanks, records[start][0], table or [['']])

    Cut = namedtuple('Cut', 'delimiter quote escape blanks lines table')
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
    rare = find_rare() if max(scores) == 0 and wanted is None else None
    warnings = []
    if rare:
        best = rare
    elif max(scores) == 0:
        cuts = [read(wanted or unused_delimiter(quote), quote) for quote in find_quotes('\n')]
        best = max(cuts, key=lambda cut: known(cut.table))
        close = find_close(head.split('\n')[best.lines:][:200]) if wanted is None else []
        if close and len(best.table) > 1:
            warnings.append('the file has one column: is one of these its delimiter, which most '
                            'lines contain: ' + ', '.join(close))
    elif wanted is None:
        best = lengthen(best)

    found_header = find_header(best.table) if has_header is None else has_header
    if len(best.table) == 1 and found_header and has_header is None:
        warnings.append('the file has one line, which is taken for names of columns; if it is data, '
                        'choose --header no')

    return {
        'encoding': None,
        'delimiter': best.delimiter,
        'quote': best.quote,
        'escape': best.escape,
        'line_end': None,
        'has_header': found_header,
        'skip_lines': best.lines,
        'has_blanks': best.blanks,
        'warnings': warnings,
        'format': 'csv',
        'sheet': None,
        'members': None,
    }
$$;

comment on function tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer) is
    'Finds the dialect of a text, for sniff_csv(), except its encoding and line end. The text is '
    'in UTF-8 with line feeds; quote can be the word none. When skip_lines is given, whatever its value, no lines to skip are '
    'looked for.';

revoke execute on function
    tinydevcrm._load_record_cutter(),
    tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer)
from public;

grant execute on function
    tinydevcrm._load_record_cutter(),
    tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer)
to tinydevcrm_user;
