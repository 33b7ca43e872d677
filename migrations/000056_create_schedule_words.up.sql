-- What a schedule may look like: words, a period or a cron expression, and a time zone.

create function tinydevcrm._schedule_hint()
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select 'Write "5 seconds", "every 10 minutes", "hourly", "daily at 7:00", "weekdays at 9:00", '
           '"monday and thursday at 18:30", "last day of the month at 7:00", or the five fields of '
           'cron: "*/5 * * * *". A time zone may follow: "daily at 7:00 Europe/Berlin". Or write '
           '"on change".'
$$;

comment on function tinydevcrm._schedule_hint() is
    'The forms of a schedule, for the hint of an error.';

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

create function tinydevcrm._read_words(schedule text)
    returns text
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parts    constant text[] := regexp_match(
        lower(_read_words.schedule), '^(?:every |on )?(.+?)(?: at (.+))?$');
    v_date     constant text := v_parts[1];
    v_time     text[] := regexp_match(
        case v_parts[2] when 'noon' then '12:00' when 'midnight' then '0:00' else v_parts[2] end,
        '^([01]?[0-9]|2[0-3])(?::([0-5][0-9]))?( ?[ap]m)?$');
    v_hour     integer := coalesce(v_time[1]::integer, 0);
    v_day      text;
    v_weekdays text;
begin
    -- "at 7" could be a minute.
    if v_parts[2] is not null and (v_time is null or v_time[2] is null and v_time[3] is null)
       or v_time[3] is not null and v_hour not between 1 and 12
    then
        return null;
    end if;
    if v_time[3] is not null then
        v_hour := v_hour % 12 + case when v_time[3] like '%pm' then 12 else 0 end;
    end if;

    if v_date = 'hourly' and v_parts[2] is null then
        return '0 * * * *';
    end if;
    v_day := case
        when v_date in ('daily', 'day') then '* * *'
        when v_date = 'weekly' then '* * 0'
        when v_date = 'monthly' then '1 * *'
        when v_date = 'yearly' then '1 1 *'
        when v_date ~ '^weekdays?$' then '* * 1-5'
        when v_date ~ '^weekends?$' then '* * 0,6'
        when v_date ~ '^(the )?first day of (the|every|each) month$' then '1 * *'
        when v_date ~ '^(the )?last day of (the|every|each) month$' then '$ * *'
        else (regexp_match(v_date, '^day ([1-9]|[12][0-9]|3[01]) of (the|every|each) month$'))[1]
             || ' * *'
    end;

    if v_day is null then
        select '* * ' || string_agg(distinct known.number::text, ',')
          into v_weekdays
          from unnest(regexp_split_to_array(v_date, ',? and |, ?')) as given (name)
          left join unnest(array[
                   'sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'])
               with ordinality as weekdays (name, ordinal)
            on given.name in (weekdays.name, weekdays.name || 's', left(weekdays.name, 3))
         cross join lateral (select weekdays.ordinal - 1 as number) as known
        having bool_and(known.number is not null);
        v_day := v_weekdays;
    end if;

    return format('%s %s %s', coalesce(v_time[2]::integer, 0), v_hour, v_day)
     where v_day is not null;
end
$$;

comment on function tinydevcrm._read_words(text) is
    'The cron expression of a schedule in words: "daily at 7:00" and the like, as in '
    'tinydevcrm._schedule_hint(). Null for anything else. Without a time it is due at 0:00; weekly '
    'is on Sunday and monthly on the first day, as cron has them.';

create function tinydevcrm._find_time_zone(name text, must_exist boolean)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_zone constant text := (
        select max(zones.name)
          from pg_timezone_names as zones
         where lower(zones.name) = lower(_find_time_zone.name)
           -- For "at time zone", CET is an abbreviation that has no summer time.
           and (
               zones.name in ('GMT', 'UTC')
               or zones.name not in (select abbrevs.abbrev from pg_timezone_abbrevs as abbrevs)
           )
    );
    v_city constant text := regexp_replace(_find_time_zone.name, '^.*/', '');
begin
    if v_zone is null and must_exist then
        raise exception using
            errcode = 'TD003',
            message = format('%L is not a time zone', left(_find_time_zone.name, 50)),
            hint    = coalesce(
                (
                    select format('Did you mean %s?', string_agg(near.name, ', '))
                      from (
                        select zones.name
                          from pg_timezone_names as zones
                         where length(v_city) >= 3
                           and zones.name !~ '^(posix|right)/'
                           and starts_with(
                                   lower(regexp_replace(zones.name, '^.*/', '')),
                                   lower(left(v_city, 3)))
                         order by split_part(lower(zones.name), '/', 1)
                                  <> split_part(lower(_find_time_zone.name), '/', 1),
                                  zones.name
                         limit 3
                      ) as near
                    having count(*) > 0
                ),
                'A time zone is a name such as Europe/Berlin: pg_timezone_names lists them.');
    end if;

    return v_zone;
end
$$;

comment on function tinydevcrm._find_time_zone(text, boolean) is
    'A time zone in the spelling of pg_timezone_names. Null when there is none, or, if it must '
    'exist, TD003 with the names that are near.';

create function tinydevcrm._read_period(schedule text)
    returns integer
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_text   constant text := regexp_replace(
        regexp_replace(_read_period.schedule, '^every ', '', 'i'),
        '^(second|minute|hour|day)$', '1 \1', 'i');
    v_period double precision;
    v_fewer  integer;
    v_more   integer;
