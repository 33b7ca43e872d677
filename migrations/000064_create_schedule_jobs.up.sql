-- The pg_cron jobs of schedules. Triggers create them. They run as the owner of the materialized
-- views.

create function tinydevcrm._describe_job(
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
        -- The name contains the owner, because two transactions that create jobs of one name wait
        -- for each other.
        _describe_job.job_name := format(
            case
                when (schedule).is_slow then 'tinydevcrm slow seconds of %s'
                else 'tinydevcrm seconds of %s'
            end,
            (schedule).owner::oid);
        _describe_job.command := format(
            'call tinydevcrm.refresh_by_seconds(%s)', (schedule).is_slow::text);
    else
        _describe_job.job_name := format('tinydevcrm schedule %s', (schedule).id);
        _describe_job.command := case
            when (schedule).schedule = 'on change' then
                'call tinydevcrm.refresh_changed(is_job => true)'
            else format('call tinydevcrm.refresh_scheduled(%s)', (schedule).id)
        end;
    end if;
end
$$;

comment on function tinydevcrm._describe_job(tinydevcrm.schedules) is
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
    if not tinydevcrm._may_edit_jobs() then
        return tinydevcrm._create_job_as_owner(
            _create_job.owner, _create_job.job_name, _create_job.cron_schedule,
            _create_job.command);
    end if;

    select job.jobid
      into v_job_id
      from cron.job
     where job.jobname = _create_job.job_name
       and job.username = v_owner
       and job.schedule = _create_job.cron_schedule
       and job.command = _create_job.command
       -- Upkeep, which skips locked jobs, then does not remove it as unused before this commits.
       for key share;

    if found then
        return v_job_id;
    end if;

    perform cron.unschedule(job.jobid)
       from cron.job
      where job.jobname = _create_job.job_name
        and job.username = v_owner;

    -- pg_cron runs a job as the role that created it, so the job is given to the owner of the
    -- materialized views. It gets its name in the same statement: with one name under one role,
    -- users would wait for each other.
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
        -- Another session has just created it.
        select job.jobid
          into strict v_job_id
          from cron.job
         where job.jobname = _create_job.job_name
           and job.username = v_owner;
        return v_job_id;
end
$$;

comment on function tinydevcrm._create_job(regrole, text, text, text) is
    'Creates the pg_cron job of this name and owner, or replaces one that has another schedule or '
    'command, and returns its number. Raises TD003 when pg_cron rejects the schedule.';

create function tinydevcrm._schedules_create_job()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record := tinydevcrm._describe_job(new);
begin
    update tinydevcrm.schedules
       set job_id = tinydevcrm._create_job(
               new.owner, v_job.job_name, new.cron_schedule, v_job.command)
     where schedules.id = new.id;

    return null;
end
$$;

comment on function tinydevcrm._schedules_create_job() is
    'Creates the pg_cron job of a new schedule. Only triggers and upkeep write schedules, and they '
    'have the rights that it needs.';

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
    -- Other schedules may share it. Nobody can act for a role that is gone.
    if exists (
           select
             from tinydevcrm.schedules
            where schedules.job_id = old.job_id
       )
       or not tinydevcrm._may_edit_jobs()
          and not exists (select from pg_roles where pg_roles.oid = old.owner)
    then
        return null;
    end if;

    -- Somebody may have removed it by hand.
    perform tinydevcrm._run_as(
        old.owner,
        format(
            'select jsonb_agg(cron.unschedule(jobid)) from cron.job where jobid = %L '
            'and command ~ %L',
            old.job_id, '^call tinydevcrm\.refresh_(scheduled|by_seconds|changed)\('));

    return null;
end
$$;

comment on function tinydevcrm._schedules_drop_job() is
    'Removes the pg_cron job of a schedule that was dropped, unless other schedules share it.';

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
    -- The lock comes first and the delete is a statement of its own, so that it sees a materialized
    -- view that has just been put on the schedule.
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
    'Drops a schedule when the last materialized view leaves it. Security definer: users cannot '
    'write schedules. As a trigger it runs only for a registration that row-level security has let '
    'through.';

create trigger _900_drop_unused_schedule
    after delete or update of schedule, is_slow, owner on tinydevcrm.matviews
    for each row
    when (old.schedule_id is not null)
    execute function tinydevcrm._matviews_drop_unused_schedule();

create function tinydevcrm._find_or_create_schedule(
    owner     regrole,
    schedule  text,
    seconds   integer,
    time_zone text,
    is_slow   boolean
)
    returns tinydevcrm.schedules
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
    v_limit    integer;
begin
    -- Tries again if another session has dropped the schedule between the two statements.
    loop
        -- With this lock nobody can drop it before the materialized view is on it.
        select schedules.*
          into v_schedule
          from tinydevcrm.schedules
         where schedules.owner = _find_or_create_schedule.owner
           and schedules.schedule = _find_or_create_schedule.schedule
           and schedules.time_zone is not distinct from _find_or_create_schedule.time_zone
           and schedules.is_slow = _find_or_create_schedule.is_slow
           for key share;

        if found then
            return v_schedule;
        end if;

        select settings.user_schedules
          into v_limit
          from tinydevcrm.settings;

        -- A view that becomes slow keeps its schedule, so those for slow views do not count.
        if not _find_or_create_schedule.is_slow
           and (
               select count(*)
                 from tinydevcrm.schedules
                where schedules.owner = _find_or_create_schedule.owner
                  and not schedules.is_slow
           ) >= v_limit
        then
            raise exception using
                errcode = 'TD007',
                message = format(
                    '%s already has %s different schedules',
                    _find_or_create_schedule.owner, v_limit),
                hint    = 'Use one of them, or ask an administrator to raise '
                          'tinydevcrm.settings.user_schedules.';
        end if;

        insert into tinydevcrm.schedules (
            owner, schedule, seconds, time_zone, cron_schedule, is_slow)
        values (
                   _find_or_create_schedule.owner,
                   _find_or_create_schedule.schedule,
                   _find_or_create_schedule.seconds,
                   _find_or_create_schedule.time_zone,
                   tinydevcrm._make_job_schedule(
                       _find_or_create_schedule.seconds,
                       _find_or_create_schedule.schedule,
                       _find_or_create_schedule.time_zone,
                       tinydevcrm._cron_timezone()),
                   _find_or_create_schedule.is_slow)
        on conflict do nothing;
    end loop;
end
$$;

comment on function tinydevcrm._find_or_create_schedule(regrole, text, integer, text, boolean) is
    'Returns the schedule of an owner. Creates it, with its job, if there is none. Raises TD007 '
    'when the owner has tinydevcrm.settings.user_schedules others.';

create function tinydevcrm._catches_up(schedule text, seconds integer)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        _catches_up.seconds is null
        and cardinality((tinydevcrm._cron_fields(_catches_up.schedule)).minutes) = 1,
        false);
