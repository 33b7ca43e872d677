-- What a schedule may look like, and when it is due next.

create function tinydevcrm._cron_has_seconds()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- Debian's package of 1.4 has the version 1.4-1.
    select regexp_match(extversion, '^(\d+)\.(\d+)')::integer[] >= array[1, 5]
      from pg_extension
     where extname = 'pg_cron'
$$;

comment on function tinydevcrm._cron_has_seconds() is
    'Whether pg_cron itself supports "N seconds": from version 1.5 on.';

create function tinydevcrm._schedule_hint()
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select 'Write "5 seconds", "10 minutes", "1 hour", or the five fields of cron: '
           '"*/5 * * * *" is every five minutes, "0 7 * * *" daily at seven.'
$$;

comment on function tinydevcrm._schedule_hint() is
    'Examples of schedules, for the hint of an error.';

create function tinydevcrm._is_cron(schedule text)
    returns boolean
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select octet_length(_is_cron.schedule) <= 200 and lower(_is_cron.schedule) ~ concat(
               '^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|',
               item || '(,' || item || ')*',
               '( ' || item || '(,' || item || ')*){4})$')
      from (
        select '(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)'
                   as word
      ) as words
     cross join lateral (
         select format(
                    '(\*|([0-9]{1,2}|%1$s)(-([0-9]{1,2}|%1$s))?)(/[1-9][0-9]?)?', word) as item
     ) as items
$$;

comment on function tinydevcrm._is_cron(text) is
    'Whether a text is a cron expression that _compute_next_cron_time() can read: five fields with '
    'one space between them, or a name such as @hourly; at most 200 bytes.';

