-- Forms: other ways of writing dates and numbers. A column that no other type of the ladder accepts
-- is read by a form when exactly one reading fits every value.

create table tinydevcrm.csv_forms (
    rank      integer not null,
    name      text not null,
    type_name text not null,
    example   text not null,
    shape     text not null,
    accepts   text not null,
    reads     text not null,
    is_asked  boolean not null default false,

    constraint csv_forms_pkey primary key (rank),
    constraint csv_forms_name_unique unique (name)
);

comment on table tinydevcrm.csv_forms is
    'Ways of writing values that the ladder of tinydevcrm.csv_types leaves as text. An import reads '
    'a column by a form when all forms that accept every value read the same from it, or when its '
    'user gives the name of the form as the type of the column.';
comment on column tinydevcrm.csv_forms.rank is
    'Place in the list, from 1. Of forms that read the same from a column, the first is chosen.';
comment on column tinydevcrm.csv_forms.name is
    'Name of the form, which an option can give as a type: D, M and Y are day, month and year; a '
    'year of two digits, YY, is one from 1970 to 2069.';
comment on column tinydevcrm.csv_forms.type_name is
    'Type of the column.';
comment on column tinydevcrm.csv_forms.example is
    'A value written this way.';
comment on column tinydevcrm.csv_forms.shape is
    'Regular expression that matches what the form accepts and more, and is quick to compile.';
comment on column tinydevcrm.csv_forms.accepts is
    'Regular expression that the whole text of a value matches. Each such value can be read.';
comment on column tinydevcrm.csv_forms.reads is
    'SQL expression of the value; %1$s stands for the text. It depends on no setting.';
comment on column tinydevcrm.csv_forms.is_asked is
    'Whether the form is never chosen unless a user gives its name.';

