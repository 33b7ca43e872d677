-- What a schedule may look like, and when it comes round next.

create function tinydevcrm._cron_has_seconds()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- Debian's 1.4 calls itself 1.4-1.
    select regexp_match(extversion, '^(\d+)\.(\d+)')::integer[] >= array[1, 5]
      from pg_extension
     where extname = 'pg_cron'
$$;

comment on function tinydevcrm._cron_has_seconds() is
    'Whether pg_cron takes "N seconds" itself: from version 1.5 on.';

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
    'What schedules look like, for the hint of an error.';

create function tinydevcrm._is_cron(schedule text)
    returns boolean
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select lower(_is_cron.schedule) ~ concat(
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
    'Whether a text is written as a cron expression that _next_cron_time() reads: five fields with '
    'one space between, or a name such as @hourly.';

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
    -- Whether the numbers are in their ranges is for pg_cron to judge.
    _parse_schedule.schedule := trim(both from regexp_replace(v_given, '\s+', ' ', 'g'));
    if tinydevcrm._is_cron(_parse_schedule.schedule) then
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

    -- The periods that come round evenly: below a minute all, above it those that divide the hour
    -- or the day, because that is what cron can say.
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
            message = format('%L cannot be a schedule: it does not come round evenly', v_given),
            hint    = format(
                'The nearest that do: %s.',
                concat_ws(
                    ' and ',
                    tinydevcrm._period_text(v_fewer),
                    tinydevcrm._period_text(v_more)));
    end if;

    _parse_schedule.schedule := coalesce(v_exact, tinydevcrm._period_text(v_fewer));
    _parse_schedule.seconds := case when v_exact is null then v_fewer end;
    _parse_schedule.cron_schedule := case
        when v_exact is not null then v_exact
        when tinydevcrm._cron_has_seconds() then _parse_schedule.schedule
        else '* * * * *'
    end;
end
$$;

comment on function tinydevcrm._parse_schedule(text) is
    'Reads a schedule: an interval of whole seconds below a minute, or one that divides an hour '
    'or a day evenly, or a cron expression. Gives its one spelling and what pg_cron is to be '
    'given. Raises TD003 with the nearest ones that work.';

create function tinydevcrm._period_text(seconds integer)
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
     cross join lateral (select _period_text.seconds / size as amount) as counted
     where _period_text.seconds % size = 0
     order by size desc
     limit 1
$$;

comment on function tinydevcrm._period_text(integer) is
    'A number of seconds in words: 5 seconds, 1 hour.';

-- pg_cron does not tell when a job is due, so the five fields are read here as it reads them
-- (Vixie's cron: days of month and of week are alternatives when both are given).
create function tinydevcrm._cron_field(field text, low integer, high integer, names text[])
    returns integer[]
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    with items as (
        select split_part(item, '/', 1) as span,
               nullif(split_part(item, '/', 2), '')::integer as step
          from regexp_split_to_table(lower(_cron_field.field), ',') as item
    ),
    bounds as (
        select case
                   when span = '*' then array[_cron_field.low, _cron_field.high]
                   else (
                       select array_agg(
                                  coalesce(
                                      array_position(_cron_field.names, left(bound, 3)) - 1
                                      + _cron_field.low,
                                      bound::integer)
                                  order by place)
                         from regexp_split_to_table(span, '-') with ordinality as b (bound, place)
                   )
               end as bound,
               step
          from items
    )
    select array_agg(distinct value order by value)
      from bounds
     cross join lateral generate_series(
         bound[1],
         case
             when cardinality(bound) > 1 then bound[2]
             when step is not null then _cron_field.high
             else bound[1]
         end,
         coalesce(step, 1)) as value
$$;

comment on function tinydevcrm._cron_field(text, integer, integer, text[]) is
    'Values of one field of a cron expression: *, 5, 1-5, */10, lists of these, and names whose '
    'first stands for the lowest value.';

create function tinydevcrm._next_cron_time(cron_schedule text, after timestamp)
    returns timestamp
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    with fields as (
        select regexp_split_to_array(
                   case trim(_next_cron_time.cron_schedule)
                       when '@yearly' then '0 0 1 1 *'
                       when '@annually' then '0 0 1 1 *'
                       when '@monthly' then '0 0 1 * *'
                       when '@weekly' then '0 0 * * 0'
                       when '@daily' then '0 0 * * *'
                       when '@midnight' then '0 0 * * *'
                       when '@hourly' then '0 * * * *'
                       else trim(_next_cron_time.cron_schedule)
                   end,
                   '\s+') as field
    ),
    allowed as (
        select field,
               tinydevcrm._cron_field(field[1], 0, 59, '{}') as minutes,
               tinydevcrm._cron_field(field[2], 0, 23, '{}') as hours,
               tinydevcrm._cron_field(field[3], 1, 31, '{}') as days,
               tinydevcrm._cron_field(
                   field[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}') as months,
               tinydevcrm._cron_field(
                   field[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}') as weekdays
          from fields
         where cardinality(field) = 5
    ),
    -- Eight years have every date there is, a 29 February too.
    next_days as (
        select day
          from allowed
         cross join generate_series(0, 8 * 366) as ahead
         cross join lateral (select _next_cron_time.after::date + ahead as day) as days
         cross join lateral (
             select extract(day from day)::integer = any (allowed.days) as in_month,
                    extract(dow from day)::integer = any (weekdays)
                    or extract(dow from day) = 0 and 7 = any (weekdays) as in_week
         ) as fits
         where extract(month from day)::integer = any (months)
           and case
                   when field[3] like '*%' or field[5] like '*%' then in_month and in_week
                   else in_month or in_week
               end
         order by ahead
         limit 2
    )
    select min(moment)
      from allowed
     cross join next_days
     cross join unnest(hours) as hour
     cross join unnest(minutes) as minute
     cross join lateral (select day + make_interval(hours => hour, mins => minute) as moment) as at
     where moment > _next_cron_time.after
$$;

comment on function tinydevcrm._next_cron_time(text, timestamp) is
    'The first minute after a moment at which a cron expression comes round, both in pg_cron''s '
    'time zone; null when it never does, or is none.';

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

create function tinydevcrm._next_due(seconds integer, cron_schedule text, after timestamptz)
    returns timestamptz
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _next_due.seconds is not null then
                   to_timestamp(
                       (floor(extract(epoch from _next_due.after) / _next_due.seconds) + 1)
                       * _next_due.seconds)
               else tinydevcrm._next_cron_time(
                        _next_due.cron_schedule, _next_due.after at time zone zone.name)
                    at time zone zone.name
           end
      from (
        select tinydevcrm._cron_timezone() as name
      ) as zone
$$;

comment on function tinydevcrm._next_due(integer, text, timestamptz) is
    'When a schedule comes round first after a moment.';

revoke execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._schedule_hint(),
    tinydevcrm._is_cron(text),
    tinydevcrm._parse_schedule(text),
    tinydevcrm._period_text(integer),
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._next_cron_time(text, timestamp),
    tinydevcrm._cron_timezone(),
    tinydevcrm._next_due(integer, text, timestamptz)
from public;

grant execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._schedule_hint(),
    tinydevcrm._is_cron(text),
    tinydevcrm._parse_schedule(text),
    tinydevcrm._period_text(integer),
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._next_cron_time(text, timestamp),
    tinydevcrm._cron_timezone(),
    tinydevcrm._next_due(integer, text, timestamptz)
to tinydevcrm_user;
