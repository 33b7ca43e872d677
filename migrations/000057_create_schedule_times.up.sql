-- When a schedule is due, in its time zone, and the schedule that pg_cron gets for it.

create function tinydevcrm._cron_has_seconds()
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._has_clock()
        or exists (
            select
              from pg_extension
             where extname = 'pg_cron'
               -- Debian's package of 1.4 has the version 1.4-1.
               and regexp_match(extversion, '^(\d+)\.(\d+)')::integer[] >= array[1, 5]
        )
$$;

comment on function tinydevcrm._cron_has_seconds() is
    'Whether what runs the jobs itself supports "N seconds": pg_cron from version 1.5 on, and the '
    'clock of the orchestrator.';

create function tinydevcrm._cron_timezone()
    returns text
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    -- Earlier versions, which have no seconds, do not read the setting.
    select case
               when tinydevcrm._cron_has_seconds() then
                   coalesce(nullif(tinydevcrm._setting('cron.timezone'), ''), 'GMT')
               else 'GMT'
           end
$$;

comment on function tinydevcrm._cron_timezone() is
    'Time zone of pg_cron, GMT before version 1.5. Security definer: lends the right to read that setting, which '
    'pg_cron keeps for administrators.';

create function tinydevcrm._compute_next_due(
    seconds   integer,
    schedule  text,
    time_zone text,
    after     timestamptz
)
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
               else tinydevcrm._compute_next_zoned_time(
                        _compute_next_due.schedule,
                        coalesce(_compute_next_due.time_zone, tinydevcrm._cron_timezone()),
                        _compute_next_due.after)
           end
$$;

comment on function tinydevcrm._compute_next_due(integer, text, text, timestamptz) is
    'When a schedule is first due after a time: seconds, schedule and time_zone as in '
    'tinydevcrm.schedules.';

create function tinydevcrm._list_offsets(time_zone text)
    returns integer[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array_agg(distinct (
               extract(epoch from
                   (moment at time zone _list_offsets.time_zone) - (moment at time zone 'UTC'))
               / 60)::integer)
      from generate_series(
               now() - interval '1 year', now() + interval '10 years', interval '30 days') as moment
$$;

comment on function tinydevcrm._list_offsets(text) is
    'The minutes by which the clocks of a time zone are ahead of UTC: several where clocks are '
    'changed.';

create function tinydevcrm._make_job_schedule(
    seconds   integer,
    schedule  text,
    time_zone text,
    cron_zone text
)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_zone    constant text := coalesce(_make_job_schedule.time_zone, cron_zone);
    v_fields  tinydevcrm._cron;
    v_offsets integer[];
    v_cron    integer[];
    v_minutes integer[];
    v_hours   integer[];
begin
    -- In case nobody is notified of a change.
    if _make_job_schedule.schedule = 'on change' then
        return '* * * * *';
    end if;

    if seconds is not null then
        return case when tinydevcrm._cron_has_seconds() then schedule else '* * * * *' end;
    end if;

    v_fields := tinydevcrm._cron_fields(schedule);
    v_offsets := tinydevcrm._list_offsets(v_zone);
    v_cron := tinydevcrm._list_offsets(cron_zone);
    if v_offsets = v_cron
       and (cardinality(v_cron) = 1 or v_zone = cron_zone and not v_fields.is_fixed)
    then
        return replace(schedule, '$', '28-31');
    end if;

    -- A change of clocks, after which skipped times are due, is at a full hour of the zone or of
    -- UTC, and at most as far away as the clocks are put forward.
    select array_agg(distinct (minute + shift + 2880) % 60 order by (minute + shift + 2880) % 60)
      into v_minutes
      from (
        select minute, cron_offset - zone_offset
          from unnest(v_offsets) as zone_offset
         cross join unnest(v_cron) as cron_offset
         cross join unnest(
             v_fields.minutes
             || case when v_fields.is_fixed and cardinality(v_offsets) > 1 then 0 end
         ) as minute
         union all
        select 0, cron_offset
          from unnest(v_cron) as cron_offset
         where v_fields.is_fixed
           and cardinality(v_offsets) > 1
      ) as moments (minute, shift)
     where minute is not null;

    select array_agg(distinct hour order by hour)
      into v_hours
      from unnest(v_fields.hours) as given
     cross join unnest(v_fields.minutes) as minute
     cross join (
         select min(cron_offset - zone_offset),
                max(cron_offset - zone_offset)
                + case when cardinality(v_cron) > 1 then 60 else 0 end
           from unnest(v_offsets) as zone_offset
          cross join unnest(v_cron) as cron_offset
     ) as shifts (least, most)
     cross join generate_series(least, most, 15) as shift
     cross join lateral (select (60 * given + minute + shift + 2880) / 60 % 24 as hour) as hours;

    return format(
        '%s %s * * *',
        case when cardinality(v_minutes) > 30 then '*' else array_to_string(v_minutes, ',') end,
        case when cardinality(v_hours) = 24 then '*' else array_to_string(v_hours, ',') end);
end
$$;

comment on function tinydevcrm._make_job_schedule(integer, text, text, text) is
    'What pg_cron gets for a schedule: all as in tinydevcrm.schedules. '
    'pg_cron has one time zone, and not every pg_cron has seconds or the last day of a month. '
    'Where it cannot run the schedule itself, it gets one with more times, and the job does '
    'nothing at those at which the schedule is not due: see tinydevcrm._find_round().';

create function tinydevcrm._find_round(
    schedule      text,
    time_zone     text,
    cron_schedule text,
    called_at     timestamptz
)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_next  timestamptz;
    v_found timestamptz;
begin
    if cron_schedule = schedule then
        return date_trunc('minute', called_at);
    end if;

    -- pg_cron starts a job late when other jobs take all of its connections.
    v_next := date_trunc('minute', called_at) - interval '5 minutes 1 second';
    loop
        v_next := tinydevcrm._compute_next_due(null, schedule, time_zone, v_next);
        exit when v_next is null or v_next > called_at;
        v_found := v_next;
    end loop;

    return v_found;
end
$$;

comment on function tinydevcrm._find_round(text, text, text, timestamptz) is
    'The round that a job called at a time is for: schedule, time_zone and cron_schedule as in '
    'tinydevcrm.schedules. pg_cron runs a job with its own schedule only when it is due. One with '
    'more times than the schedule has is called in vain when no time of the schedule is within '
    'the last five minutes: null.';

revoke execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._cron_timezone(),
    tinydevcrm._compute_next_due(integer, text, text, timestamptz),
    tinydevcrm._list_offsets(text),
    tinydevcrm._make_job_schedule(integer, text, text, text),
    tinydevcrm._find_round(text, text, text, timestamptz)
from public;

grant execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._cron_timezone(),
    tinydevcrm._compute_next_due(integer, text, text, timestamptz),
    tinydevcrm._find_round(text, text, text, timestamptz)
to tinydevcrm_user;
