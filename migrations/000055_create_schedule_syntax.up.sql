-- What a cron expression means, and when it is due next.

create function tinydevcrm._is_cron(schedule text)
    returns boolean
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select octet_length(_is_cron.schedule) <= 200 and lower(_is_cron.schedule) ~ concat(
               '^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|',
               item || '(,' || item || ')* ',
               item || '(,' || item || ')* ',
               day || '(,' || day || ')*',
               '( ' || item || '(,' || item || ')*){2})$')
      from (
        select '(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)'
                   as word
      ) as words
     cross join lateral (
         select format(
                    '(\*|([0-9]{1,2}|%1$s)(-([0-9]{1,2}|%1$s))?)(/[1-9][0-9]?)?', word) as item
     ) as items
     cross join lateral (select format('(\$|%s)', item) as day) as days
$$;

comment on function tinydevcrm._is_cron(text) is
    'Whether a text is a cron expression that _compute_next_cron_time() can read: five fields with '
    'one space between them, or a name such as @hourly; at most 200 bytes. $ is the last day of a '
    'month.';

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
    -- The fields that most schedules have.
    if _cron_field.field = '*' then
        return array(select generate_series(_cron_field.low, _cron_field.high));
    elsif _cron_field.field ~ '^[0-9]{1,2}$' then
        return array[_cron_field.field::integer];
    elsif _cron_field.field ~ '^\*/[1-9][0-9]?$' then
        return array(
            select generate_series(
                       _cron_field.low, _cron_field.high, substr(_cron_field.field, 3)::integer));
    end if;

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

create function tinydevcrm._spell_out_cron(cron_schedule text)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select case lower(trim(_spell_out_cron.cron_schedule))
               when '@yearly' then '0 0 1 1 *'
               when '@annually' then '0 0 1 1 *'
               when '@monthly' then '0 0 1 * *'
               when '@weekly' then '0 0 * * 0'
               when '@daily' then '0 0 * * *'
               when '@midnight' then '0 0 * * *'
               when '@hourly' then '0 * * * *'
               else _spell_out_cron.cron_schedule
           end
$$;

comment on function tinydevcrm._spell_out_cron(text) is
    'A cron expression in five fields, also when it is a name such as @daily.';

create type tinydevcrm._cron as (
    minutes   integer[],
    hours     integer[],
    days      integer[],
    months    integer[],
    weekdays  integer[],
    is_either boolean,
    is_fixed  boolean
);

comment on type tinydevcrm._cron is
    'The values of the five fields of a cron expression; the day -1 is the last one of a month. '
    'is_either: whether a day needs to be only among the days of the month or among those of the '
    'week. is_fixed: whether it names times of day, so that neither minute nor hour begins with *: '
    'see tinydevcrm._compute_next_zoned_time(). minutes is null when it is not a cron expression.';

create function tinydevcrm._cron_fields(cron_schedule text)
    returns tinydevcrm._cron
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_fields constant text[] := regexp_split_to_array(
        trim(tinydevcrm._spell_out_cron(_cron_fields.cron_schedule)), '\s+');
    v_days   text[];
    v_cron   tinydevcrm._cron;
