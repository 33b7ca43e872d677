-- When materialized views are refreshed: one pg_cron job per owner and schedule, however many
-- materialized views share it. Those that take long have a second one: the others keep time.

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
    constraint schedules_cron_schedule_readable check (
        tinydevcrm._is_cron(cron_schedule) or cron_schedule ~ '^[1-5]?[0-9] seconds?$'
    )
);

comment on table tinydevcrm.schedules is
    'Schedules in use, each with its pg_cron job. Made with the first materialized view on it, '
    'gone with the last.';
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
    'The job: cron.job.jobid.';
comment on column tinydevcrm.schedules.created_at is
    'When the first materialized view was put on it.';

alter table tinydevcrm.schedules enable row level security;

create policy schedules_owner on tinydevcrm.schedules
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select, insert, update, delete on tinydevcrm.schedules to tinydevcrm_user;

alter table tinydevcrm.matviews
    add column schedule_id bigint,
    add column is_paused boolean not null default false,
    -- With the owner, so that nobody's view gets on another's schedule.
    add constraint matviews_schedule_fkey foreign key (schedule_id, owner)
        references tinydevcrm.schedules (id, owner);

comment on column tinydevcrm.matviews.schedule_id is
    'The schedule that refreshes it; null when none does.';
comment on column tinydevcrm.matviews.is_paused is
    'Whether its schedule passes it over for now.';

-- No column in it that a refresh writes, so that these updates stay on the row's own page.
create index matviews_schedule_idx on tinydevcrm.matviews (schedule_id, owner);

create function tinydevcrm._create_job(schedule tinydevcrm.schedules)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules := _create_job.schedule;
    v_owner    name := pg_get_userbyid(v_schedule.owner);
    v_job_name name := format('tinydevcrm schedule %s', v_schedule.id);
    v_role     text := current_setting('role');
    v_is_super boolean := (select rolsuper from pg_roles where rolname = current_user);
    v_job_id   bigint;
begin
    -- pg_cron runs a job as the role that made it, which has to be the materialized views' owner,
    -- whoever schedules them.
    if not v_is_super then
        perform set_config('role', v_owner, true);
    end if;

    begin
        v_job_id := cron.schedule(
            v_job_name,
            v_schedule.cron_schedule,
            format('call tinydevcrm.refresh_scheduled(%s)', v_schedule.id));
    exception
        when invalid_parameter_value then
            raise exception using
                errcode = 'TD003',
                message = format('%L is not a schedule', v_schedule.schedule),
                hint    = tinydevcrm._schedule_hint();
    end;

    -- A superuser gives the job away instead: the event trigger that follows owners may not change
    -- its role.
    if v_is_super then
        perform cron.unschedule(job.jobid)
           from cron.job
          where job.jobname = v_job_name
            and job.username = v_owner
            and job.jobid <> v_job_id;

        update cron.job
           set username = v_owner
         where job.jobid = v_job_id;
    else
        perform set_config('role', v_role, true);
    end if;

    update tinydevcrm.schedules
       set job_id = v_job_id
     where schedules.id = v_schedule.id;
end
$$;

comment on function tinydevcrm._create_job(tinydevcrm.schedules) is
    'Makes the pg_cron job of a schedule, in the place of one it may have. Raises TD003 when '
    'pg_cron does not take the schedule.';

create function tinydevcrm._schedules_create_job()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._create_job(new);
    return null;
end
$$;

comment on function tinydevcrm._schedules_create_job() is
    'Makes the pg_cron job of a new schedule.';

create trigger _500_create_job
    after insert on tinydevcrm.schedules
    for each row
    execute function tinydevcrm._schedules_create_job();

create function tinydevcrm._schedules_drop_job()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_role text := current_setting('role');
begin
    -- pg_cron lets a superuser remove any job, as the event trigger that follows drops has to; a
    -- role that has the owner's rights does it in the owner's name.
    if not (select rolsuper from pg_roles where rolname = current_user) then
        perform set_config('role', pg_get_userbyid(old.owner), true);
    end if;

    -- The job may have been removed by hand already; and a user may write any number into a row of
    -- their own, so it has to be the job that was made for this schedule.
    perform cron.unschedule(jobid)
       from cron.job
      where jobid = old.job_id
        -- A role that is gone has no name.
        and (username = pg_get_userbyid(old.owner)
             or not exists (select from pg_roles where oid = old.owner))
        and jobname = format('tinydevcrm schedule %s', old.id);

    perform set_config('role', v_role, true)
      where current_setting('role') <> v_role;

    return null;
end
$$;

comment on function tinydevcrm._schedules_drop_job() is
    'Removes the pg_cron job of a schedule that is gone.';

create trigger _900_drop_job
    after delete on tinydevcrm.schedules
    for each row
    execute function tinydevcrm._schedules_drop_job();

create function tinydevcrm._matviews_drop_unused_schedule()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The lock first, and the look in a statement of its own: then a materialized view that is
    -- just being put on the schedule is seen.
    perform
       from tinydevcrm.schedules
      where schedules.id = old.schedule_id
        for update;

    delete
      from tinydevcrm.schedules
     where schedules.id = old.schedule_id
       and not exists (
           select
             from tinydevcrm.matviews
            where matviews.schedule_id = old.schedule_id
       );

    return null;
end
$$;

comment on function tinydevcrm._matviews_drop_unused_schedule() is
    'Removes a schedule when the last materialized view leaves it.';

create trigger _900_drop_unused_schedule
    after delete or update of schedule_id on tinydevcrm.matviews
    for each row
    when (old.schedule_id is not null)
    execute function tinydevcrm._matviews_drop_unused_schedule();

