-- Finds the kinds of the cells of a CSV, and whether its first record is a header. This is work on
-- text, so PL/Python.

create function tinydevcrm._load_cell_kinds()
    returns void
    language plpython3u
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    import functools
    import re

    MONTH = '(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[.]?'
    DAY = (r'(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|\d{4}-\d{2}'
           r'|\d{1,2}[- ]' + MONTH + r'[- ](?:\d{4}|\d{2})|' + MONTH + r' \d{1,2},? \d{4})')
    TIME = (r'\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?'
            r'(?: ?(?:z|utc|gmt|[+-]\d{2}(?::?\d{2})?))?')
    MONEY = r'[$\u00a3\u00a5\u20ac]?'
    CELL = re.compile(
        r'(?P<empty>(?:n/?a|nan|null|none|-|\\n)?)'
        r'|(?P<number>[+-]?' + MONEY + r" ?(?:\d+|\d{1,3}(?:[ .,'\u00a0\u202f]\d{3})+|(?=[.]\d))"
        r'(?:[.,]\d+)?(?:e[+-]?\d+)? ?(?:%|' + MONEY + '))'
        '|(?P<date>' + DAY + '(?:(?:t|,? )' + TIME + ')?|' + TIME + ')'
        '|(?P<boolean>true|false|yes|no|[tfyn])'
        r'|(?P<uuid>\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?)'
        # Words and sentences. A cell with a quote, or with a comma that no blank follows, comes
        # from a cut at the wrong place.
        r"|(?P<text>(?:[\w .:!?()/&%+#@*=~$-]|[,;](?= )|(?<=\w)'(?=\w))+)",
        re.IGNORECASE)
    VALUES = {'number', 'date', 'boolean', 'uuid'}

    @functools.lru_cache(maxsize=None)
    def kind(cell):
        match = CELL.fullmatch(cell.strip())
        return match and match.lastgroup

    def column_kinds(table):
        """For each column, the kind that all its cells below the first one share, or None."""
        columns = [{kind(cells[place]) for cells in table[1:200] if place < len(cells)} - {'empty'}
                   for place in range(len(table[0]))]
        return [kinds.pop() if len(kinds) == 1 and kinds <= VALUES else None for kinds in columns]

    def header_votes(table):
        """The numbers of columns that speak for a header, and against one."""
        for_it = against = 0
        for cell, below in zip(table[0], column_kinds(table)):
            # A year can be the name of a column, and an empty cell decides nothing.
            if not below or re.fullmatch('19[0-9]{2}|20[0-9]{2}|2100|\\s*', cell):
                continue
            if kind(cell) == below:
                against += 1
            else:
                for_it += 1
        return for_it, against

    def find_header(table):
        """Whether the cells of the first record are of other kinds than those below them."""
        if len(table) == 1:
            return not {kind(cell) for cell in table[0]} - {'empty'} <= {'number', 'date'}
        for_it, against = header_votes(table)
        return for_it > against or against == 0

    GD.update(tinydevcrm_cell_kinds=(VALUES, kind, column_kinds, header_votes, find_header))
$$;

comment on function tinydevcrm._load_cell_kinds() is
    'Puts Python objects into GD[tinydevcrm_cell_kinds] for another PL/Python function: the set of '
    'value kinds, and functions that find the kind of a cell, the kinds of a table''s columns, '
    'how many columns speak for and against a header, and whether the first record is one. Remove '
    'the entry with pop(), because it caches each cell that it has seen.';

revoke execute on function tinydevcrm._load_cell_kinds() from public;

grant execute on function tinydevcrm._load_cell_kinds() to tinydevcrm_user;
