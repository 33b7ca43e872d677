-- How a CSV file is written: what sniff_csv() finds, what can be given to it, what it refuses.

begin;

select plan(40);

-- What it finds

create temporary table samples (
    name       text,
    sample     text,
    delimiter  text,
    quote      text,
    escape     text,
    line_end   text,
    has_header boolean,
    skip_lines integer
);

insert into samples
values
    -- delimiters
    ('commas', E'a,b\n1,2\n', ',', '"', '"', 'LF', true, 0),
    ('no line end at the end', E'a,b\n1,2', ',', '"', '"', 'LF', true, 0),
    ('semicolons', E'a;b\n1;2\n3;4\n', ';', '"', '"', 'LF', true, 0),
    ('semicolons and quoted decimal commas', E'a;b\n"1,5";2\n"1,6";3\n', ';', '"', '"', 'LF', true,
        0),
    ('semicolons and decimal commas', E'a;b\n1,5;2,25\n1,6;3,75\n', ';', '"', '"', 'LF', true, 0),
    ('semicolons and decimal commas only', E'1,5;2,5\n1,6;3,7\n', ';', '"', '"', 'LF', false, 0),
    ('semicolons and sentences', E'1;One, two, three\n2;Four, five, six\n', ';', '"', '"', 'LF',
        false, 0),
    ('tabs', E'a\tb\n1\t2\n', E'\t', '"', '"', 'LF', true, 0),
    ('tabs and blanks', E'id\tfull name\n1\tJohn Smith\n2\tJane Doe\n', E'\t', '"', '"', 'LF', true,
        0),
    ('tabs and commas', E'city\tpeople\nParis, France\t2,102,650\nBonn, Germany\t330,579\n', E'\t',
        '"', '"', 'LF', true, 0),
    ('bars', E'id|name|note\n1|Ann|x, y\n2|Bob|z\n', '|', '"', '"', 'LF', true, 0),
    ('bars around times', E'at|what\n2024-01-31 10:00:00|a;b\n2024-02-01 11:00:00|c;d\n', '|', '"',
        '"', 'LF', true, 0),
    ('blanks', E'x y\n1 2.5\n3 4.5\n', ' ', '"', '"', 'LF', true, 0),
    ('blanks and a quoted name', E'name age\n"Ann Lee" 31\nBob 7\n', ' ', '"', '"', 'LF', true, 0),
    ('commas and blanks', E'name, age\nAnn, 31\nBob, 7\n', ', ', '"', '"', 'LF', true, 0),
    ('commas and blanks and quotes', E'name, age\n"Lee, Ann", 31\n"Day,Bob", 7\n', ', ', '"', '"',
        'LF', true, 0),
    ('some blanks after commas', E'name,note\nAnn, hello\nBob, bye\n', ',', '"', '"', 'LF', true,
        0),
    ('two blanks after a comma', E'name, age\nAnn,  31\nBob, 7\n', ',', '"', '"', 'LF', true, 0),
    ('one comma and blank', E'name, age\n', ',', '"', '"', 'LF', true, 0),
    ('a delimiter at the end of each record but the header', E'a,b\n1,2,\n3,4,\n5,6,\n', ',', '"',
        '"', 'LF', true, 0),
    ('records of different widths', E'a,b,c\n1,2,3\n4,5\n6,7,8\n', ',', '"', '"', 'LF', true, 0),
    ('an empty last column', E'a,b,c\n1,2,\n3,4,\n', ',', '"', '"', 'LF', true, 0),

    -- one column
    ('one column', E'name\nAnn\nBob\n', ',', '"', '"', 'LF', true, 0),
    ('one column of names with commas', E'name\nSmith, John\nDoe, Jane\n', ';', '"', '"',
        'LF', true,
        0),
    ('one column of addresses', E'address\n1 Main St, Springfield, IL\n2 Oak St, Shelby, OH\n'
        '3 Elm St, Ogden, UT\n', ';', '"', '"', 'LF', true, 0),
    ('one column of quoted commas', E'name\n"Smith, John"\n"Doe, Jane"\n', ',', '"', '"',
        'LF', true,
        0),
    ('one column with every delimiter', E'note\na, b\nc; d\ne|f\ng\th\n', E'\x1f', '"', '"', 'LF',
        true, 0),
    ('one column of two words', E'full name\nJohn Smith\nJane Doe\n', ',', '"', '"', 'LF', true, 0),
    ('one column of numbers', E'1\n2\n3\n', ',', '"', '"', 'LF', false, 0),
    ('one column of decimal commas', E'amount\n1,5\n2,25\n', ';', '"', '"', 'LF', true, 0),
    ('one column of times', E'2024-01-31 10:00:00\n2024-02-01 11:00:00\n', ',', '"', '"', 'LF',
        false, 0),
    ('one column of times under two words', E'Start time\n2024-01-31 10:00\n2024-02-01 11:00\n',
        ',', '"', '"', 'LF', true, 0),
    ('one column with a blank line in it', E'name\nAnn\n\nBob\n', ',', '"', '"', 'LF', true, 0),
    ('one word', 'x', ',', '"', '"', 'LF', true, 0),

    -- quotes
    ('line feeds in quotes', E'id,note\n1,"two\nlines"\n2,"three\n\nlines, yes"\n', ',', '"', '"',
        'LF', true, 0),
    ('a line feed in a quoted name', E'"two\nlines",b\n1,2\n', ',', '"', '"', 'LF', true, 0),
    ('everything quoted', E'"a";"b"\r\n"1";"2"\r\n', ';', '"', '"', 'CRLF', true, 0),
    ('doubled quotes', E'a,b\n"say ""hi""",1\n"say ""ho"", he said",2\n', ',', '"', '"', 'LF', true,
        0),
    ('apostrophes', E'\'a\',\'b\'\n\'x, y\',\'1\'\n\'it\'\'s\',\'2\'\n', ',', '''', '''',
        'LF', true,
        0),
    ('one column in apostrophes', E'\'name\'\n\'a, b\'\n\'c, d\'\n', ',', '''', '''', 'LF', true,
        0),
    ('apostrophes in words', E'a,b\nit\'s,1\ndon\'t,2\n', ',', '"', '"', 'LF', true, 0),
    ('apostrophes before words', E'a,b\n\'tis,1\n\'twas,2\n', ',', '"', '"', 'LF', true, 0),
    ('apostrophes in quotes', E'a,b\n"\'x\'",\'y\'\n"z",\'w\'\n', ',', '"', '"', 'LF', true, 0),
    ('inches', E'screen,price\n15" wide,1\n17" wide,2\n', ',', '"', '"', 'LF', true, 0),
    ('backslashes before quotes', E'a,b\n"say \\"hi\\", he said",1\n"no",2\n', ',', '"', '\', 'LF',
        true, 0),
    ('a backslash before the last quote', E'a,b\n"\\"hi\\"",1\n"say \\"ho\\"",2\n', ',', '"', '\',
        'LF', true, 0),
    ('backslashes in JSON', E'id;doc\n1;"{\\"a\\": 1, \\"b\\": [2]}"\n2;"{}"\n', ';', '"', '\',
        'LF', true, 0),
    ('folders of Windows', E'dir,n\n"C:\\dir\\",1\n"D:\\x\\",2\n', ',', '"', '"', 'LF', true, 0),
    ('folders of Windows beside doubled quotes',
        E'dir,n\n"C:\\dir\\","say ""x"""\n"D:\\x\\","y"\n', ',', '"', '"', 'LF', true, 0),

    -- line ends
    ('CRLF', E'a,b\r\n1,2\r\n', ',', '"', '"', 'CRLF', true, 0),
    ('CRLF and line feeds in quotes', E'"a\nb",c\r\n1,"x\ny"\r\n', ',', '"', '"', 'CRLF', true, 0),
    ('LF and CRLF in quotes', E'"a\r\nb",c\n1,2\n', ',', '"', '"', 'LF', true, 0),
    ('CR', E'a,b\r1,2\r3,4\r', ',', '"', '"', 'CR', true, 0),
    ('CR and line feeds in quotes', E'a,b\r1,"x\ny"\r3,4\r', ',', '"', '"', 'CR', true, 0),
    ('CR in a cell', E'a,b\nx\ry,2\nz,4\n', ',', '"', '"', 'LF', true, 0),

    -- headers
    ('text only', E'name,city\nAnn,Rome\nBob,Oslo\n', ',', '"', '"', 'LF', true, 0),
    ('numbers only', E'1,2\n3,4\n', ',', '"', '"', 'LF', false, 0),
    ('the index of pandas', E',a,b\n0,x,1.5\n1,y,2.5\n', ',', '"', '"', 'LF', true, 0),
    ('a nameless series of pandas', E',0\n0,1.5\n1,2.5\n', ',', '"', '"', 'LF', false, 0),
    ('a value missing from the first row', E'1,\n2,5\n3,6\n', ',', '"', '"', 'LF', false, 0),
    ('a word in the first row', E'2024-01-01,err\n2024-01-02,5\n2024-01-03,6\n', ',', '"', '"', 'LF', false, 0),
    ('sep= and a letter', E'sep=x\nfoo\nbar\n', ',', '"', '"', 'LF', true, 0),
    ('CRLF above a table of CR', E'title\r\n\r\na,b,c\r1,2,3\r4,5,6\r7,8,9\r10,11,12\r', ',', '"', '"', 'CR', true, 2),
    ('years as names', E'Country,2019,2020\nFrance,1.5,2.5\nItaly,3.5,4.5\n', ',', '"', '"', 'LF',
        true, 0),
    ('years as values', E'2019,5.5\n2020,6.5\n', ',', '"', '"', 'LF', false, 0),
    ('dates without a header', E'Ann,2024-01-31\nBob,2024-02-01\n', ',', '"', '"', 'LF', false, 0),
    ('dates with a header', E'who,31.01.2024\nAnn,1\nBob,2\n', ',', '"', '"', 'LF', true, 0),
    ('booleans', E'true,p\nfalse,q\n', ',', '"', '"', 'LF', false, 0),
    ('uuids', E'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,p\nb0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12,q\n',
        ',', '"', '"', 'LF', false, 0),
    ('missing numbers', E'a,b\nNA,x\n,y\n3,z\n', ',', '"', '"', 'LF', true, 0),
    ('a header only', E'id,name,born\n', ',', '"', '"', 'LF', true, 0),
    ('one record of numbers', E'1,2.5,2024-01-31\n', ',', '"', '"', 'LF', false, 0),
    ('one record with a number', E'1,Ann\n', ',', '"', '"', 'LF', false, 0),
    ('one record with years', E'Country,2019,2020\n', ',', '"', '"', 'LF', true, 0),

    -- lines to skip
    ('blank lines', E'\n \n\na,b\n1,2\n', ',', '"', '"', 'LF', true, 3),
    ('blank lines above one column', E'\r\n\r\nname\r\nAnn\r\n', ',', '"', '"', 'CRLF', true, 2),
    ('sep=', E'sep=;\r\na;b\r\n1,5;2\r\n', ';', '"', '"', 'CRLF', true, 1),
    ('sep= against the look of it', E'sep=|\na,b\n1,2\n', '|', '"', '"', 'LF', true, 1),
    ('sep= and a tab in quotes', E'"sep=\t"\na\tb\n1\t2\n', E'\t', '"', '"', 'LF', true, 1),
    ('sep= and a title', E'sep=,\nSales\n\na,b\n1,2\n3,4\n5,6\n', ',', '"', '"', 'LF', true, 3),
    ('a title', E'Sales of 2024\nid,name,price\n1,x,2.5\n2,y,3.5\n', ',', '"', '"', 'LF', true, 1),
    ('a title and a blank line', E'Sales, all of them\n\nid,name,price\n1,x,2.5\n2,y,3.5\n', ',',
        '"', '"', 'LF', true, 2),
    ('a title above two columns', E'Sales\n\nid,price\n1,2.5\n2,3.5\n', ',', '"', '"', 'LF', true,
        2),
    ('a title that a spreadsheet padded', E'Sales,,\n,,\nid,name,price\n1,x,2.5\n2,y,3.5\n', ',',
        '"', '"', 'LF', true, 2),
    ('a title of two lines in quotes', E'"Sales\nof 2024"\nid,name,price\n1,x,2.5\n2,y,3.5\n', ',',
        '"', '"', 'LF', true, 2),
    ('a bank statement',
        E'Kontoauszug\r\n"IBAN:";"DE02 1203"\r\n"Stand vom:";"31.01.2024"\r\n\r\n'
        '"Tag";"Empfänger";"Betrag"\r\n"30.01.2024";"Müller, Ann";"-1.234,50"\r\n'
        '"31.01.2024";"Bäcker";"-4,20"\r\n', ';', '"', '"', 'CRLF', true, 4),
    ('comments', E'# made by x, y, z\n# on 2024-01-31\nid,name\n1,x\n2,y\n', ',', '"', '"', 'LF',
        true, 2),
    ('a header that looks like a comment', E'##made by x\n#id\tname\n1\tx\n2\ty\n', E'\t', '"', '"',
        'LF', true, 1),
    ('colours', E'#ffffff,white\n#000000,black\n', ',', '"', '"', 'LF', true, 0),
    ('records of other widths above the table',
        E'some title\nversion,1.1\npos,52.2,-174.2\nDate,North,East,Up,Q\n2007-05-10,3.0,1.5,2.5,1\n'
        '2007-05-11,3.1,1.6,2.6,1\n', ',', '"', '"', 'LF', true, 3),
    ('comments within', E'x,y,z\n# a\n1,2,3\n# b\n# c\n4,5,6\n', ',', '"', '"', 'LF', true, 0),
    ('more comments than records', E'# a\n# b, c\n# d\n# e\nx,y\n1,2\n', ',', '"', '"', 'LF', true,
        4),
    ('a comment as wide as the table', E'# made, today\nx,y\n1,2\n3,4\n', ',', '"', '"', 'LF', true,
        1),
    ('a comment that is the header', E'# x,y\n1,2\n3,4\n', ',', '"', '"', 'LF', true, 0),
    ('names and values that a spreadsheet padded',
        E'From:,2024-01-01,,\nTo:,2024-01-31,,\nid,name,price,tax\n1,x,2.5,1\n2,y,3.5,1\n', ',', '"',
        '"', 'LF', true, 2),
    ('a header with nameless columns', E'id,name,,\n1,x,3,4\n2,y,5,6\n3,z,7,8\n', ',', '"', '"', 'LF',
        true, 0),
    ('row names without a name', E'a,b\nr1,1,2\nr2,3,4\nr3,5,6\n', ',', '"', '"', 'LF', true, 0),
    ('a line feed in a quoted name below a title',
        E'Sales\n"Day\n(UTC)",n,m\n2024-01-31,1,2\n2024-02-01,3,4\n', ',', '"', '"', 'LF', true, 1),

    -- longer and rarer delimiters
    ('double bars', E'id||name||n\n1||x||2\n3||y||4\n', '||', '"', '"', 'LF', true, 0),
    ('bars and a wave', E'id|~|name\n1|~|x\n2|~|y, z\n', '|~|', '"', '"', 'LF', true, 0),
    ('an empty column between bars', E'1||2\n3||4\n', '|', '"', '"', 'LF', false, 0),
    ('double colons', E'1::31::2.5\n1::32::3.0\n', '::', '"', '"', 'LF', false, 0),
    ('waves', E'id~name\n1~x\n2~y\n', '~', '"', '"', 'LF', true, 0),
    ('broken bars', E'id\u00a6name\n1\u00a6x\n2\u00a6y\n', E'\u00a6', '"', '"', 'LF', true, 0),
    ('control characters', E'id\x01name\n1\x01x\n2\x01y\n', E'\x01', '"', '"', 'LF', true, 0),
    ('colons', E'root:x:0:/root\nann:x:1000:/home/ann\n', ':', '"', '"', 'LF', false, 0),
    ('one column of times of day', E'10:00:00\n11:30:00\n', ',', '"', '"', 'LF', false, 0),

    -- quotes that are none
    ('one cell in apostrophes', E'id,title\n1,Changes\n2,''Heroes''\n', ',', '"', '"', 'LF', true, 0),
    ('one column of apostrophes among others', E'id,title\n1,''Changes''\n2,''Heroes''\n', ',', '"', '"',
        'LF', true, 0),
    ('a column in apostrophes, with its name', E'id,''title''\n1,''Changes''\n2,''Heroes''\n', ',', '''',
        '''', 'LF', true, 0),
    ('quotes that begin cells and end none', E'0\t"\n0\t!\n0\t"\n', E'\t', null, null, 'LF', false, 0),
    ('a line feed and a delimiter in quotes', E'a,b\n1,"x\n2,y"\n', ',', '"', '"', 'LF', true, 0),

    -- line ends
    ('two carriage returns before a line feed', E'a,b\r\r\n1,2\r\r\n', ',', '"', '"', 'CRLF', true, 0),
    ('carriage returns and a line feed', E'a\r1\r2\n3\r4\r', ',', '"', '"', 'CR', true, 0),

    ('too few records below a title', E'Sales\n\nid,name,price\n', ';', '"', '"', 'LF', true, 0);

create function pg_temp.shown(dialect tinydevcrm.csv_dialect)
    returns text
    language sql
as $$
    select concat_ws(
               ' ', to_json(dialect.delimiter), dialect.quote, dialect.escape, dialect.line_end,
               dialect.has_header, dialect.skip_lines)
$$;

create function pg_temp.wanted(sample samples)
    returns text
    language sql
as $$
    select concat_ws(
               ' ', to_json(sample.delimiter), sample.quote, sample.escape, sample.line_end,
               sample.has_header, sample.skip_lines)
$$;

select is_empty(
    $$ select name, pg_temp.wanted(samples), pg_temp.shown(found)
         from samples
        cross join tinydevcrm.sniff_csv(convert_to(sample, 'UTF8')) as found
        where pg_temp.shown(found) <> pg_temp.wanted(samples) $$,
    'the dialect of each sample is found');

select is_empty(
    $$ select name, pg_temp.wanted(samples), pg_temp.shown(found)
         from samples
        cross join tinydevcrm.sniff_csv(
                  '\xefbbbf' || convert_to(sample, 'UTF8'), null, delimiter, quote, escape,
                  has_header, skip_lines) as found
        where pg_temp.shown(found) <> pg_temp.wanted(samples) $$,
    'a found dialect can be given, and a byte order mark changes nothing');

-- Encodings

create temporary table encoded (name text, sample bytea, encoding text);

insert into encoded
values
    ('ASCII', 'a,b', 'UTF8'),
    ('UTF-8', convert_to(E'caf\u00e9,b\n', 'UTF8'), 'UTF8'),
    ('UTF-8 with a mark', '\xefbbbf' || convert_to(E'\u00e9,b\n', 'UTF8'), 'UTF8'),
    ('Windows-1252', convert_to(E'caf\u00e9,\u20ac\n', 'WIN1252'), 'WIN1252'),
    ('Windows-1252 with a byte that it has not', '\x612c62e90a812c630a', 'WIN1252'),
    ('Windows-1252, German', convert_to('a,b' || E'\nM\u00fcller,K\u00f6ln\n', 'WIN1252'), 'WIN1252'),
    ('Windows-1251', convert_to(E'\u0438\u043c\u044f,b\n\u0418\u0432\u0430\u043d,1\n', 'WIN1251'), 'WIN1251'),
    ('Windows-1250', convert_to(E'a,b\nJi\u0159\u00ed,\u0141\u00f3d\u017a\n', 'WIN1250'), 'WIN1250'),
    ('Mac Roman', '\x612c620a4d9f6c6c65722c4b9a6c6e0a4a6f738e2c6e0a', 'MACINTOSH'),
    ('Shift JIS', convert_to(E'\u540d\u524d,b\n\u592a\u90ce,\u6771\u4eac\n\u3055\u304f\u3089,1\n', 'SJIS'), 'SJIS'),
    ('GBK', convert_to(E'\u59d3\u540d,b\n\u5f20\u4e09,\u5317\u4eac\n', 'GBK'), 'GBK'),
    ('bytes of no language', '\x612c620a6f6fffff672c310a', 'WIN1252'),
    ('one letter', '\x612c620a31a9', 'WIN1252'),
    ('UTF-16 without a mark', '\x61002c0062000a00e9002c0031000a00', 'UTF16LE'),
    ('UTF-16 without a mark, big end first', '\x0061002c0062000a00e9002c0031000a', 'UTF16BE'),
    ('UTF-16, little end first', '\xfffe61002c0062000a00e9002c0031000a00', 'UTF16LE'),
    ('UTF-16, big end first', '\xfeff0061002c0062000a00e9002c0031000a', 'UTF16BE'),
    ('UTF-8 cut within a character', '\x612c620ac3a92cc3', 'UTF8'),
    ('UTF-8 cut within its only character', '\x612c620a31e282', 'UTF8'),
    ('UTF-16 cut within a character', '\xfffe61002c0062000a00e9', 'UTF16LE');

select is_empty(
    $$ select name, encoded.encoding, found
         from encoded
        cross join tinydevcrm.sniff_csv(sample) as found
        where (found.encoding, found.delimiter) is distinct from (encoded.encoding, ',') $$,
    'each encoding is found');

select is(
    array(
        select cardinality((tinydevcrm.sniff_csv(sample)).warnings)
          from unnest(array[
                   convert_to(E'a,b\nM\u00fcller,K\u00f6ln\n', 'WIN1252'), '\x612c620a81ff2c31',
                   convert_to(E'note\na, b\nc, d\n', 'UTF8'), convert_to(E'note\nx\ny\n', 'UTF8'),
                   convert_to(E'a\r1\r2\n3\r4\r', 'UTF8')]) as sample
    ),
    array[0, 1, 1, 0, 1],
    'a weak encoding, one column that has delimiters and line ends of two kinds give a warning');

select is(
    array(
        select (tinydevcrm.sniff_csv(convert_to(sample, 'UTF8'))).has_blanks
          from unnest(array[
                   E'a,b\n1, "x, y"\n2,z\n', E'a,b\n1, x\n2,z\n', E'a,b\n1, "x" y\n2,z\n']) as sample
    ),
    array[true, false, false],
    'blanks before quotes are found, where each quote closes at a delimiter');

select is(
    pg_temp.shown(tinydevcrm.sniff_csv('\xfffe61003b0062000d000a0031003b003200')),
    '";" " " CRLF t 0', 'UTF-16 is looked into');

select is_empty(
    $$ select name, found
         from unnest(array[
                  'LATIN1', 'LATIN9', 'WIN1250', 'windows-1252', 'WIN866', 'KOI8R', 'ISO_8859_5',
                  'EUC_JP', 'SJIS', 'GB18030', 'Utf8']) as name
        cross join tinydevcrm.sniff_csv(convert_to(E'a;b\n1;2\n', 'UTF8'), name) as found
        where (found.encoding, found.delimiter) is distinct from (name, ';') $$,
    'a given encoding is returned as it was given');

-- In Shift JIS, the second byte of a character may be that of a bar.
select is(
    (tinydevcrm.sniff_csv('\x827c2c837c0a927c2c947c0a967c2c977c0a', 'SJIS')).delimiter, ',',
    'the sample is read in the encoding that is given');

select is(
    pg_temp.shown(tinydevcrm.sniff_csv('\x61003b0062000a0031003b003200', 'UTF16LE')),
    '";" " " LF t 0', 'UTF-16 without a mark can be given');

-- Cut samples

select is(
    pg_temp.shown(tinydevcrm.sniff_csv(convert_to(
        E'id,note,n\n1,"a, b",2\n2,"three; four; five\nsix|seven, ei', 'UTF8'))),
    '"," " " LF t 0', 'a sample may end within quotes');

select is(
    pg_temp.shown(tinydevcrm.sniff_csv(convert_to(E'id,note,n\n1,"a; b\nc; d\n', 'UTF8'))),
    '"," " " LF t 0', 'a sample may end within the quotes of its first value');

select is(
    pg_temp.shown(tinydevcrm.sniff_csv(convert_to(
        E'"id";"at"\r\n"1";"2024-01-31"\r\n"2";"2024-02-01"\r\n"3";"2024-0', 'UTF8'))),
    '";" " " CRLF t 0', 'a sample may end within a date');

select is(
    pg_temp.shown(tinydevcrm.sniff_csv(convert_to(E'a, b\n1, 2\n3, "four,five', 'UTF8'))),
    '", " " " LF t 0', 'a sample may end within quotes after a comma and blank');

-- Every place to cut after the header and one record.
select is_empty(
    $$ select size, pg_temp.shown(found)
         from convert_to(
                  E'sep=;\r\n\r\nArt;Größe;Notiz\r\n1;1,5;"Er sagte ""ja"", dann; nein"\r\n'
                  '2;2,5;"zwei\nZeilen, mehr"\r\n3;3,5;x\r\n', 'UTF8') as text
        cross join generate_series(68, length(text)) as size
        cross join tinydevcrm.sniff_csv(substring(text from 1 for size)) as found
        where (found.encoding, pg_temp.shown(found)) <> ('UTF8', '";" " " CRLF t 2') $$,
    'a sample may end anywhere');

-- What can be given

create type pg_temp.parts as (
    encoding   text,
    delimiter  text,
    quote      text,
    escape     text,
    line_end   text,
    has_header boolean,
    skip_lines integer,
    has_blanks boolean,
    warnings   text[]
);

create temporary table given (
    name      text,
    sample    text,
    parts     pg_temp.parts,
    shown     text
);

insert into given
values
    ('a delimiter', E'a;b,c\n1;2,3\n', (null, ',', null, null, null, null, null, null, null), '"," " " LF t 0'),
    ('tab', E'a;b\n1;2\n', (null, 'tab', null, null, null, null, null, null, null), '"\t" " " LF t 0'),
    ('TAB', E'a;b\n1;2\n', (null, 'TAB', null, null, null, null, null, null, null), '"\t" " " LF t 0'),
    ('\t', E'a;b\n1;2\n', (null, '\t', null, null, null, null, null, null, null), '"\t" " " LF t 0'),
    ('space', E'a;b\n1;2\n', (null, 'space', null, null, null, null, null, null, null), '" " " " LF t 0'),
    ('comma and blank', E'a,b\n1,2\n', (null, ', ', null, null, null, null, null, null, null),
        '", " " " LF t 0'),
    ('a delimiter of its own kind', E'a^b\n1^2\n', (null, '^', null, null, null, null, null, null, null),
        '"^" " " LF t 0'),
    ('a delimiter and a title', E'Sales\n\na~b\n1~2\n3~4\n',
        (null, '~', null, null, null, null, null, null, null),
        '"~" " " LF t 2'),
    ('a delimiter against sep=', E'sep=;\na,b\n1,2\n', (null, ',', null, null, null, null, null, null, null),
        '"," " " LF t 1'),
    ('an apostrophe', E'a,b\n\'x;y\',1\n\'z\',2\n', (null, null, '''', null, null, null, null, null, null),
        '"," '' '' LF t 0'),
    ('a quote that would delimit', E'a|b\n1|2\n', (null, null, '|', null, null, null, null, null, null),
        '"," | | LF t 0'),
    ('doubled quotes', E'a,b\n"\\"x\\"",1\n', (null, null, null, '"', null, null, null, null, null),
        '"," " " LF t 0'),
    ('a backslash', E'a,b\n"x",1\n', (null, null, null, '\', null, null, null, null, null), '"," " \ LF t 0'),
    ('another escape', E'a,b\n"x^"y, z",1\n"w",2\n', (null, null, null, '^', null, null, null, null, null),
        '"," " ^ LF t 0'),
    ('no header', E'a,b\n1,2\n', (null, null, null, null, null, false, null, null, null), '"," " " LF f 0'),
    ('a header', E'1,2\n3,4\n', (null, null, null, null, null, true, null, null, null), '"," " " LF t 0'),
    ('no lines to skip', E'Sales\n\na,b\n1,2\n3,4\n5,6\n', (null, ',', null, null, null, null, 0, null, null),
        '"," " " LF t 0'),
    ('lines to skip', E'x;y\nz\na,b\n1,2\n', (null, null, null, null, null, null, 2, null, null),
        '"," " " LF t 2'),
    ('lines to skip, up to a value', E'a,b\n1,2\n3,4\n', (null, null, null, null, null, null, 1, null, null),
        '"," " " LF f 1'),
    ('sep= among the lines to skip', E'sep=|\nx\na|b,c\n1|2,3\n',
        (null, null, null, null, null, null, 2, null, null), '"|" " " LF t 2');

select is_empty(
    $$ select name, shown, pg_temp.shown(found)
         from given
        cross join tinydevcrm.sniff_csv(
                  convert_to(sample, 'UTF8'), (parts).encoding, (parts).delimiter, (parts).quote,
                  (parts).escape, (parts).has_header, (parts).skip_lines) as found
        where pg_temp.shown(found) <> shown $$,
    'a part that is given stays, and the rest is found with it');

-- What it refuses

create function pg_temp.refused(sqlstate text, message text, arguments text)
    returns text
    language sql
as $$
    select throws_ok(
               format('select tinydevcrm.sniff_csv(%s)', arguments), sqlstate, message,
               format('sniff_csv(%s) is refused', arguments))
$$;

select pg_temp.refused('TD005', 'the file is empty', '''''');
select pg_temp.refused('TD005', 'the file is empty', 'null');
select pg_temp.refused('TD005', 'the file is empty', $$'\x20090d0a0a'$$);
select pg_temp.refused('TD005', 'the file is empty', $$'\xefbbbf0d0a20'$$);
select pg_temp.refused('TD005', 'the file is empty', $$'\xfffe20000a00'$$);
select pg_temp.refused('TD005', 'the file is empty', $$'\x612c620a0a', skip_lines => 1$$);
select pg_temp.refused('TD005', 'the file is empty', $$'\x612c620a0a', skip_lines => 9$$);
select pg_temp.refused(
    'TD005', 'the file is not text: it has a byte of value 0', $$'\x89504e470d0a1a0a00000d'$$);
select pg_temp.refused(
    'TD005', 'the file is not text: it has a byte of value 0', $$'\xfffe610000006200'$$);
select pg_temp.refused('TD007', 'the encoding has no name', $$'a', encoding => ' '$$);
select pg_temp.refused(
    'TD007', 'encoding ''klingon'' is not known', $$'a', encoding => 'klingon'$$);
select pg_temp.refused('TD007', 'encoding ''hex'' is not known', $$'a', encoding => 'hex'$$);
select pg_temp.refused(
    'TD007', 'delimiter ''-----------'' is not one to ten characters',
    $$'a', delimiter => '-----------'$$);
select pg_temp.refused('TD007', 'delimiter '''' is not one to ten characters', $$'a', delimiter => ''$$);
select pg_temp.refused('TD007', 'delimiter '',"'' has a quote', $$'a', delimiter => ',"'$$);
select pg_temp.refused(
    'TD007', E'delimiter ''\n'' is not one to ten characters', $$'a', delimiter => E'\n'$$);
select pg_temp.refused('TD007', 'delimiter ''"'' has a quote', $$'a', delimiter => '"'$$);
select pg_temp.refused('TD007', 'delimiter '''''''' has a quote', $$'a', delimiter => ''''$$);
select pg_temp.refused('TD007', 'quote ''""'' is not one character', $$'a', quote => '""'$$);
select pg_temp.refused('TD007', 'quote '''' is not one character', $$'a', quote => ''$$);
select pg_temp.refused('TD007', 'escape ''ab'' is not one character', $$'a', escape => 'ab'$$);
select pg_temp.refused(
    'TD007', 'delimiter and quote are both ''|''', $$'a', delimiter => '|', quote => '|'$$);
select pg_temp.refused(
    'TD007', 'delimiter and escape are both ''|''', $$'a', delimiter => '|', escape => '|'$$);
select pg_temp.refused('TD007', '-1 lines cannot be skipped', $$'a', skip_lines => -1$$);

-- Damaged bytes

select is(
    (tinydevcrm.sniff_csv(
        convert_to(repeat(E'N,Orl\u00e9ans\n', 100), 'UTF8') || '\x4bf66c6e2c310a')).encoding, 'UTF8',
    'one bad byte does not make it another encoding');

select * from finish();

rollback;
