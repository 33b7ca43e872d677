-- When materialized views are refreshed. An owner has one pg_cron job per schedule, however many
-- materialized views share it, and a second one for the slow ones, so that these do not delay the
-- others. Where pg_cron has no seconds, one job per owner loops over all of the owner's schedules
-- below a minute, so that they need only one connection.

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

revoke execute on function
    tinydevcrm._schedules_create_lock(),
    tinydevcrm._matviews_restart_schedule(),
    tinydevcrm._is_loop(tinydevcrm.schedules),
    tinydevcrm._settle_watches(bigint),
    tinydevcrm._matviews_settle_watches()
from public;

grant execute on function tinydevcrm._is_loop(tinydevcrm.schedules) to tinydevcrm_user;
