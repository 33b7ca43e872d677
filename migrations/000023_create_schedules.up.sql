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

create function tinydevcrm._job_of(
    schedule     tinydevcrm.schedules,
    out job_name text,
    out command  text
)
    returns record
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tinydevcrm._is_loop(schedule) then
        -- With the owner: while two transactions make jobs of one name, one waits for the other.
        _job_of.job_name := format(
            case
                when (schedule).is_slow then 'tinydevcrm slow seconds of %s'
                else 'tinydevcrm seconds of %s'
            end,
            (schedule).owner::oid);
        _job_of.command := format('call tinydevcrm.refresh_by_seconds(%s)', (schedule).is_slow::text);
    else
        _job_of.job_name := format('tinydevcrm schedule %s', (schedule).id);
        _job_of.command := format('call tinydevcrm.refresh_scheduled(%s)', (schedule).id);
    end if;
end
$$;

comment on function tinydevcrm._job_of(tinydevcrm.schedules) is
    'Name and command of the pg_cron job that a schedule should have.';

create function tinydevcrm._create_job(
    owner         regrole,
    job_name      text,
    cron_schedule text,
    command       text
)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner  constant name := pg_get_userbyid(_create_job.owner);
    v_job_id bigint;
begin
    select job.jobid
      into v_job_id
      from cron.job
     where job.jobname = _create_job.job_name
       and job.username = v_owner
       and job.schedule = _create_job.cron_schedule
       and job.command = _create_job.command;

    if found then
        return v_job_id;
    end if;

    perform cron.unschedule(job.jobid)
       from cron.job
      where job.jobname = _create_job.job_name
        and job.username = v_owner;

    -- pg_cron runs a job as the role that made it, which has to be the materialized views' owner.
    -- The name comes with it: under one name in one role, users would wait for each other.
    v_job_id := cron.schedule(_create_job.cron_schedule, _create_job.command);
    update cron.job
       set jobname = _create_job.job_name,
           username = v_owner
     where job.jobid = v_job_id;

    return v_job_id;
exception
    when invalid_parameter_value then
        raise exception using
            errcode = 'TD003',
            message = format('%L is not a schedule', _create_job.cron_schedule),
            hint    = tinydevcrm._schedule_hint();
    when unique_violation then
        -- Another session has just made it.
        select job.jobid
          into strict v_job_id
          from cron.job
         where job.jobname = _create_job.job_name
           and job.username = v_owner;
        return v_job_id;
end
$$;

comment on function tinydevcrm._create_job(regrole, text, text, text) is
    'The pg_cron job of that name of an owner, which is made, or made anew, when it is not there '
    'as it should be. Raises TD003 when pg_cron does not take the schedule.';

create function tinydevcrm._schedules_create_job()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record := tinydevcrm._job_of(new);
begin
    update tinydevcrm.schedules
       set job_id = tinydevcrm._create_job(
               new.owner, v_job.job_name, new.cron_schedule, v_job.command)
     where schedules.id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._schedules_create_job() is
    'Makes the pg_cron job of a new schedule. Only triggers and upkeep write schedules, with the '
    'rights that this takes.';

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
begin
    -- It may have been removed by hand already, or serve other schedules too.
    perform cron.unschedule(job.jobid)
       from cron.job
      where job.jobid = old.job_id
        and job.command like 'call tinydevcrm.refresh\_%'
        and not exists (
            select
              from tinydevcrm.schedules
             where schedules.job_id = old.job_id
        );

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
    security definer
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
    'Removes a schedule when the last materialized view leaves it. Security definer: users do not '
    'write schedules; as a trigger it runs only for a registration that row-level security has let '
    'through.';