with days (day, month, year2, year4) as (
    -- The calendar: months of 31, 30 and 28 days, and leap days.
    values ('(?:0?[1-9]|[12][0-9]|3[01])', 1, '[0-9]{2}', '[1-9][0-9]{3}'),
           ('(?:0?[1-9]|[12][0-9]|30)', 2, '[0-9]{2}', '[1-9][0-9]{3}'),
           ('(?:0?[1-9]|1[0-9]|2[0-8])', 3, '[0-9]{2}', '[1-9][0-9]{3}'),
           ('29', 3, '(?:[02468][048]|[13579][26])',
               '(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)')
),
months (month, digits, letters) as (
    values (1, '(?:0?[13578]|1[02])',
               '(?:Jan(?:uary)?|Mar(?:ch)?|May|July?|Aug(?:ust)?|Oct(?:ober)?|Dec(?:ember)?)'),
           (2, '(?:0?[469]|11)', '(?:Apr(?:il)?|June?|Sept?(?:ember)?|Nov(?:ember)?)'),
           (3, '0?2', 'Feb(?:ruary)?')
),
-- How a day is written, and how it becomes a text for to_date().
orders (rank, name, example, template, cleaned, to_date) as (
    values
        (1, 'Y/M/D', '2024/1/31', 'Y[-/.]M[-/.]D', 'translate(%s, ''-.'', ''//'')', 'YYYY/MM/DD'),
        (2, 'D/M/Y', '31/01/2024', 'D[-/]M[-/]Y', 'translate(%s, ''-'', ''/'')', 'DD/MM/YYYY'),
        (3, 'M/D/Y', '01/31/2024', 'M[-/]D[-/]Y', 'translate(%s, ''-'', ''/'')', 'MM/DD/YYYY'),
        (4, 'D.M.Y', '31.01.2024', 'D\.M\.Y', '%s', 'DD.MM.YYYY'),
        (5, 'D/M/YY', '31/01/24', 'D[-/]M[-/]Z', 'translate(%s, ''-'', ''/'')', 'DD/MM/YY'),
        (6, 'M/D/YY', '01/31/24', 'M[-/]D[-/]Z', 'translate(%s, ''-'', ''/'')', 'MM/DD/YY'),
        (7, 'D.M.YY', '31.01.24', 'D\.M\.Z', '%s', 'DD.MM.YY'),
        (8, 'YY/M/D', '24/01/31', 'Z[-/]M[-/]D', 'translate(%s, ''-'', ''/'')', 'YY/MM/DD'),
        (9, 'D Mon Y', '31 Jan 2024', 'D[-/. ]*N\.?[-/., ]*Y',
            'regexp_replace(%s, ''^(\d+)\W*([A-Za-z]{3})[A-Za-z]*\W*(\d+)$'', ''\1 \2 \3'')',
            'DD Mon YYYY'),
        (10, 'D Mon YY', '31-Jan-24', 'D[-/. ]*N\.?[-/., ]*Z',
            'regexp_replace(%s, ''^(\d+)\W*([A-Za-z]{3})[A-Za-z]*\W*(\d+)$'', ''\1 \2 \3'')',
            'DD Mon YY'),
        (11, 'Mon D Y', 'Jan 31, 2024', 'N\.? *D(?:st|nd|rd|th)?(?:, *| +)Y',
            'regexp_replace(%s, ''^([A-Za-z]{3})[A-Za-z]*\W*(\d+)\D+(\d+)$'', ''\2 \1 \3'')',
            'DD Mon YYYY')
),
written (rank, name, example, flags, shape, accepts, reads) as (
    select orders.rank,
           orders.name,
           orders.example,
           case when orders.template ~ 'N' then '(?i)' else '' end,
           replace(replace(replace(replace(replace(orders.template,
               'D', '[0-9]{1,2}'), 'M', '[0-9]{1,2}'), 'Y', '[0-9]{4}'), 'Z', '[0-9]{2}'),
               'N', '[A-Za-z]{3,9}'),
           '(?:' || string_agg(
               replace(replace(replace(replace(replace(orders.template,
                   'D', days.day), 'Y', days.year4), 'Z', days.year2), 'M', months.digits),
                   'N', months.letters),
               '|' order by days.month, days.day) || ')',
           format('to_date(%s, %L)', orders.cleaned, orders.to_date)
      from orders
     cross join days
      join months
     using (month)
     group by orders.rank, orders.name, orders.example, orders.template, orders.cleaned,
              orders.to_date
),
clocks (written, zone) as (
    values (
        '(?:(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?'
        '|(?:0?[1-9]|1[0-2])(?::[0-5][0-9]){1,2} ?[AaPp][Mm])',
        ' ?(?:Z|UTC|GMT|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)'
    )
),
-- A day alone, with a time, and with a time and its zone.
moments (step, type_name, prefix, example, clock, reads) as (
    select suffixes.*
      from clocks
     cross join lateral (
        values (1, 'date', 'date', '', '', '%s'),
               (2, 'timestamp without time zone', 'timestamp', ' 10:00 PM',
                   '(?:T|,? )' || clocks.written,
                   '(to_char(%s, ''YYYY-MM-DD '') || substring(%%1$s from ''\d{1,2}:.*$''))'
                   '::timestamp without time zone'),
               (3, 'timestamp with time zone', 'timestamptz', ' 10:00 UTC',
                   '(?:T|,? )' || clocks.written || clocks.zone,
                   '(to_char(%s, ''YYYY-MM-DD '') || substring(%%1$s from ''\d{1,2}:.*$''))'
                   '::timestamp with time zone')
     ) as suffixes
),
numbers (rank, example, thousands, decimal_mark, whole) as (
    values (1, '1,234.56', ',', '.', '|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}'),
           (2, '1.234,56', '\.', ',', ''),
           (3, '1 234,56', e'[ \u00a0\u202f]', ',', ''),
           (4, '1 234.56', e'[ \u00a0\u202f]', '.', ''),
           (5, '1''234.56', '[''’]', '.', '')
),
amounts (rank, example, decimal_mark, written) as (
    select numbers.rank,
           numbers.example,
           numbers.decimal_mark,
           format('(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:%s[0-9]{3})+%s)(?:[%s][0-9]+)?',
               numbers.thousands, numbers.whole, numbers.decimal_mark)
      from numbers
),
signs (written) as (
    values (
        '(?:[$€£¥₹₽₩₺₪฿₫₴]|(?:US|CA|AU|NZ|HK|C|A|R)\$|kr|zł|Kč|Ft|lei|Fr|AED|ARS|AUD|BGN|BRL|CAD|CHF'
        '|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|ISK|JPY|KRW|MXN|MYR|NOK|NZD|PHP|PLN|RON'
        '|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR)'
    )
),
dresses (step, prefix, before, after, written) as (
    select dresses.*
      from signs
     cross join lateral (
        values (5, 'number', '', '', '(?:[-−]?#|#-|\(#\))'),
               (6, 'percent', '', ' %', e'(?:[-−]?#[ \u00a0\u202f]?%|\\(#[ \u00a0\u202f]?%\\))'),
               (7, 'currency', '$', '', replace(
                   e'(?:[-−]?S[ \u00a0]?[-−]?#-?|\\(S[ \u00a0]?#\\)|[-−]?#[ \u00a0\u202f]?S'
                   '|\\(#[ \u00a0\u202f]?S\\))', 'S', signs.written))
     ) as dresses
),
forms (step, rank, name, type_name, example, shape, accepts, reads, is_asked) as (
    select moments.step,
           written.rank,
           moments.prefix || ' ' || written.name,
           moments.type_name,
           written.example || moments.example,
           written.flags || '^' || written.shape || moments.clock || '$',
           written.flags || '^' || written.accepts || moments.clock || '$',
           format(moments.reads, format(written.reads,
               case moments.step
                   when 1 then '%1$s'
                   else 'regexp_replace(%1$s, ''(?:T|,? )\d{1,2}:.*$'', '''')'
               end)),
           false
      from written
     cross join moments
    union all
    select 4, 1, 'time H:MM', 'time without time zone', '10:00 PM', '^' || clocks.written || '$',
           '^' || clocks.written || '$', '(%1$s)::time without time zone', false
      from clocks
    union all
    select dresses.step,
           amounts.rank,
           dresses.prefix || ' ' || amounts.example,
           'numeric',
           dresses.before || amounts.example || dresses.after,
           case dresses.step
               when 7 then e'^[-−(]?[^-0-9.,]{0,5}[-−]?[0-9][0-9.,\'’ \u00a0\u202f]*[^0-9]{0,6}$'
               else '^' || replace(dresses.written, '#', amounts.written) || '$'
           end,
           -- Minus zero is no number.
           '^(?!-0[.,0]*$)' || replace(dresses.written, '#', amounts.written) || '$',
           format('tinydevcrm._read_number(%%1$s, %L)', amounts.decimal_mark),
           false
      from dresses
     cross join amounts
    union all
    values
        (8, 1, 'date YYYYMMDD', 'date', '20240131', '^[0-9]{8}$',
            '^[1-9][0-9]{3}(?:(?:0[13578]|1[02])(?:0[1-9]|[12][0-9]|3[01])'
            '|(?:0[469]|11)(?:0[1-9]|[12][0-9]|30)|02(?:0[1-9]|1[0-9]|2[0-8]))$'
            '|^[1-9][0-9](?:0[48]|[2468][048]|[13579][26])0229$',
            'to_date(%1$s, ''YYYYMMDD'')', true),
        (8, 2, 'date Excel', 'date', '45322', '^[0-9]{1,6}$',
            '^(?:6[1-9]|[7-9][0-9]|[1-9][0-9]{2,5})$',
            'date ''1899-12-30'' + (%1$s)::integer', true),
        (8, 3, 'timestamp Excel', 'timestamp without time zone', '45322.5',
            '^[0-9]{1,6}(?:\.[0-9]+)?$', '^(?:6[1-9]|[7-9][0-9]|[1-9][0-9]{2,5})(?:\.[0-9]{1,15})?$',
            'timestamp ''1899-12-30'' + (%1$s)::numeric * interval ''1 day''', true),
        (8, 4, 'boolean yes/no', 'boolean', 'yes', '^[A-Za-z]+$', '(?i)^(?:yes|no|y|n)$',
            '(%1$s)::boolean', true),
        (8, 5, 'boolean t/f', 'boolean', 't', '^[A-Za-z]+$', '(?i)^(?:true|false|t|f)$',
            '(%1$s)::boolean', true),
        (8, 6, 'boolean 0/1', 'boolean', '1', '^[01]$', '^[01]$', '(%1$s)::boolean', true)
)
insert into tinydevcrm.csv_forms
    (rank, name, type_name, example, shape, accepts, reads, is_asked)
select row_number() over (order by forms.step, forms.rank),
       forms.name,
       forms.type_name,
       forms.example,
       forms.shape,
       forms.accepts,
       forms.reads,
       forms.is_asked
  from forms;

alter table tinydevcrm.csv_forms enable row level security;

create policy csv_forms_all_read on tinydevcrm.csv_forms
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.csv_forms to tinydevcrm_user;
