-- Reads the beginning of a CSV and finds how it is written. This is work on text, so PL/Python.

create function tinydevcrm._guess_encoding(
    sample       bytea,
    out encoding text,
    out warning  text
)
    returns record
    language plpython3u
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    import codecs
    import re

    # The letters beside a to z of some languages. The encoding in which the text has the letters of
    # one language, and capitals only where words begin, is the likeliest.
    LATIN = [
        'äöüß', 'éèêëàâçîïôûùœæ', 'áéíóúñü', 'àèéìòù', 'ãõáéíóúâêôàç', 'åäöæøé', 'ëïéèöü']
    CENTRAL = [
        'áčďéěíňóřšťúůýž', 'ąćęłńóśźż', 'áéíóöőúüű', 'ăâîșțşţ', 'čćđšž', 'áäčďéíľĺňóôŕšťúýž']
    CYRILLIC = ['абвгдежзийклмнопрстуфхцчшщъыьэюяё', 'абвгґдеєжзиіїйклмнопрстуфхцчшщьюя']
    CANDIDATES = [
        ('WIN1252', 'cp1252', LATIN), ('WIN1250', 'cp1250', CENTRAL),
        ('WIN1251', 'cp1251', CYRILLIC), ('MACINTOSH', 'mac_roman', LATIN),
        ('SJIS', 'cp932', None), ('GBK', 'gbk', None)]
    SYMBOLS = '€£¥§°«»‘’“”„–—…·®©™²³½¼¾ªº¡¿№\u00a0'

    def fit_of_letters(text, alphabets):
        """The share of the characters beyond ASCII that fit the language which fits best."""
        marks = re.findall(r'[^\x00-\x7f]', text)
        if not marks:
            return 0
        inner = len(re.findall('(?<=[^\\W\\d_])[' + SYMBOLS + '](?=[^\\W\\d_])', text))
        # Within a word, a capital after a small letter, and Latin beside Cyrillic letters.
        odd = sum(
            1 for word in re.findall(r'[^\W\d_]+', text)
            if not word.isascii() and (not (word.islower() or word.isupper() or word.istitle())
                                       or re.search('[а-яё]', word, re.I) and re.search('[a-z]', word, re.I)))
        symbols = sum(mark in SYMBOLS for mark in marks) - inner
        letters = max(sum(mark.lower() in alphabet for mark in marks) for alphabet in alphabets)
        return max(0, letters + symbols - odd) / len(marks)

    def fit_of_ideographs(text, name):
        """The share of the characters that are frequent: kana, and the first level of the set."""
        marks = re.findall(r'[^\x00-\x7f]', text)
        if not marks:
            return 0
        leads = {'cp932': (136, 151), 'gbk': (176, 215)}[name]
        common = sum(
            '\u3000' <= mark <= '\u30ff' or '\uff01' <= mark <= '\uff5e'
            or leads[0] <= mark.encode(name)[0] <= leads[1] and len(mark.encode(name)) == 2
            for mark in marks if mark != '\ufffd')
        return common / len(marks)

    size = len(sample) // 2
    zeros = [sample[place::2].count(0) for place in (0, 1)]
    if size > 1 and max(zeros) > 0.4 * size and min(zeros) < 0.05 * size:
        return {'encoding': 'UTF16LE' if zeros[1] > zeros[0] else 'UTF16BE', 'warning': None}

    # A bad byte among more good characters is a bad line, not another encoding.
    text = codecs.getincrementaldecoder('utf-8')('replace').decode(sample)
    bad = text.count('\ufffd')
    if text.isascii() or sum(character > '\x7f' for character in text) - bad >= bad:
        return {'encoding': 'UTF8', 'warning': None}

    fits = []
    for encoding, name, alphabets in CANDIDATES:
        text = codecs.getincrementaldecoder(name)('replace').decode(sample[:65536])
        fit = fit_of_letters(text, alphabets) if alphabets else fit_of_ideographs(text, name)
        fits.append((fit + (0.05 if encoding == 'WIN1252' else 0), encoding, text))
    fits.sort(key=lambda fit: -fit[0])
    best, encoding, text = fits[0]
    if best < 0.6:
        best, encoding, text = next(fit for fit in fits if fit[1] == 'WIN1252')
    # Some encodings have the same letters in the same places.
    second, other = next(fit[:2] for fit in fits if fit[2] != text)
    is_weak = best < 0.8 or best - second < 0.2
    return {
        'encoding': encoding,
        'warning': f'the encoding is a guess: {encoding}, or else {other}' if is_weak else None,
    }
$$;

comment on function tinydevcrm._guess_encoding(bytea) is
    'Guesses the encoding of a text without a byte order mark: UTF-8 when that is valid, UTF-16 by '
    'its zeros, else one of WIN1252, WIN1250, WIN1251, MACINTOSH, SJIS and GBK, by the letters that '
    'languages have. The warning says when two are about as likely.';