create trigger _900_drop_unused_schedule
    after delete or update of schedule, is_slow, owner on tinydevcrm.matviews
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
    -- Again, where the last materialized view has just left it.
    loop
        -- The lock keeps it until the materialized view is on it.
        select schedules.*
          into v_schedule
          from tinydevcrm.schedules
         where schedules.owner = _schedule_of.owner
           and schedules.schedule = _schedule_of.schedule
           and schedules.is_slow = _schedule_of.is_slow
           for key share;

        if found then
            return v_schedule;
        end if;

        insert into tinydevcrm.schedules (owner, schedule, seconds, cron_schedule, is_slow)
        values (
                   _schedule_of.owner,
                   _schedule_of.schedule,
                   _schedule_of.seconds,
                   _schedule_of.cron_schedule,
                   _schedule_of.is_slow)
        on conflict on constraint schedules_schedule_unique do nothing;
    end loop;
end
$$;

comment on function tinydevcrm._schedule_of(regrole, text, integer, text, boolean) is
    'The schedule of an owner, which is made with its job when it is not there yet.';

create function tinydevcrm._matviews_find_schedule()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parsed record;
begin
    if new.schedule is null then
        new.is_slow := false;
        new.schedule_id := null;
        return new;
    end if;

    select parsed.schedule,
           parsed.seconds,
           parsed.cron_schedule
      into v_parsed
      from tinydevcrm._parse_schedule(new.schedule) as parsed;

    new.schedule := v_parsed.schedule;
    -- The same schedule again changes nothing, among the slow ones too.
    if new.schedule is distinct from old.schedule or new.owner <> old.owner then
        new.is_slow := false;
    end if;
    new.schedule_id := (tinydevcrm._schedule_of(
        new.owner, v_parsed.schedule, v_parsed.seconds, v_parsed.cron_schedule, new.is_slow)).id;

    return new;
end
$$;

comment on function tinydevcrm._matviews_find_schedule() is
    'Puts a materialized view on the schedule that its registration says, which is made when it is '
    'not there yet. Raises TD003 when it is none. Security definer: users do not write schedules; '
    'as a trigger it runs only for a registration that row-level security has let through, and for '
    'the owner of that.';

create trigger _100_find_schedule
    before update of schedule, is_slow, owner on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_find_schedule();

create function tinydevcrm._assign_schedule(relation regclass, schedule text)
    returns tinydevcrm.schedules
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview  tinydevcrm.matviews := tinydevcrm._own_matview(_assign_schedule.relation);
    v_schedule tinydevcrm.schedules;
begin
    update tinydevcrm.matviews
       -- An empty text is no schedule, and null would be none at all.
       set schedule = coalesce(_assign_schedule.schedule, '')
     where matviews.id = v_matview.id
    returning matviews.*
         into v_matview;

    select schedules.*
      into v_schedule
      from tinydevcrm.schedules
     where schedules.id = v_matview.schedule_id;

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
    'the schedule stays set. In a session that has not logged in as its owner the first refresh is '
    'requested: see tinydevcrm.refresh_matview(). Raises TD001 when it is not watched, TD003 when '
    'the schedule is none, 42501 when it is not yours.';

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
       set schedule = null
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
    tinydevcrm._schedules_create_lock(),
    tinydevcrm._is_loop(tinydevcrm.schedules),
    tinydevcrm._job_of(tinydevcrm.schedules),
    tinydevcrm._create_job(regrole, text, text, text),
    tinydevcrm._schedules_create_job(),
    tinydevcrm._schedules_drop_job(),
    tinydevcrm._matviews_drop_unused_schedule(),
    tinydevcrm._schedule_of(regrole, text, integer, text, boolean),
    tinydevcrm._matviews_find_schedule(),
    tinydevcrm._assign_schedule(regclass, text),
    tinydevcrm.schedule_matview(regclass, text),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
from public;

grant execute on function
    tinydevcrm._is_loop(tinydevcrm.schedules),
    tinydevcrm._assign_schedule(regclass, text),
    tinydevcrm.schedule_matview(regclass, text),
    tinydevcrm.unschedule_matview(regclass),
    tinydevcrm.pause_matview(regclass),
    tinydevcrm.resume_matview(regclass)
to tinydevcrm_user;
