-- When materialized views are refreshed. An owner has one pg_cron job per schedule, however many
-- materialized views share it, and a second one for the slow ones, so that these do not delay the
-- others. Where pg_cron has no seconds, one job per owner loops over all of the owner's schedules
-- below a minute, so that they need only one connection.

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
                   coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT')
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

create table tinydevcrm.schedules (
    id            bigint generated always as identity,
    owner         regrole not null,
    schedule      text not null,
    seconds       integer,
    time_zone     text,
    cron_schedule text not null,
    cron_zone     text not null default tinydevcrm._cron_timezone(),
    is_slow       boolean not null default false,
    job_id        bigint,
    created_at    timestamptz not null default now(),

    constraint schedules_pkey primary key (id),
    constraint schedules_id_owner_unique unique (id, owner),
    constraint schedules_seconds_range check (seconds between 1 and 59),
    constraint schedules_schedule_short check (octet_length(schedule) <= 200),
    constraint schedules_cron_schedule_readable check (
        tinydevcrm._is_cron(cron_schedule) or cron_schedule ~ '^[1-5]?[0-9] seconds?$'
    )
);

comment on table tinydevcrm.schedules is
    'The schedules in use, each with its pg_cron job. Triggers create a schedule with its first '
    'materialized view and drop it with its last: see tinydevcrm.matviews.schedule.';
comment on column tinydevcrm.schedules.id is
    'Number of the schedule, for tinydevcrm.refresh_scheduled().';
comment on column tinydevcrm.schedules.owner is
    'Owner of its materialized views. The job runs as this role.';
comment on column tinydevcrm.schedules.schedule is
    'The schedule in normal form: "5 seconds", a cron expression of five fields in time_zone, or '
    '"on change".';
comment on column tinydevcrm.schedules.seconds is
    'Seconds between two rounds if they are less than a minute apart; null otherwise. A round is a '
    'time at which the schedule is due.';
comment on column tinydevcrm.schedules.time_zone is
    'Time zone of the schedule, a name of pg_timezone_names; null for that of pg_cron '
    '(cron.timezone; GMT by default).';
comment on column tinydevcrm.schedules.cron_schedule is
    'The schedule of the pg_cron job: the same one, or one with more times: see '
    'tinydevcrm._make_job_schedule().';
comment on column tinydevcrm.schedules.cron_zone is
    'Time zone of pg_cron for which cron_schedule was made.';
comment on column tinydevcrm.schedules.is_slow is
    'Whether it is for slow materialized views, whose refreshes take more than half of the time '
    'between two rounds, or end the session, and for views that read these. They have a job of their own, in which they delay '
    'only each other.';
comment on column tinydevcrm.schedules.job_id is
    'The job: cron.job.jobid. Schedules of one owner that the same loop serves share a job.';
comment on column tinydevcrm.schedules.created_at is
    'When its first materialized view was scheduled.';

create unique index schedules_schedule_unique
    on tinydevcrm.schedules (owner, schedule, (coalesce(time_zone, '')), is_slow);

alter table tinydevcrm.schedules enable row level security;

create policy schedules_owner on tinydevcrm.schedules
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select on tinydevcrm.schedules to tinydevcrm_user;

alter table tinydevcrm.change_watches
    add constraint change_watches_schedule_fkey foreign key (schedule_id)
        references tinydevcrm.schedules (id) on delete cascade;

create policy change_watches_owner on tinydevcrm.change_watches
    for select
    to tinydevcrm_user
    using (exists (select from tinydevcrm.schedules where schedules.id = schedule_id));

create policy change_watches_look on tinydevcrm.change_watches
    for update
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.schedules
         where schedules.id = schedule_id
           and pg_has_role(schedules.owner, 'usage')
    ));

grant select, update (looked_snapshot) on tinydevcrm.change_watches to tinydevcrm_user;

create policy _locks_admin on tinydevcrm._locks
    for select
    to tinydevcrm_admin
    using (true);