begin
    if cardinality(v_fields) <> 5 then
        return v_cron;
    end if;

    v_cron.minutes := tinydevcrm._cron_field(v_fields[1], 0, 59, '{}');
    v_cron.hours := tinydevcrm._cron_field(v_fields[2], 0, 23, '{}');
    v_days := string_to_array(v_fields[3], ',');
    v_cron.days := case v_fields[3]
        when '$' then array[-1]
        else tinydevcrm._cron_field(
                 array_to_string(array_remove(v_days, '$'), ','), 1, 31, '{}')
             || case when '$' = any (v_days) then array[-1] else '{}'::integer[] end
    end;
    v_cron.months := tinydevcrm._cron_field(
        v_fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
    v_cron.weekdays := tinydevcrm._cron_field(
        v_fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
    v_cron.is_either := v_fields[3] not like '*%' and v_fields[5] not like '*%';
    v_cron.is_fixed := v_fields[1] not like '*%' and v_fields[2] not like '*%';

    -- When one field cannot be read, the whole expression is invalid.
    if num_nulls(
           v_cron.minutes, v_cron.hours, v_cron.days, v_cron.months,
           v_cron.weekdays) > 0
    then
        v_cron.minutes := null;
    end if;

    return v_cron;
end
$$;

comment on function tinydevcrm._cron_fields(text) is
    'Reads the five fields of a cron expression.';

create function tinydevcrm._has_cron_values(cron_schedule text)
    returns boolean
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select bool_and(coalesce(low <= all (item) and high >= all (item), false))
           and bool_and(0 < all (array[
               cardinality(fields.minutes), cardinality(fields.hours), cardinality(fields.days),
               cardinality(fields.months), cardinality(fields.weekdays)]))
      from tinydevcrm._cron_fields(_has_cron_values.cron_schedule) as fields
     cross join lateral (
         values
             (0, 59, fields.minutes),
             (0, 23, fields.hours),
             (1, 31, array_remove(fields.days, -1)),
             (1, 12, fields.months),
             (0, 7, fields.weekdays)
     ) as ranges (low, high, item)
$$;

comment on function tinydevcrm._has_cron_values(text) is
    'Whether each field of a cron expression has values, and all values exist.';

create function tinydevcrm._compute_next_cron_time(fields tinydevcrm._cron, after timestamp)
    returns timestamp
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_first_day constant date := _compute_next_cron_time.after::date;
    v_day       date := v_first_day;
    v_hour      integer := extract(hour from _compute_next_cron_time.after);
    v_minute    integer := extract(minute from _compute_next_cron_time.after);
    v_in_month  boolean;
    v_in_week   boolean;
    v_found     integer;
begin
    if fields.minutes is null or not isfinite(_compute_next_cron_time.after) then
        return null;
    end if;

    -- Months, then days, then hours, then minutes. Forty years contain every date on every day of
    -- the week, a 29 February too.
    while v_day <= v_first_day + 40 * 366 loop
        if extract(month from v_day)::integer <> all (fields.months) then
            v_day := date_trunc('month', v_day::timestamp) + interval '1 month';
            continue;
        end if;

        v_in_month := extract(day from v_day)::integer = any (fields.days)
                      or -1 = any (fields.days) and extract(day from v_day + 1) = 1;
        v_in_week := array[extract(dow from v_day), extract(isodow from v_day)]::integer[]
                     && fields.weekdays;
        if v_in_month and v_in_week or fields.is_either and (v_in_month or v_in_week) then
            if v_day > v_first_day then
                v_hour := -1;
            end if;
            -- The rest of this hour, or the first minute of the next one.
            select coalesce(
                       (
                           select 60 * v_hour + min(minute)
                             from unnest(fields.minutes) as minute
                            where minute > v_minute
                              and v_hour = any (fields.hours)
                       ),
                       (
                           select 60 * min(hour)
                             from unnest(fields.hours) as hour
                            where hour > v_hour
                       )
                       + (select min(minute) from unnest(fields.minutes) as minute))
              into v_found;

            if v_found is not null then
                return v_day + make_interval(mins => v_found);
            end if;
        end if;

        v_day := v_day + 1;
    end loop;

    return null;
end
$$;

comment on function tinydevcrm._compute_next_cron_time(tinydevcrm._cron, timestamp) is
    'The first minute after a time at which a cron expression is due, by a clock that never '
    'changes. Null when it is never due, or is not a cron expression.';

-- Twice a year a clock is changed: an hour is skipped, or there twice.
create function tinydevcrm._place_clock_time(
    clock        timestamp,
    time_zone    text,
    out first_at timestamptz,
    out last_at  timestamptz,
    out is_skipped boolean
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_gap   interval;
    v_shift interval;
begin
    -- Postgres takes the second one of two, and reads a skipped time by the clock before the
    -- change.
    last_at := clock at time zone time_zone;
    first_at := last_at;
    v_gap := (last_at at time zone time_zone) - clock;
    is_skipped := v_gap <> interval '0';

    if is_skipped then
        select min(moment)
          into first_at
          from generate_series(last_at - v_gap, last_at, interval '1 minute') as moment
         where moment at time zone time_zone > clock;
        last_at := first_at;
        return;
    end if;

    v_shift := clock - ((last_at - interval '3 hours') at time zone time_zone) - interval '3 hours';
    if v_shift < interval '0' and (last_at + v_shift) at time zone time_zone = clock then
        first_at := last_at + v_shift;
    end if;
end
$$;

comment on function tinydevcrm._place_clock_time(timestamp, text) is
    'When the clocks of a time zone show a time: first_at and last_at differ for a time that is '
    'there twice, within three hours after a change. For a time that a change skips (is_skipped), '
    'the first minute after the change.';

create function tinydevcrm._compute_next_zoned_time(
    cron_schedule text,
    time_zone     text,
    after         timestamptz
)
    returns timestamptz
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_fields constant tinydevcrm._cron := tinydevcrm._cron_fields(cron_schedule);
    v_clock  constant timestamp := after at time zone time_zone;
    v_next   timestamp := tinydevcrm._compute_next_cron_time(v_fields, v_clock);
    v_place  record;
    v_shift  interval;
    v_change timestamptz;
    v_found  timestamptz;
begin
    if v_next is null or time_zone in ('GMT', 'UTC') then
        return v_next at time zone time_zone;
    end if;

    -- The rules of Debian's cron: see "Schedules" in migrations/README.md.
    while v_next is not null and v_found is null loop
        v_place := tinydevcrm._place_clock_time(v_next, time_zone);
        if v_place.first_at > after and (v_fields.is_fixed or not v_place.is_skipped) then
            v_found := v_place.first_at;
        elsif v_place.last_at > after and not v_fields.is_fixed and not v_place.is_skipped then
            v_found := v_place.last_at;
        else
            v_next := tinydevcrm._compute_next_cron_time(v_fields, v_next);
        end if;
    end loop;

    -- Clocks that are soon put back show earlier times again.
    v_shift := ((after + interval '3 hours') at time zone time_zone) - v_clock - interval '3 hours';
    if not v_fields.is_fixed and v_shift < interval '0' then
        select min(moment)
          into v_change
          from generate_series(
                   date_trunc('minute', after), after + interval '3 hours', interval '1 minute')
                   as moment
         where moment > after
           and (moment at time zone time_zone) - v_clock < moment - after;
        v_next := tinydevcrm._compute_next_cron_time(
            v_fields, (v_change at time zone time_zone) - interval '1 second');
        v_found := least(v_found, (tinydevcrm._place_clock_time(v_next, time_zone)).last_at);
    end if;

    return v_found;
end
$$;

comment on function tinydevcrm._compute_next_zoned_time(text, text, timestamptz) is
    'The first minute after a time at which a cron expression in a time zone is due. When clocks '
    'are changed, an expression whose minute or hour begins with * follows real time. Of the other '
    'ones, a time that is skipped is due in the first minute after the change, and one that is '
    'there twice is due the first time. Null when it is never due, or is not a cron expression.';

revoke execute on function
    tinydevcrm._is_cron(text),
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._spell_out_cron(text),
    tinydevcrm._cron_fields(text),
    tinydevcrm._has_cron_values(text),
    tinydevcrm._compute_next_cron_time(tinydevcrm._cron, timestamp),
    tinydevcrm._place_clock_time(timestamp, text),
    tinydevcrm._compute_next_zoned_time(text, text, timestamptz)
from public;

grant execute on function
    tinydevcrm._is_cron(text),
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._spell_out_cron(text),
    tinydevcrm._cron_fields(text),
    tinydevcrm._has_cron_values(text),
    tinydevcrm._compute_next_cron_time(tinydevcrm._cron, timestamp),
    tinydevcrm._place_clock_time(timestamp, text),
    tinydevcrm._compute_next_zoned_time(text, text, timestamptz)
to tinydevcrm_user;
