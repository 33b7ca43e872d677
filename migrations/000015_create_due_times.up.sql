-- When a schedule comes round next. pg_cron does not tell, so the five fields are read here as it
-- reads them (Vixie's cron: days of month and of week are alternatives when both are given).

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
        select coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT') as name
      ) as zone
$$;

comment on function tinydevcrm._next_due(integer, text, timestamptz) is
    'When a schedule comes round first after a moment.';

revoke execute on function
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._next_cron_time(text, timestamp),
    tinydevcrm._next_due(integer, text, timestamptz)
from public;

grant execute on function
    tinydevcrm._cron_field(text, integer, integer, text[]),
    tinydevcrm._next_cron_time(text, timestamp),
    tinydevcrm._next_due(integer, text, timestamptz)
to tinydevcrm_user;
