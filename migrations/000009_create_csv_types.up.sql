-- The ladder of column types: data, not code. A type is on the ladder once for each way of writing
-- its values. An import that knows the way can turn a column back into the text of the file.

create table tinydevcrm.csv_types (
    rank       integer not null,
    type_name  text not null,
    example    text not null,
    accepts    text,
    max_length integer,
    restores   text,
    checks     text,
    loses      text not null,

    constraint csv_types_pkey primary key (rank),
    constraint csv_types_rank_range check (rank between 1 and 63),
    constraint csv_types_example_unique unique (example)
);

comment on table tinydevcrm.csv_types is
    'Column types that an import chooses from, narrowest first: the ladder. A column gets the '
    'first type that accepts every value of it. NULL fits every type.';
comment on column tinydevcrm.csv_types.rank is
    'Place on the ladder, 1 to 63; 1 is tried first.';
comment on column tinydevcrm.csv_types.type_name is
    'Name of the type, as in create table. Each way of writing its values has a row of its own.';
comment on column tinydevcrm.csv_types.example is
    'A value written this way.';
comment on column tinydevcrm.csv_types.accepts is
    'Regular expression that the whole text of a value matches; null accepts any text, but jsonb is '
    'chosen only by a format that has nested values. It has only ASCII characters, and only what '
    'PostgreSQL''s advanced expressions and RE2 have in common, so that programs can use it too.';
comment on column tinydevcrm.csv_types.max_length is
    'Maximum number of bytes of such a value; null for no limit. A longer number stays text. The '
    'limit is not part of the expression, because that would take several times as long.';
comment on column tinydevcrm.csv_types.restores is
    'SQL expression that turns a value back into exactly the text of the file; %s stands for the '
    'value. Null when no expression can: an import then keeps the text until it has read the whole '
    'file.';
comment on column tinydevcrm.csv_types.checks is
    'SQL condition that holds, under DateStyle ISO, for exactly the texts which accepts and '
    'max_length let pass, in a tenth of the time; %1$s stands for the text, %2$s for the value that '
    'it was cast to. Null when there is none: use accepts.';
comment on column tinydevcrm.csv_types.loses is
    'The part of the text that is lost when the value is printed.';

