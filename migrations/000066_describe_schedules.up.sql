-- A schedule in words, with which users check what they have written.

create function tinydevcrm._join_words(items text[])
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select array_to_string(items[: cardinality(items) - 1], ', ')
           || case when cardinality(items) > 1 then ' and ' else '' end
           || items[cardinality(items)]
$$;

comment on function tinydevcrm._join_words(text[]) is
    'a, b and c.';

-- Functions in PL/pgSQL, because it keeps the plans of queries that SQL functions, called by each
-- other, would make anew for each call.
create function tinydevcrm._spell_numbers(numbers integer[], names text[] default '{}')
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with runs as (
            select min(number) as first,
                   max(number) as last
              from (
                select number,
                       number - row_number() over (order by number) as run
                  from unnest(_spell_numbers.numbers) as number
              ) as numbered
             group by run
        )
        select tinydevcrm._join_words(array_agg(
                   case
                       when last - first > 1 then
                           format(
                               '%s to %s', coalesce(names[first], first::text),
                               coalesce(names[last], last::text))
                       else coalesce(names[item], item::text)
                   end
                   order by item))
          from runs
         cross join lateral generate_series(
                   first, case when last - first > 1 then first else last end) as item
    );
end
$$;

comment on function tinydevcrm._spell_numbers(integer[], text[]) is
    'Different numbers in words: 1, 2, 3, 5 become "1 to 3 and 5". names has the name of each number '
    'at its index. Null for none.';

create function tinydevcrm._find_even_step(numbers integer[], size integer)
    returns integer
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_step constant integer := _find_even_step.size / cardinality(_find_even_step.numbers);
begin
    return case
        when _find_even_step.numbers
             = array(select generate_series(0, _find_even_step.size - 1, v_step)) then v_step
    end;
end
$$;

comment on function tinydevcrm._find_even_step(integer[], integer) is
    '2 for 0, 2, 4 and so on up to size; null when the steps do not divide size evenly.';

create function tinydevcrm._describe_times(minutes integer[], hours integer[])
    returns text
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_step  integer := tinydevcrm._find_even_step(hours, 24);
    v_words text;
begin
    if cardinality(minutes) * cardinality(hours) <= 4 then
        return 'at ' || tinydevcrm._join_words(array(
            select format('%s:%s', lpad(hour::text, 2, '0'), lpad(minute::text, 2, '0'))
              from unnest(hours) as hour
             cross join unnest(minutes) as minute
             order by hour, minute
        ));
    elsif minutes = '{0}' and v_step = 1 then
        return 'every hour';
    elsif cardinality(minutes) = 1 and v_step > 1 then
        return format('every %s hours', v_step)
               || case when minutes = '{0}' then '' else ' at minute ' || minutes[1] end;
    end if;

    v_step := tinydevcrm._find_even_step(minutes, 60);
    v_words := case
        when v_step = 1 then 'every minute'
        when cardinality(minutes) > 1 and v_step > 1 then format('every %s minutes', v_step)
        else concat(
            'at minute', case when cardinality(minutes) > 1 then 's' end, ' ',
            tinydevcrm._spell_numbers(minutes),
            case when cardinality(hours) = 24 then ' of every hour' end)
    end;

    if cardinality(hours) < 24 then
        v_words := v_words || ' of hours ' || tinydevcrm._spell_numbers(hours);
    end if;

    return v_words;
end
$$;

comment on function tinydevcrm._describe_times(integer[], integer[]) is
    'The times of a day in words, for sorted minutes and hours.';

create function tinydevcrm._describe_days(
    days      integer[],
    months    integer[],
    weekdays  integer[],
    is_either boolean
)
    returns text
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_days   constant integer[] := array_remove(days, -1);
    -- Monday first, as people say it. 0 and 7 are both Sunday.
    v_week   constant integer[] := array(
        select distinct (weekday + 6) % 7 + 1 from unnest(weekdays) as weekday
    );
    v_months text;
    v_month  text;
    v_words  text;