create function tinydevcrm._schedule_of(
    owner         regrole,
    schedule      text,
    seconds       integer,
    cron_schedule text,
    is_slow       boolean
)
    returns tinydevcrm.schedules
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
begin
    insert into tinydevcrm.schedules (owner, schedule, seconds, cron_schedule, is_slow)
    select _schedule_of.owner,
           _schedule_of.schedule,
           _schedule_of.seconds,
           _schedule_of.cron_schedule,
           _schedule_of.is_slow
     where not exists (
        select
          from tinydevcrm.schedules
         where schedules.owner = _schedule_of.owner
           and schedules.schedule = _schedule_of.schedule
           and schedules.is_slow = _schedule_of.is_slow
     )
    on conflict on constraint schedules_schedule_unique do nothing;

    -- The lock keeps it until the materialized view is on it.
    select schedules.*
      into strict v_schedule
      from tinydevcrm.schedules
     where schedules.owner = _schedule_of.owner
       and schedules.schedule = _schedule_of.schedule
       and schedules.is_slow = _schedule_of.is_slow
       for key share;

    return v_schedule;
end
$$;

comment on function tinydevcrm._schedule_of(regrole, text, integer, text, boolean) is
    'The schedule of an owner, which is made with its job when it is not there yet.';

create function tinydevcrm._assign_schedule(relation regclass, schedule text)
    returns tinydevcrm.schedules
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview  tinydevcrm.matviews := tinydevcrm._watched_matview(_assign_schedule.relation);
    v_parsed   record;
    v_schedule tinydevcrm.schedules;
begin
    select parsed.schedule,
           parsed.seconds,
           parsed.cron_schedule
      into v_parsed
      from tinydevcrm._parse_schedule(_assign_schedule.schedule) as parsed;

    v_schedule := tinydevcrm._schedule_of(
        v_matview.owner,
        v_parsed.schedule,
        v_parsed.seconds,
        v_parsed.cron_schedule,
        -- The same schedule again changes nothing, among the slow ones too.
        exists (
            select
              from tinydevcrm.schedules
             where schedules.id = v_matview.schedule_id
               and schedules.schedule = v_parsed.schedule
               and schedules.is_slow
        ));

    update tinydevcrm.matviews
       set schedule_id = v_schedule.id
     where matviews.id = v_matview.id
       and matviews.schedule_id is distinct from v_schedule.id;

    return v_schedule;
end
$$;

comment on function tinydevcrm._assign_schedule(regclass, text) is
    'Puts a watched materialized view on a schedule, which is made when it is not there yet.';

-- The first refresh runs the view's query: no search_path of its own.
create function tinydevcrm.schedule_matview(
    relation          regclass,
    inout schedule    text,
    out seconds       integer,
    out is_slow       boolean,
    out outcome       text,
    out row_count     bigint,
    out error_code    text,
    out error_message text
)
    returns record
    language plpgsql
    volatile
as $$
declare
    v_schedule tinydevcrm.schedules := tinydevcrm._assign_schedule(
        schedule_matview.relation, schedule_matview.schedule);
    v_event    tinydevcrm.matview_refresh_events := tinydevcrm.refresh_matview(
        schedule_matview.relation);
begin
    schedule := v_schedule.schedule;
    seconds := v_schedule.seconds;
    is_slow := v_schedule.is_slow;
    outcome := v_event.outcome;
    row_count := v_event.row_count;
    error_code := v_event.error_code;
    error_message := v_event.error_message;
end
$$;

comment on function tinydevcrm.schedule_matview(regclass, text) is
    'Refreshes a watched materialized view now and from now on by a schedule: "5 seconds", "10 '
    'minutes", "1 hour", or a cron expression; an earlier schedule is replaced. Returns the '
    'schedule as it is kept, and how the first refresh went: one that fails does not raise, and '
    'the schedule stays set. '
    'Raises TD001 when it is not watched, TD003 when the schedule is none.';

create function tinydevcrm.unschedule_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._watched_matview(unschedule_matview.relation);
begin
    update tinydevcrm.matviews
       set schedule_id = null
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.unschedule_matview(regclass) is
    'Stops the scheduled refreshes of a materialized view; harmless when it has none. Raises TD001 '
    'when it is not watched.';

create function tinydevcrm.pause_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._watched_matview(pause_matview.relation);
begin
    update tinydevcrm.matviews
       set is_paused = true
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.pause_matview(regclass) is
    'Lets the schedule of a materialized view pass it over until resume_matview(); all else stays '
    'as it is. Raises TD001 when it is not watched.';

create function tinydevcrm.resume_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._watched_matview(resume_matview.relation);
begin
    update tinydevcrm.matviews
       set is_paused = false
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.resume_matview(regclass) is
    'Ends the pause of a materialized view: the next round of its schedule refreshes it. Rounds '
    'that it missed are not made up for. Raises TD001 when it is not watched.';

revoke execute on function
    tinydevcrm._create_job(tinydevcrm.schedules),
    tinydevcrm._schedules_create_job(),
    tinydevcrm._schedules_drop_job(),
    tinydevcrm._matviews_drop_unused_schedule(),
    tinydevcrm._schedule_of(regrole, text, integer, text, boolean),
    tinydevcrm._assign_schedule(regclass, text),
    tinydevcrm.schedule_matview(regclass, text),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
from public;

grant execute on function
    tinydevcrm._create_job(tinydevcrm.schedules),
    tinydevcrm._schedule_of(regrole, text, integer, text, boolean),
    tinydevcrm._assign_schedule(regclass, text),
    tinydevcrm.schedule_matview(regclass, text),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
to tinydevcrm_user;
