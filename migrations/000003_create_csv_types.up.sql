-- The ladder of column types: data, not code.

create table tinydevcrm.csv_types (
    type_name  text not null,
    position   integer not null,
    accepts    text not null,
    max_length integer not null,
    loses      text not null,

    constraint csv_types_pkey primary key (type_name),
    constraint csv_types_position_unique unique (position)
);

comment on table tinydevcrm.csv_types is
    'Column types that an import chooses from, narrowest first. A column gets the first type that '
    'accepts every value of it; NULL fits each type.';
comment on column tinydevcrm.csv_types.type_name is
    'Name of the type, as in create table.';
comment on column tinydevcrm.csv_types.position is
    'Place on the ladder; 1 is tried first.';
comment on column tinydevcrm.csv_types.accepts is
    'Regular expression that the whole text of a value matches. Written in what PostgreSQL''s '
    'advanced expressions and RE2 have in common, so that programs can use it too.';
comment on column tinydevcrm.csv_types.max_length is
    'Most bytes that such a value has. A bound beside the expression, which would be several '
    'times as slow with one of its own: a longer number stays text.';
comment on column tinydevcrm.csv_types.loses is
    'What of the text does not come back when the value is printed.';

-- Digits are counted out up to each type's own bounds, and the calendar is spelled out with its
-- leap years, so that a text which matches is a value which loads. What a cast would quietly
-- change stays text: leading zeros and signs (007, +15551234567), blanks ( 5), 1e3, -0, yes.
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

        '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?'
    )
)
insert into tinydevcrm.csv_types (position, type_name, accepts, max_length, loses)
select ladder.position,
       ladder.type_name,
       '^(?:' || ladder.accepts || ')$',
       ladder.max_length,
       ladder.loses
  from parts
 cross join lateral (
    values
        (1, 'boolean', 'true|false|True|False|TRUE|FALSE', 5, 'the case of the letters'),
        (2, 'integer', '0|-?(?:' || integer_digits || ')|-2147483648', 11, 'nothing'),
        (3, 'bigint', '0|-?(?:' || bigint_digits || ')|-9223372036854775808', 20, 'nothing'),
        (4, 'numeric',
            '0|-?[1-9][0-9]*|(?:0|-?[1-9][0-9]*)\.[0-9]+|-0\.[0-9]*[1-9][0-9]*', 1000, 'nothing'),
        (5, 'date', calendar_day, 10, 'nothing'),
        (6, 'timestamp without time zone', calendar_day || '[ T]' || clock_time, 26,
            'a T between day and time, trailing zeros of the second'),
        (7, 'timestamp with time zone',
            calendar_day || '[ T]' || clock_time || '(?:Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)', 32,
            'the zone it was written in (the instant stays)'),
        (8, 'time without time zone', clock_time, 15, 'trailing zeros of the second'),
        (9, 'uuid', '[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}', 36,
            'the case of the letters'),
        (10, 'text', '(?:.|\n)*', 2147483647, 'nothing')
    ) as ladder (position, type_name, accepts, max_length, loses);

alter table tinydevcrm.csv_types enable row level security;

create policy csv_types_all_read on tinydevcrm.csv_types
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.csv_types to tinydevcrm_user;