create function tinydevcrm._parse_schedule(
    inout schedule    text,
    out seconds       integer,
    out cron_schedule text
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_given  text := coalesce(_parse_schedule.schedule, '');
    v_period double precision;
    v_fewer  integer;
    v_more   integer;
    v_exact  text;
begin
    if octet_length(v_given) > 200 then
        raise exception using
            errcode = 'TD003',
            message = format('%L is not a schedule', left(v_given, 50) || '…'),
            hint    = tinydevcrm._schedule_hint();
    end if;

    _parse_schedule.schedule := trim(both from regexp_replace(v_given, '\s+', ' ', 'g'));
    if tinydevcrm._is_cron(_parse_schedule.schedule) then
        -- pg_cron accepts 5-3, which is never due.
        if not tinydevcrm._has_cron_values(_parse_schedule.schedule) then
            raise exception using
                errcode = 'TD003',
                message = format('%L is not a schedule', v_given),
                hint    = tinydevcrm._schedule_hint();
        end if;
        _parse_schedule.cron_schedule := _parse_schedule.schedule;
        return;
    end if;

    begin
        v_period := extract(epoch from v_given::interval);
    exception
        when invalid_datetime_format or interval_field_overflow or datetime_field_overflow then
            raise exception using
                errcode = 'TD003',
                message = format('%L is not a schedule', v_given),
                hint    = tinydevcrm._schedule_hint();
    end;

    -- The periods that are due at equal distances: below a minute all, above it those that divide
    -- the hour or the day, because cron can express only those.
    with periods (period, cron_schedule) as (
        select second, null
          from generate_series(1, 59) as second
         union all
        select 60 * minute,
               case minute when 1 then '* * * * *' else format('*/%s * * * *', minute) end
          from generate_series(1, 59) as minute
         where 60 % minute = 0
         union all
        select 3600 * hour,
               case hour when 1 then '0 * * * *' else format('0 */%s * * *', hour) end
          from generate_series(1, 23) as hour
         where 24 % hour = 0
         union all
        select 86400, '0 0 * * *'
    )
    select max(period) filter (where period <= v_period),
           min(period) filter (where period >= v_period),
           max(periods.cron_schedule) filter (where period = v_period)
      into v_fewer, v_more, v_exact
      from periods;

    if v_fewer is distinct from v_more then
        raise exception using
            errcode = 'TD003',
            message = format(
                '%L cannot be a schedule: it does not divide an hour or a day', v_given),
            hint    = format(
                'The nearest that can: %s.',
                concat_ws(
                    ' and ',
                    tinydevcrm._format_period(v_fewer),
                    tinydevcrm._format_period(v_more)));
    end if;

    _parse_schedule.schedule := coalesce(v_exact, tinydevcrm._format_period(v_fewer));
    _parse_schedule.seconds := case when v_exact is null then v_fewer end;
    _parse_schedule.cron_schedule := case
        when v_exact is not null then v_exact
        when tinydevcrm._cron_has_seconds() then _parse_schedule.schedule
        else '* * * * *'
    end;
end
$$;

comment on function tinydevcrm._parse_schedule(text) is
    'Reads a schedule: an interval of whole seconds below a minute, an interval that divides an '
    'hour or a day evenly, or a cron expression. Returns its normal spelling and what pg_cron '
    'gets. Raises TD003, with the nearest schedules that work.';

create function tinydevcrm._format_period(seconds integer)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select format('%s %s%s', amount, unit, case amount when 1 then '' else 's' end)
      from (
        values
            (86400, 'day'), (3600, 'hour'), (60, 'minute'), (1, 'second')
      ) as units (size, unit)
     cross join lateral (select _format_period.seconds / size as amount) as counted
     where _format_period.seconds % size = 0
     order by size desc
     limit 1
$$;

comment on function tinydevcrm._format_period(integer) is
    'A number of seconds in words: 5 seconds, 1 hour.';

-- pg_cron does not show when a job is due, so the five fields are read here as pg_cron reads them.
-- As in Vixie's cron, days of month and of week are alternatives when both are given.
create function tinydevcrm._cron_field(field text, low integer, high integer, names text[])
    returns integer[]
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_item   text;
    v_span   text[];
    v_step   integer;
    v_first  integer;
    v_last   integer;
    v_values integer[] := '{}';
    v_word   text := array_to_string(array['[0-9]{1,2}'] || _cron_field.names, '|');
    v_form   text := format('(\*|(%1$s)(-(%1$s))?)(/[1-9][0-9]?)?', v_word);
begin
    if octet_length(_cron_field.field) > 200
       or lower(_cron_field.field) !~ format('^%1$s(,%1$s)*$', v_form)
    then
        return null;
    end if;

    -- A loop, because it takes a tenth of the time of a query that does the same, and
    -- tinydevcrm.matview_status reads ten fields per row.
    foreach v_item in array string_to_array(lower(_cron_field.field), ',') loop
        v_span := string_to_array(split_part(v_item, '/', 1), '-');
        v_step := nullif(split_part(v_item, '/', 2), '')::integer;

        if v_span[1] = '*' then
            v_span := array[_cron_field.low, _cron_field.high];
        end if;

        v_first := coalesce(
            array_position(_cron_field.names, left(v_span[1], 3)) - 1 + _cron_field.low,
            v_span[1]::integer);
        v_last := coalesce(
            array_position(_cron_field.names, left(v_span[2], 3)) - 1 + _cron_field.low,
            v_span[2]::integer,
            case when v_step is null then v_first else _cron_field.high end);
        v_values := v_values || array(
            select generate_series(v_first, v_last, coalesce(v_step, 1)));
    end loop;

    return v_values;
end
$$;

comment on function tinydevcrm._cron_field(text, integer, integer, text[]) is
    'The values of one field of a cron expression: *, 5, 1-5, */10, lists of these, and names, the '
    'first of which stands for the lowest value. Null for anything else, and for over 200 bytes.';

create function tinydevcrm._cron_fields(
    cron_schedule text,
    out minutes   integer[],
    out hours     integer[],
    out days      integer[],
    out months    integer[],
    out weekdays  integer[],
    out is_either boolean
)
    returns record
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_fields constant text[] := regexp_split_to_array(
        case trim(_cron_fields.cron_schedule)
            when '@yearly' then '0 0 1 1 *'
            when '@annually' then '0 0 1 1 *'
            when '@monthly' then '0 0 1 * *'
            when '@weekly' then '0 0 * * 0'
            when '@daily' then '0 0 * * *'
            when '@midnight' then '0 0 * * *'
            when '@hourly' then '0 * * * *'
            else trim(_cron_fields.cron_schedule)
        end,
        '\s+');
begin
    if cardinality(v_fields) <> 5 then
        return;
    end if;

    _cron_fields.minutes := tinydevcrm._cron_field(v_fields[1], 0, 59, '{}');
    _cron_fields.hours := tinydevcrm._cron_field(v_fields[2], 0, 23, '{}');
    _cron_fields.days := tinydevcrm._cron_field(v_fields[3], 1, 31, '{}');
    _cron_fields.months := tinydevcrm._cron_field(
        v_fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
    _cron_fields.weekdays := tinydevcrm._cron_field(
        v_fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
    _cron_fields.is_either := v_fields[3] not like '*%' and v_fields[5] not like '*%';

    -- When one field cannot be read, the whole expression is invalid.
    if num_nulls(
           _cron_fields.minutes, _cron_fields.hours, _cron_fields.days, _cron_fields.months,
           _cron_fields.weekdays) > 0
    then
        _cron_fields.minutes := null;
    end if;
end
$$;

comment on function tinydevcrm._cron_fields(text) is
    'The values of the five fields of a cron expression, and is_either: whether a day needs to be '
    'only among the days of the month or among those of the week. minutes is null when it is not a '
    'cron expression.';

create function tinydevcrm._has_cron_values(cron_schedule text)
    returns boolean
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select bool_and(
               coalesce(cardinality(item), 0) > 0
               and low <= all (item)
               and high >= all (item))
      from tinydevcrm._cron_fields(_has_cron_values.cron_schedule) as fields
     cross join lateral (
         values
             (0, 59, fields.minutes),
             (0, 23, fields.hours),
             (1, 31, fields.days),
             (1, 12, fields.months),
             (0, 7, fields.weekdays)
     ) as ranges (low, high, item)
$$;

comment on function tinydevcrm._has_cron_values(text) is
    'Whether each field of a cron expression has values, and all values exist.';

create function tinydevcrm._compute_next_cron_time(cron_schedule text, after timestamp)
    returns timestamp
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_fields   record;
    v_in_month boolean;
    v_in_week  boolean;
    v_day      date := _compute_next_cron_time.after::date;
    v_moment   timestamp;
begin
    v_fields := tinydevcrm._cron_fields(_compute_next_cron_time.cron_schedule);
    if v_fields.minutes is null or not isfinite(_compute_next_cron_time.after) then
        return null;
    end if;

    -- Day by day, because the next one is seldom far. Eight years contain every date, a 29 February
    -- too.
    while v_day <= _compute_next_cron_time.after::date + 8 * 366 loop
        if extract(month from v_day)::integer <> all (v_fields.months) then
            v_day := date_trunc('month', v_day::timestamp) + interval '1 month';
            continue;
        end if;

        v_in_month := extract(day from v_day)::integer = any (v_fields.days);
        v_in_week := array[extract(dow from v_day), extract(isodow from v_day)]::integer[]
                     && v_fields.weekdays;
        if v_in_month and v_in_week or v_fields.is_either and (v_in_month or v_in_week) then
            -- The rest of this hour, and the first minute of the other hours.
            select min(moment)
              into v_moment
              from (
                select v_day + make_interval(
                           hours => extract(hour from _compute_next_cron_time.after)::integer,
                           mins => minute)
                  from unnest(v_fields.minutes) as minute
                 where extract(hour from _compute_next_cron_time.after)::integer
                       = any (v_fields.hours)
                 union all
                select v_day + make_interval(
                           hours => hour,
                           mins => (select min(minute) from unnest(v_fields.minutes) as minute))
                  from unnest(v_fields.hours) as hour
              ) as moments (moment)
             where moment > _compute_next_cron_time.after;

            if v_moment is not null then
                return v_moment;
            end if;
        end if;

        v_day := v_day + 1;
    end loop;

    return null;
end
$$;

comment on function tinydevcrm._compute_next_cron_time(text, timestamp) is
    'The first minute after a time at which a cron expression is due, both in pg_cron''s time '
    'zone. Null when it is never due, or is not a cron expression.';

create function tinydevcrm._cron_timezone()
    returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT')
$$;

comment on function tinydevcrm._cron_timezone() is
    'Time zone of cron expressions. Security definer: lends the right to read that setting, which '
    'pg_cron keeps for administrators.';

create function tinydevcrm._compute_next_due(seconds integer, cron_schedule text, after timestamptz)
    returns timestamptz
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _compute_next_due.seconds is not null then
                   to_timestamp(
                       (
                           floor(
                               extract(epoch from _compute_next_due.after)
                               / nullif(_compute_next_due.seconds, 0))
                           + 1
                       ) * _compute_next_due.seconds)
               else tinydevcrm._compute_next_cron_time(
                        _compute_next_due.cron_schedule,
                        _compute_next_due.after at time zone zone.name)
                    at time zone zone.name
           end
      from (
        select tinydevcrm._cron_timezone() as name
      ) as zone
$$;

comment on function tinydevcrm._compute_next_due(integer, text, timestamptz) is
    'When a schedule is first due after a time.';

revoke execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._schedule_hint(),
    tinydevcrm._is_cron(text),
    tinydevcrm._parse_schedule(text),
    tinydevcrm._format_period(integer),
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._cron_fields(text),
    tinydevcrm._has_cron_values(text),
    tinydevcrm._compute_next_cron_time(text, timestamp),
    tinydevcrm._cron_timezone(),
    tinydevcrm._compute_next_due(integer, text, timestamptz)
from public;

grant execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._schedule_hint(),
    tinydevcrm._is_cron(text),
    tinydevcrm._parse_schedule(text),
    tinydevcrm._format_period(integer),
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._cron_fields(text),
    tinydevcrm._has_cron_values(text),
    tinydevcrm._compute_next_cron_time(text, timestamp),
    tinydevcrm._cron_timezone(),
    tinydevcrm._compute_next_due(integer, text, timestamptz)
to tinydevcrm_user;