create function tinydevcrm._read_start(
    sample           bytea,
    inout encoding   text,
    inout delimiter  text,
    quote            text,
    escape           text,
    inout skip_lines integer,
    out   line_end   text,
    out   utf8       bytea,
    out   warnings   text[]
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
        guess = plpy.execute(plpy.prepare(
            'select encoding, warning from tinydevcrm._guess_encoding($1)', ['bytea']), [sample])[0]
        if guess.get('warning'):
            warnings.append(guess.get('warning'))
        return guess.get('encoding')

    def find_line_end(text):
        """The most frequent line end outside of quotes; the first one decides LF or CRLF."""
        mark = re.escape(quote or '"')
        inside = '[^{0}]*(?:{0}{0}[^{0}]*)*'.format(mark)
        if escape not in (None, quote or '"'):
            inside = r'(?s:[^{0}{1}]|{1}.)*'.format(mark, re.escape(escape))
        before = r'(?<![^\s,;|~^:\u00a6\x01' + re.escape((delimiter or ',')[-1]) + '])'
        cell = before + mark + inside + mark
        bare = re.sub(cell, '', text)
        if len(re.findall('\r(?!\r*\n)', bare)) > bare.count('\n'):
            if '\n' in bare.replace('\r\n', ''):
                warnings.append('some lines end in CR and some in LF')
            return 'CR'
        end = re.search('\r*\n', bare)
        return 'CRLF' if end and end.group() != '\n' else 'LF'

    warnings = []
    name = find_encoding() if encoding is None else encoding
    try:
        text = decode(name, 'replace')
    except (LookupError, UnicodeError):
        return {'encoding': name, 'skip_lines': None, 'line_end': None, 'delimiter': None,
                'utf8': None, 'warnings': []}
    text = text.lstrip('\ufeff')

    line_end = find_line_end(text[:65536])
    if line_end == 'CR':
        text = text.replace('\r\n', '\n').replace('\r', '\n')
    else:
        text = re.sub('\r+\n', '\n', text).replace('\r', ' ')

    # The line "sep=" is first and names the delimiter for Excel.
    named = re.match(r'\s*"?sep=([\t,;|:^~!#$%&*+/])"?[ \t]*(?:\n|\Z)', text, re.IGNORECASE)
    skipped = skip_lines
    if skipped is None:
        skipped = named.group().count('\n') if named else 0

    rest = ''.join(text.split('\n', skipped)[skipped:])
    return {'encoding': name, 'skip_lines': skipped, 'line_end': line_end,
            'delimiter': delimiter or named and named.group(1), 'utf8': rest.encode('utf-8', 'replace'),
            'warnings': warnings}
$$;

comment on function tinydevcrm._read_start(bytea, text, text, text, text, integer) is
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
            when '\x01' then e'\x01'
            else sniff_csv.delimiter
        end;
    -- The quote is null when there is none.
    v_quote     constant text := nullif(lower(sniff_csv.quote), 'none');
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
            (2, v_delimiter !~ '^[^\n\r]{1,10}$',
                format('delimiter %L is not one to ten characters', sniff_csv.delimiter),
                'Give a character, such as ; or |, several, or one of the words tab and space.'),
            (3, v_delimiter ~ '["'']',
                format('delimiter %L has a quote', sniff_csv.delimiter),
                'Give other characters, such as ; or |, or one of the words tab and space.'),
            (4, v_quote !~ v_mark,
                format('quote %L is not one character', sniff_csv.quote),
                'Give one ASCII character, mostly ", or the word none.'),
            (5, sniff_csv.escape !~ v_mark,
                format('escape %L is not one character', sniff_csv.escape),
                'Give one ASCII character: the quote when quotes are doubled, else mostly \.'),
            (6, v_delimiter = v_quote,
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
        coalesce(sniff_csv.sample, ''), sniff_csv.encoding, v_delimiter, v_quote, sniff_csv.escape,
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
        v_start.utf8, v_start.delimiter, lower(sniff_csv.quote), sniff_csv.escape,
        sniff_csv.has_header, sniff_csv.skip_lines);

    v_dialect.encoding := v_start.encoding;
    v_dialect.line_end := v_start.line_end;
    v_dialect.warnings := v_start.warnings || v_dialect.warnings;
    v_dialect.skip_lines :=
        coalesce(sniff_csv.skip_lines, v_start.skip_lines + v_dialect.skip_lines);
    return v_dialect;
end
$$;

comment on function tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer) is
    'Finds the dialect of a CSV file from its first bytes. 256 kB are plenty, and they may end '
    'anywhere. A part that you give stays as it is, and the rest is found with it; delimiter may '
    'also be tab, \t, \x01 or space, and quote may be none. Delimiters tried: comma, semicolon, tab, '
    'bar, blank, comma and blank; when none of them cuts the lines, ~, ^, ¦, \x01 and :; and several '
    'in a row, such as ||. Without a byte order mark, the encoding is that of _guess_encoding(). '
    'Raises TD005 when the sample is empty or not text, TD007 for a bad part or an encoding that '
    'Python does not know.';

revoke execute on function
    tinydevcrm._guess_encoding(bytea),
    tinydevcrm._read_start(bytea, text, text, text, text, integer),
    tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer)
from public;

grant execute on function
    tinydevcrm._guess_encoding(bytea),
    tinydevcrm._read_start(bytea, text, text, text, text, integer),
    tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer)
to tinydevcrm_user;
