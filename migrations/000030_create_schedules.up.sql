-- When materialized views are refreshed: one pg_cron job per owner and schedule, however many
-- materialized views share it. Those that take long have a second one: the others keep time.
-- Where pg_cron has no seconds, one job per owner makes them for all of the owner's schedules below
-- a minute, so that many of them take one connection.

create table tinydevcrm.schedules (
    id            bigint generated always as identity,
    owner         regrole not null,
    schedule      text not null,
    seconds       integer,
    cron_schedule text not null,
    is_slow       boolean not null default false,
    job_id        bigint,
    created_at    timestamptz not null default now(),

    constraint schedules_pkey primary key (id),
    constraint schedules_id_owner_unique unique (id, owner),
    constraint schedules_schedule_unique unique (owner, schedule, is_slow),
    constraint schedules_seconds_range check (seconds between 1 and 59),
    constraint schedules_schedule_short check (octet_length(schedule) <= 200),
    constraint schedules_cron_schedule_readable check (
        tinydevcrm._is_cron(cron_schedule) or cron_schedule ~ '^[1-5]?[0-9] seconds?$'
    )
);

comment on table tinydevcrm.schedules is
    'Schedules in use, each with its pg_cron job. Made with the first materialized view on it, '
    'gone with the last, by triggers: see tinydevcrm.matviews.schedule.';
comment on column tinydevcrm.schedules.id is
    'Number of the schedule: call tinydevcrm.refresh_scheduled(id) is what its job runs.';
comment on column tinydevcrm.schedules.owner is
    'Owner of the materialized views on it; the job runs as this role.';
comment on column tinydevcrm.schedules.schedule is
    'The schedule in its one spelling: "5 seconds", or a cron expression of five fields in the '
    'time zone of pg_cron (cron.timezone; GMT by default).';
comment on column tinydevcrm.schedules.seconds is
    'Seconds between rounds when they are less than a minute apart; null otherwise.';
comment on column tinydevcrm.schedules.cron_schedule is
    'What pg_cron was given: the schedule itself, or every minute where a loop inside the job '
    'makes the seconds (pg_cron before 1.5).';
comment on column tinydevcrm.schedules.is_slow is
    'Whether it is for the materialized views whose refreshes take more than half of the time '
    'between two rounds: they have a job of their own, in which they wait for each other only.';
comment on column tinydevcrm.schedules.job_id is
    'The job: cron.job.jobid. The same for all schedules of an owner whose seconds a loop makes.';
comment on column tinydevcrm.schedules.created_at is
    'When the first materialized view was put on it.';

alter table tinydevcrm.schedules enable row level security;

create policy schedules_owner on tinydevcrm.schedules
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select on tinydevcrm.schedules to tinydevcrm_user;

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
    'Makes the row of tinydevcrm._locks by which a schedule has one job at work.';

create trigger _500_create_lock
    after insert on tinydevcrm.schedules
    for each row
    execute function tinydevcrm._schedules_create_lock();

alter table tinydevcrm.matviews
    add column schedule text,
    add column is_slow boolean not null default false,
    add column schedule_id bigint,
    add column is_paused boolean not null default false,
    add constraint matviews_schedule_short check (octet_length(schedule) <= 200),
    -- With the owner, so that nobody's view gets on another's schedule.
    add constraint matviews_schedule_fkey foreign key (schedule_id, owner)
        references tinydevcrm.schedules (id, owner);

comment on column tinydevcrm.matviews.schedule is
    'When it is refreshed, in the one spelling of tinydevcrm.schedules; null for never.';
comment on column tinydevcrm.matviews.is_slow is
    'Whether it is among the slow ones of its schedule: see tinydevcrm.schedules.';
comment on column tinydevcrm.matviews.schedule_id is
    'The schedule that these two make; null when none does.';
comment on column tinydevcrm.matviews.is_paused is
    'Whether its schedule passes it over for now.';

grant update (schedule, is_slow, is_paused) on tinydevcrm.matviews to tinydevcrm_user;

-- No column in it that a refresh writes, so that these updates stay on the row's own page.
create index matviews_schedule_idx on tinydevcrm.matviews (schedule_id, owner);

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
    'Whether a loop inside a job makes the seconds of a schedule, because pg_cron has none.';

revoke execute on function
    tinydevcrm._schedules_create_lock(),
    tinydevcrm._is_loop(tinydevcrm.schedules)
from public;

grant execute on function tinydevcrm._is_loop(tinydevcrm.schedules) to tinydevcrm_user;