-- The patterns spell out the range of each type digit by digit, and the calendar with its leap
-- years, so that every text that matches also loads. What a cast would change without an error
-- stays text: leading zeros and signs (007, +15551234567), blanks ( 5), 1e3, -0, yes.
with parts (integer_digits, bigint_digits, calendar_day, clock_time) as (
    values (
        '[1-9][0-9]{0,8}|1[0-9]{9}|20[0-9]{8}|21[0-3][0-9]{7}|214[0-6][0-9]{6}'
        '|2147[0-3][0-9]{5}|21474[0-7][0-9]{4}|214748[0-2][0-9]{3}|2147483[0-5][0-9]{2}'
        '|21474836[0-3][0-9]|214748364[0-7]',

        '[1-9][0-9]{0,17}|[1-8][0-9]{18}|9[01][0-9]{17}|92[01][0-9]{16}|922[0-2][0-9]{15}'
        '|9223[0-2][0-9]{14}|92233[0-6][0-9]{13}|922337[01][0-9]{12}|92233720[0-2][0-9]{10}'
        '|922337203[0-5][0-9]{9}|9223372036[0-7][0-9]{8}|92233720368[0-4][0-9]{7}'
        '|922337203685[0-3][0-9]{6}|9223372036854[0-6][0-9]{5}|92233720368547[0-6][0-9]{4}'
        '|922337203685477[0-4][0-9]{3}|9223372036854775[0-7][0-9]{2}|922337203685477580[0-7]',

        '(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])'
        '|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))'
        '|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)',

        '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]'
    )
),
-- A float as programs print it: with at most the 17 digits that restore a double exactly, and with
-- a point or with an exponent that has a sign.
doubles (accepts) as (
    select '0|-?[1-9][0-9]{0,16}|0\.0{0,5}[0-9]{1,17}|-0\.0{0,5}[1-9][0-9]{0,16}|'
           || string_agg(
                  format('-?[1-9][0-9]{%s}\.[0-9]{1,%s}', digits - 1, 17 - digits),
                  '|' order by digits)
           || '|-?[1-9](?:\.[0-9]{1,16})?[eE][+-](?:[0-9]{2}|[12][0-9]{2})'
           || '|0(?:\.0{1,16})?[eE][+-]00'
      from generate_series(1, 16) as digits
),
-- Fractions of a second: without zeros at the end (or none), thousandths, millionths.
fractions (rank, written, accepts, template, pick) as (
    values
        (1, '', '(?:\.[0-9]{0,5}[1-9])?', '.US', 'rtrim(rtrim(%s, ''0''), ''.'')'),
        (2, '.120', '\.[0-9]{3}', '.MS', '%s'),
        (3, '.120000', '\.[0-9]{6}', '.US', '%s')
),
separators (rank, written, accepts, template) as (
    values
        (1, ' ', ' ', ' '),
        (2, 'T', 'T', '"T"')
),
zones (rank, written, accepts) as (
    values
        (1, 'Z', 'Z'),
        (2, '+00', '\+00'),
        (3, '+00:00', '\+00:00')
),
timestamps (way, written, accepts, restores) as (
    select separators.rank * 10 + fractions.rank,
           '2024-01-31' || separators.written || '10:00:00' || fractions.written,
           calendar_day || separators.accepts || clock_time || fractions.accepts,
           format(
               fractions.pick,
               format(
                   'to_char(%%s, ''YYYY-MM-DD%sHH24:MI:SS%s'')',
                   separators.template, fractions.template))
      from parts
     cross join separators
     cross join fractions
),
ladder (step, way, type_name, example, accepts, max_length, restores, loses) as (
    select fixed.*
      from parts
     cross join doubles
     cross join lateral (
        values
            (1, 1, 'boolean', 'true', 'true|false', 5, '(%s)::text', 'nothing'),
            (1, 2, 'boolean', 'TRUE', 'TRUE|FALSE', 5, 'upper((%s)::text)',
                'the case of the letters'),
            (1, 3, 'boolean', 'True', 'True|False', 5, 'initcap((%s)::text)',
                'the case of the letters'),
            (1, 4, 'boolean', 'true and True', 'true|false|True|False|TRUE|FALSE', 5, null,
                'the case of the letters'),
            (2, 1, 'integer', '1', '0|-?(?:' || integer_digits || ')|-2147483648', 11,
                '(%s)::text', 'nothing'),
            (3, 1, 'bigint', '3000000000',
                '0|-?(?:' || bigint_digits || ')|-9223372036854775808', 20, '(%s)::text',
                'nothing'),
            (4, 1, 'numeric', '1.50',
                '0|-?[1-9][0-9]*|(?:0|-?[1-9][0-9]*)\.[0-9]+|-0\.[0-9]*[1-9][0-9]*', 1000,
                '(%s)::text', 'nothing'),
            (5, 1, 'double precision', '1.5e-07', doubles.accepts, 24, null,
                'the way it was written (its digits stay)'),
            (6, 1, 'date', '2024-01-31', calendar_day, 10, 'to_char(%s, ''YYYY-MM-DD'')',
                'nothing'),
            (7, 99, 'timestamp without time zone', '2024-01-31 10:00:00 and T10:00:00.5',
                calendar_day || '[ T]' || clock_time || '(?:\.[0-9]{1,6})?', 26, null,
                'a T between day and time, trailing zeros of the second'),
            (8, 999, 'timestamp with time zone', '2024-01-31 10:00:00+05:30',
                calendar_day || '[ T]' || clock_time
                || '(?:\.[0-9]{1,6})?(?:Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)', 32, null,
                'the zone it was written in (the instant stays)'),
            (9, 4, 'time without time zone', '10:00:00 and 10:00:00.50',
                clock_time || '(?:\.[0-9]{1,6})?', 15, null, 'trailing zeros of the second'),
            (10, 1, 'uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
                '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}', 36, '(%s)::text', 'nothing'),
            (10, 2, 'uuid', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
                '[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}', 36, 'upper((%s)::text)',
                'the case of the letters'),
            (10, 3, 'uuid', 'a0eebc99-9c0b-4ef8-bb6d-6BB9BD380A11',
                '[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}', 36, null,
                'the case of the letters'),
            (11, 1, 'text', 'any', null, null, '(%s)::text', 'nothing'),
            -- No text is taken for this: a file whose format has nested values says so.
            (12, 1, 'jsonb', '{"a": [1]}', null, null, null,
                'blanks, the order of keys, all but the last of equal keys')
    ) as fixed
    union all
    select 7, way, 'timestamp without time zone', written, accepts, 26, restores,
           'a T between day and time, trailing zeros of the second'
      from timestamps
    union all
    select 8, timestamps.way * 10 + zones.rank, 'timestamp with time zone',
           timestamps.written || zones.written, timestamps.accepts || zones.accepts, 32,
           format(timestamps.restores, '(%s) at time zone ''UTC''') || ' || '
           || quote_literal(zones.written),
           'the zone it was written in (the instant stays)'
      from timestamps
     cross join zones
    union all
    select 9, fractions.rank, 'time without time zone', '10:00:00' || fractions.written,
           clock_time || fractions.accepts, 15,
           format(
               fractions.pick,
               format('to_char((%%s)::interval, ''HH24:MI:SS%s'')', fractions.template)),
           'trailing zeros of the second'
      from parts
     cross join fractions
)
insert into tinydevcrm.csv_types
    (rank, type_name, example, accepts, max_length, restores, checks, loses)
select row_number() over (order by ladder.step, ladder.way),
       ladder.type_name,
       ladder.example,
       '^(?:' || ladder.accepts || ')$',
       ladder.max_length,
       ladder.restores,
       replace(
              case
                  when ladder.accepts is null then null
                  -- ISO prints them in this way, faster than to_char() does.
                  when ladder.type_name = 'date'
                       or ladder.type_name = 'timestamp without time zone' and ladder.way = 11
                  then '(%s)::text'
                  else ladder.restores
              end,
              '%s', '%2$s')
       || ' = %1$s' || coalesce(' and ' || bounds.condition, ''),
       ladder.loses
  from ladder
  -- Values that print as they were written, but that accepts refuses.
  left join (
    values
        -- NaN and Infinity end with a letter.
        ('numeric', 'octet_length(%1$s) <= 1000 and ascii(right(%1$s, 1)) < 58'),
        ('date', '%2$s between ''1000-01-01'' and ''9999-12-31'''),
        ('timestamp without time zone', '%2$s >= ''1000-01-01'' and %2$s < ''10000-01-01'''),
        ('timestamp with time zone', '%2$s >= ''1000-01-01Z'' and %2$s < ''10000-01-01Z'''),
        ('time without time zone', '%2$s < ''24:00''')
  ) as bounds (type_name, condition)
    on bounds.type_name = ladder.type_name;

alter table tinydevcrm.csv_types enable row level security;

create policy csv_types_all_read on tinydevcrm.csv_types
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.csv_types to tinydevcrm_user;