end
$$;

comment on function tinydevcrm._catches_up(text, integer) is
    'Whether a missed time of this schedule, in normal form, is made up for by default: when it is '
    'due at most once an hour.';

create function tinydevcrm._matviews_find_schedule()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_old    tinydevcrm.schedules;
    v_parsed record;
begin
    if new.schedule is null then
        new.is_slow := false;
        new.schedule_id := null;
        new.catch_up := null;
        new.is_on_change := false;
        new.schedule_began_at := null;
        return new;
    end if;

    new.schedule := trim(both from regexp_replace(new.schedule, '\s+', ' ', 'g'));
    select schedules.*
      into v_old
      from tinydevcrm.schedules
     where schedules.id = old.schedule_id;
    if new.schedule = old.schedule then
        v_parsed := v_old;
    else
        v_parsed := tinydevcrm._parse_schedule(new.schedule);
    end if;

    new.is_on_change := v_parsed.schedule = 'on change';
    if new.is_on_change and not old.is_on_change and new.untracked_reason is not null then
        raise exception using
            errcode = 'TD007',
            message = format(
                '%s cannot be refreshed on change: %s', new.relation, new.untracked_reason),
            hint    = 'Refresh it by the clock, such as "1 minute". tinydevcrm.track_table() tracks '
                      'a table.';
    end if;

    -- Setting the same schedule again changes nothing: a slow view stays slow.
    if (v_parsed.schedule, v_parsed.time_zone) is distinct from (v_old.schedule, v_old.time_zone)
       or new.owner <> old.owner
    then
        new.is_slow := false;
        new.schedule_began_at := now();
    end if;
    new.is_slow := new.is_slow and not new.is_on_change;
    new.catch_up := coalesce(
        new.catch_up, tinydevcrm._catches_up(v_parsed.schedule, v_parsed.seconds));
    new.is_slow := new.is_slow
        or tinydevcrm._reads_slow_matview(new.id, v_parsed.schedule, v_parsed.time_zone);
    new.schedule_id := (tinydevcrm._find_or_create_schedule(
        new.owner, v_parsed.schedule, v_parsed.seconds, v_parsed.time_zone, new.is_slow)).id;

    return new;
end
$$;

comment on function tinydevcrm._matviews_find_schedule() is
    'Puts a materialized view on the schedule that its registration names, and creates that '
    'schedule if there is none. Raises TD003 when it is not a schedule, TD007 when the owner has '
    'too many, or a view that is not tracked cannot be refreshed on change. Security definer: users cannot write schedules. As a trigger it runs only for a '
    'registration that row-level security has let through, and only for the owner of that.';

create trigger _100_find_schedule
    before update of schedule, catch_up, is_slow, owner on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_find_schedule();

create function tinydevcrm._matviews_end_pause()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.schedule_began_at := now();
    return new;
end
$$;

comment on function tinydevcrm._matviews_end_pause() is
    'Remembers when a pause ended: what was due before is neither late nor made up for.';

create trigger _100_end_pause
    before update of is_paused on tinydevcrm.matviews
    for each row
    when (old.is_paused and not new.is_paused and new.schedule is not null)
    execute function tinydevcrm._matviews_end_pause();

revoke execute on function
    tinydevcrm._describe_job(tinydevcrm.schedules),
    tinydevcrm._create_job(regrole, text, text, text),
    tinydevcrm._schedules_create_job(),
    tinydevcrm._schedules_drop_job(),
    tinydevcrm._matviews_drop_unused_schedule(),
    tinydevcrm._find_or_create_schedule(regrole, text, integer, text, boolean),
    tinydevcrm._catches_up(text, integer),
    tinydevcrm._matviews_find_schedule(),
    tinydevcrm._matviews_end_pause()
from public;

grant execute on function tinydevcrm._catches_up(text, integer) to tinydevcrm_user;
