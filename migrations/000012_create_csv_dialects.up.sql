-- How a file is written. The orchestrator finds it, because it is what reads the file.

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
    'How a file is written. Of a file that is no CSV it has only what its format has.';
comment on column tinydevcrm.csv_dialect.encoding is
    'UTF8, UTF16LE, UTF16BE, WIN1252, WIN1251, WIN1250, MACINTOSH, SJIS, GBK, or what the user '
    'gave.';
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