begin
    -- Postgres passes over signs that mean nothing. 8:00 is a time of day to people, not 8 hours.
    if v_text ~ '[^[:alnum:] .:+-]' or v_text ~ '^[0-9]+:[0-9]+$' then
        return null;
    end if;

    begin
        v_period := extract(epoch from v_text::interval);
    exception
        when invalid_datetime_format or interval_field_overflow or datetime_field_overflow then
            return null;
    end;

    -- The periods that are due at equal distances: below a minute all, above it those that divide
    -- the hour or the day, because cron can express only those.
    with periods (period) as (
        select second
          from generate_series(1, 59) as second
         union all
        select 60 * minute
          from generate_series(1, 59) as minute
         where 60 % minute = 0
         union all
        select 3600 * hour
          from generate_series(1, 24) as hour
         where 24 % hour = 0
    )
    select max(period) filter (where period <= v_period),
           min(period) filter (where period >= v_period)
      into v_fewer, v_more
      from periods;

    if v_fewer is distinct from v_more then
        raise exception using
            errcode = 'TD003',
            message = format(
                '%L cannot be a schedule: it does not divide an hour or a day',
                _read_period.schedule),
            hint    = format(
                'The nearest that can: %s.',
                concat_ws(
                    ' and ',
                    tinydevcrm._format_period(v_fewer),
                    tinydevcrm._format_period(v_more)));
    end if;

    return v_fewer;
end
$$;

comment on function tinydevcrm._read_period(text) is
    'The seconds of a period: an interval of whole seconds below a minute, or one that divides an '
    'hour or a day evenly. Null when it is no interval. Raises TD003, with the nearest periods '
    'that work, for another interval.';

create function tinydevcrm._parse_schedule(
    inout schedule text,
    out seconds    integer,
    out time_zone  text
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_given constant text := coalesce(_parse_schedule.schedule, '');
    v_text  text := trim(both from regexp_replace(left(v_given, 201), '\s+', ' ', 'g'));
    v_cron  text;
    v_parts text[];
begin
    if lower(v_text) in ('on change', 'when it changes') then
        schedule := 'on change';
        return;
    end if;

    loop
        exit when octet_length(v_given) > 200;

        v_cron := case
            when tinydevcrm._is_cron(v_text) then tinydevcrm._spell_out_cron(v_text)
            else tinydevcrm._read_words(v_text)
        end;
        exit when v_cron is not null;

        seconds := tinydevcrm._read_period(v_text);
        exit when seconds is not null or time_zone is not null;

        -- The last word may be a time zone. A name with a slash can be nothing else.
        v_parts := regexp_match(v_text, '^(.+) ([[:alpha:]][[:alnum:]_+/-]*)$');
        time_zone := tinydevcrm._find_time_zone(
            v_parts[2], v_parts[2] ~ '^[[:alpha:]_]+/[[:alpha:]]');
        exit when time_zone is null;
        v_text := v_parts[1];
    end loop;

    if seconds >= 60 then
        v_cron := case
            when seconds = 60 then '* * * * *'
            when seconds < 3600 then format('*/%s * * * *', seconds / 60)
            when seconds = 3600 then '0 * * * *'
            when seconds < 86400 then format('0 */%s * * *', seconds / 3600)
            else '0 0 * * *'
        end;
    end if;
    if v_cron is not null then
        seconds := null;
        schedule := v_cron;
    elsif seconds is not null then
        time_zone := null;
        schedule := tinydevcrm._format_period(seconds);
    end if;

    -- pg_cron accepts 5-3, which is never due.
    if v_cron is null and seconds is null or not tinydevcrm._has_cron_values(v_cron) then
        raise exception using
            errcode = 'TD003',
            message = format(
                '%L is not a schedule',
                left(v_given, 50) || case when octet_length(v_given) > 200 then '…' else '' end),
            hint    = tinydevcrm._schedule_hint();
    end if;
    if seconds is null
       and tinydevcrm._compute_next_cron_time(
               tinydevcrm._cron_fields(v_cron), now()::timestamp) is null
    then
        raise exception using
            errcode = 'TD003',
            message = format('%L is never due: no such day comes', v_given),
            hint    = 'Check the days and the months. $ is the last day of a month: "0 7 $ * *".';
    end if;
end
$$;

comment on function tinydevcrm._parse_schedule(text) is
    'Reads a schedule: words, a period or a cron expression, and after it perhaps a time zone. '
    'Returns its normal form: five fields of cron, a number of seconds below a minute, or "on '
    'change"; and the time zone, null for that of pg_cron. Raises TD003 when it is none, with the forms or the '
    'nearest periods or time zones, and when it is never due.';

revoke execute on function
    tinydevcrm._schedule_hint(),
    tinydevcrm._format_period(integer),
    tinydevcrm._read_words(text),
    tinydevcrm._find_time_zone(text, boolean),
    tinydevcrm._read_period(text),
    tinydevcrm._parse_schedule(text)
from public;

grant execute on function
    tinydevcrm._schedule_hint(),
    tinydevcrm._format_period(integer),
    tinydevcrm._read_words(text),
    tinydevcrm._find_time_zone(text, boolean),
    tinydevcrm._read_period(text),
    tinydevcrm._parse_schedule(text)
to tinydevcrm_user;