create policy _locks_schedule on tinydevcrm._locks
    to tinydevcrm_user
    using (
        what = 'schedule'
        and exists (
            select
              from tinydevcrm.schedules
             where schedules.id = _locks.id
               and pg_has_role(schedules.owner, 'usage')
        )
    );

create function tinydevcrm._schedules_create_lock()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into tinydevcrm._locks (what, id)
    values ('schedule', new.id);

    return null;
end
$$;

comment on function tinydevcrm._schedules_create_lock() is
    'Creates the row of tinydevcrm._locks that lets only one session at a time refresh by a '
    'schedule.';

create trigger _500_create_lock
    after insert on tinydevcrm.schedules
    for each row
    execute function tinydevcrm._schedules_create_lock();

alter table tinydevcrm.matviews
    add column schedule text,
    add column is_slow boolean not null default false,
    add column schedule_id bigint,
    add column is_paused boolean not null default false,
    add column catch_up boolean,
    add column schedule_began_at timestamptz,
    add constraint matviews_schedule_short check (octet_length(schedule) <= 200),
    -- With the owner, so that no view can have a schedule of another owner.
    add constraint matviews_schedule_fkey foreign key (schedule_id, owner)
        references tinydevcrm.schedules (id, owner);

comment on column tinydevcrm.matviews.schedule is
    'When it is refreshed, as it was typed; null when it has no schedule. The normal form is in '
    'tinydevcrm.schedules.';
comment on column tinydevcrm.matviews.is_slow is
    'Whether the job for slow materialized views refreshes it: see tinydevcrm.schedules.';
comment on column tinydevcrm.matviews.schedule_id is
    'The row of tinydevcrm.schedules for this owner, schedule and is_slow; null without a '
    'schedule.';
comment on column tinydevcrm.matviews.is_paused is
    'Whether its scheduled refreshes are paused.';
comment on column tinydevcrm.matviews.catch_up is
    'Whether upkeep makes up, once, for times of its schedule that passed without a refresh '
    'because the database was down. Who writes null gets the default: true when the schedule is '
    'due at most once an hour.';
comment on column tinydevcrm.matviews.schedule_began_at is
    'When its schedule was set, or when its last pause ended. Times before that are neither late '
    'nor made up for.';

grant update (schedule, is_slow, is_paused, catch_up) on tinydevcrm.matviews to tinydevcrm_user;

-- It has no column that a refresh writes, so that a refresh adds no index entry (HOT update).
create index matviews_schedule_idx on tinydevcrm.matviews (schedule_id, owner);

create function tinydevcrm._matviews_restart_schedule()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.late_noted_at := null;
    return new;
end
$$;

comment on function tinydevcrm._matviews_restart_schedule() is
    'Forgets that a view was late when another schedule begins to apply, or the pause ends.';

create trigger _200_restart_schedule
    before update of schedule, is_paused on tinydevcrm.matviews
    for each row
    when (
        old.schedule is distinct from new.schedule
        or old.is_paused <> new.is_paused
    )
    execute function tinydevcrm._matviews_restart_schedule();

create function tinydevcrm._is_loop(schedule tinydevcrm.schedules)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (schedule).seconds is not null and (schedule).cron_schedule <> (schedule).schedule;
end
$$;

comment on function tinydevcrm._is_loop(tinydevcrm.schedules) is
    'Whether the job loops over the seconds of a schedule, because pg_cron has no seconds.';