begin
    if cardinality(months) < 12 then
        v_months := tinydevcrm._spell_numbers(
            months,
            '{January,February,March,April,May,June,July,August,September,October,November,'
            'December}');
    end if;

    if cardinality(v_days) < 31 then
        v_month := format(
            'on %s of %s',
            concat_ws(
                ' and ', 'day ' || tinydevcrm._spell_numbers(v_days),
                case when -1 = any (days) then 'the last day' end),
            coalesce(v_months, 'every month'));
    end if;

    if cardinality(v_week) = 7 then
        return coalesce(v_month, 'every day of ' || v_months);
    end if;

    v_words := tinydevcrm._spell_numbers(
        v_week, '{Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday}');
    return case
        when v_month is not null and is_either then v_month || ' and on ' || v_words
        when v_month is not null then v_month || ', if it is ' || v_words
        else concat(case when cardinality(v_week) = 1 then 'every ' end, v_words, ' in ' || v_months)
    end;
end
$$;

comment on function tinydevcrm._describe_days(integer[], integer[], integer[], boolean) is
    'The days of a cron expression in words, for sorted months; null for every day. is_either as in '
    'tinydevcrm._cron.';

create function tinydevcrm._describe_cron(fields tinydevcrm._cron)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_times constant text := tinydevcrm._describe_times(
        array(select distinct unnest(fields.minutes) order by 1),
        array(select distinct unnest(fields.hours) order by 1));
    v_days  constant text := tinydevcrm._describe_days(
        array(select distinct unnest(fields.days) order by 1),
        array(select distinct unnest(fields.months) order by 1),
        fields.weekdays, fields.is_either);
begin
    return case
        when v_days is null and v_times ~ 'every' then v_times
        when v_days is null then 'every day ' || v_times
        when v_times like 'at%' then v_days || ' ' || v_times
        else v_times || ', ' || v_days
    end;
end
$$;

comment on function tinydevcrm._describe_cron(tinydevcrm._cron) is
    'A cron expression in words.';

create function tinydevcrm.describe_schedule(
    inout schedule  text,
    out words       text,
    out time_zone   text,
    out next_due_at timestamptz[]
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parsed record := tinydevcrm._parse_schedule(describe_schedule.schedule);
    v_next   timestamptz := now();
begin
    describe_schedule.schedule := v_parsed.schedule;
    if v_parsed.schedule = 'on change' then
        describe_schedule.words := 'when a table that it reads has changed';
        describe_schedule.next_due_at := '{}';
        return;
    end if;

    describe_schedule.time_zone := coalesce(v_parsed.time_zone, tinydevcrm._cron_timezone());
    if v_parsed.seconds is not null then
        describe_schedule.words := 'every ' || regexp_replace(v_parsed.schedule, '^1 (.*)', '\1');
    else
        describe_schedule.words := tinydevcrm._describe_cron(
            tinydevcrm._cron_fields(v_parsed.schedule));
    end if;

    for v_count in 1 .. 3 loop
        v_next := tinydevcrm._compute_next_due(
            v_parsed.seconds, v_parsed.schedule, v_parsed.time_zone, v_next);
        describe_schedule.next_due_at := describe_schedule.next_due_at || v_next;
    end loop;
end
$$;

comment on function tinydevcrm.describe_schedule(text) is
    'A schedule in its normal form and in words, the time zone of the words, and the next three '
    'times at which it is due; none for "on change". Raises TD003 when it is not a schedule.';

revoke execute on function
    tinydevcrm._join_words(text[]),
    tinydevcrm._spell_numbers(integer[], text[]),
    tinydevcrm._find_even_step(integer[], integer),
    tinydevcrm._describe_times(integer[], integer[]),
    tinydevcrm._describe_days(integer[], integer[], integer[], boolean),
    tinydevcrm._describe_cron(tinydevcrm._cron),
    tinydevcrm.describe_schedule(text)
from public;

grant execute on function
    tinydevcrm._join_words(text[]),
    tinydevcrm._spell_numbers(integer[], text[]),
    tinydevcrm._find_even_step(integer[], integer),
    tinydevcrm._describe_times(integer[], integer[]),
    tinydevcrm._describe_days(integer[], integer[], integer[], boolean),
    tinydevcrm._describe_cron(tinydevcrm._cron),
    tinydevcrm.describe_schedule(text)
to tinydevcrm_user;