create function tinydevcrm._settle_watches(schedule_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.change_watches
     where change_watches.schedule_id = _settle_watches.schedule_id
       and not exists (
           select
             from tinydevcrm.matview_sources
             join tinydevcrm.matviews
               on matviews.id = matview_sources.matview_id
            where matview_sources.relation = change_watches.relation
              and matviews.schedule_id = _settle_watches.schedule_id
       );

    insert into tinydevcrm.change_watches (relation, schedule_id)
    select distinct
           matview_sources.relation,
           matviews.schedule_id
      from tinydevcrm.matviews
      join tinydevcrm.matview_sources
        on matview_sources.matview_id = matviews.id
     where matviews.schedule_id = _settle_watches.schedule_id
       and matviews.is_on_change
    on conflict on constraint change_watches_pkey do nothing;
end
$$;

comment on function tinydevcrm._settle_watches(bigint) is
    'Makes tinydevcrm.change_watches true for a schedule.';

create function tinydevcrm._matviews_settle_watches()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if old.is_on_change then
        perform tinydevcrm._settle_watches(old.schedule_id);
    end if;
    if tg_op = 'UPDATE' and new.is_on_change and new.schedule_id is distinct from old.schedule_id then
        perform tinydevcrm._settle_watches(new.schedule_id);
    end if;

    return null;
end
$$;

comment on function tinydevcrm._matviews_settle_watches() is
    'Keeps tinydevcrm.change_watches true when a view gets another schedule or query. Security '
    'definer: users do not write it. As a trigger it runs only for a registration that row-level '
    'security has let through.';

create trigger _700_settle_watches
    after update of schedule, owner, is_analyzed on tinydevcrm.matviews
    for each row
    when (new.is_on_change or old.is_on_change)
    execute function tinydevcrm._matviews_settle_watches();

create trigger _700_settle_watches_after_drop
    after delete on tinydevcrm.matviews
    for each row
    when (old.is_on_change)
    execute function tinydevcrm._matviews_settle_watches();

create function tinydevcrm._find_last_look(matview tinydevcrm.matviews)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return greatest(
        (matview).last_scheduled_at,
        case
            when (matview).is_tracked then (
                select _locks.looked_at
                  from tinydevcrm._locks
                 where _locks.what = 'schedule'
                   and _locks.id = (matview).schedule_id
            )
        end);
end
$$;

comment on function tinydevcrm._find_last_look(tinydevcrm.matviews) is
    'When its schedule last came to a materialized view: it was refreshed, or it is tracked and had '
    'not changed. Null for never.';

create function tinydevcrm._reads_slow_matview(matview_id bigint, schedule text, time_zone text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
          from tinydevcrm.matview_sources
          join tinydevcrm.matviews
            on matviews.relation = matview_sources.relation
          join tinydevcrm.schedules
            on schedules.id = matviews.schedule_id
           and schedules.is_slow
         where matview_sources.matview_id = _reads_slow_matview.matview_id
           and schedules.schedule = _reads_slow_matview.schedule
           and schedules.time_zone is not distinct from _reads_slow_matview.time_zone
    );
end
$$;

comment on function tinydevcrm._reads_slow_matview(bigint, text, text) is
    'Whether a view reads a slow one of the same schedule. It is then in the same job, after it.';

create function tinydevcrm._make_slow(matview_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    with recursive readers as (
        select matviews.id,
               matviews.relation,
               matviews.schedule_id
          from tinydevcrm.matviews
         where matviews.id = _make_slow.matview_id
         union
        select matviews.id,
               matviews.relation,
               matviews.schedule_id
          from readers
          join tinydevcrm.matview_sources
            on matview_sources.relation = readers.relation
          join tinydevcrm.matviews
            on matviews.id = matview_sources.matview_id
           and matviews.schedule_id = readers.schedule_id
    )
    update tinydevcrm.matviews
       set is_slow = true
      from readers
     where matviews.id = readers.id
       and not matviews.is_slow;
end
$$;

comment on function tinydevcrm._make_slow(bigint) is
    'Moves a view to the job for slow ones, with the views of its schedule that read it.';

create function tinydevcrm._assign_lane(matview_id bigint, took interval)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
    v_period   interval;
begin
    select schedules.*
      into v_schedule
      from tinydevcrm.schedules
      join tinydevcrm.matviews
        on matviews.schedule_id = schedules.id
     where matviews.id = _assign_lane.matview_id;

    -- Two rounds of a cron expression are at least a minute apart. The way back needs much less
    -- than half of a period, so that a view does not change jobs at every round. Schedules that
    -- share a job wait for each other, so the shortest period counts.
    select coalesce(min(schedules.seconds), 60) * interval '1 second'
      into v_period
      from tinydevcrm.schedules
     where schedules.id = v_schedule.id
        or schedules.owner = v_schedule.owner
           and tinydevcrm._is_loop(schedules)
           and tinydevcrm._is_loop(v_schedule);
    if v_schedule.id is null
       or v_schedule.schedule = 'on change'
       or _assign_lane.took is null
       or v_schedule.is_slow
          and (
              _assign_lane.took > v_period / 10
              or tinydevcrm._reads_slow_matview(
                     _assign_lane.matview_id, v_schedule.schedule, v_schedule.time_zone)
          )
       or not v_schedule.is_slow and _assign_lane.took < v_period / 2
       or not v_schedule.is_slow and not exists (
           select
             from tinydevcrm.matviews
             join tinydevcrm.schedules
               on schedules.id = matviews.schedule_id
            where schedules.job_id = v_schedule.job_id
              and matviews.id <> _assign_lane.matview_id
       )
    then
        return;
    end if;

    if v_schedule.is_slow then
        update tinydevcrm.matviews
           set is_slow = false
         where matviews.id = _assign_lane.matview_id;
    else
        perform tinydevcrm._make_slow(_assign_lane.matview_id);
    end if;
end
$$;

comment on function tinydevcrm._assign_lane(bigint, interval) is
    'Moves a materialized view to another job after a scheduled refresh: to the job for slow ones '
    'when the refresh took more than half of the time between two rounds and others share its job, '
    'and back to the common job when it took less than a tenth and it reads no slow one.';

create function tinydevcrm._find_round_grace(seconds integer, cron_schedule text)
    returns interval
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- A loop starts at a full minute, and each connection takes its time.
    select case
               when _find_round_grace.seconds is not null
                    and _find_round_grace.cron_schedule = '* * * * *' then interval '75 seconds'
               else interval '15 seconds'
           end
$$;

comment on function tinydevcrm._find_round_grace(integer, text) is
    'How long a refresh by this schedule may be overdue before it is late.';

revoke execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._cron_timezone(),
    tinydevcrm._compute_next_due(integer, text, text, timestamptz),
    tinydevcrm._list_offsets(text),
    tinydevcrm._make_job_schedule(integer, text, text, text),
    tinydevcrm._find_round(text, text, text, timestamptz),
    tinydevcrm._schedules_create_lock(),
    tinydevcrm._matviews_restart_schedule(),
    tinydevcrm._is_loop(tinydevcrm.schedules),
    tinydevcrm._settle_watches(bigint),
    tinydevcrm._matviews_settle_watches(),
    tinydevcrm._find_last_look(tinydevcrm.matviews),
    tinydevcrm._reads_slow_matview(bigint, text, text),
    tinydevcrm._make_slow(bigint),
    tinydevcrm._assign_lane(bigint, interval),
    tinydevcrm._find_round_grace(integer, text)
from public;

grant execute on function
    tinydevcrm._cron_has_seconds(),
    tinydevcrm._cron_timezone(),
    tinydevcrm._compute_next_due(integer, text, text, timestamptz),
    tinydevcrm._find_round(text, text, text, timestamptz),
    tinydevcrm._is_loop(tinydevcrm.schedules),
    tinydevcrm._find_last_look(tinydevcrm.matviews),
    tinydevcrm._reads_slow_matview(bigint, text, text),
    tinydevcrm._make_slow(bigint),
    tinydevcrm._assign_lane(bigint, interval),
    tinydevcrm._find_round_grace(integer, text)
to tinydevcrm_user;
