-- Rows that a session locks, and marks before it refreshes.

-- Rows instead of advisory locks, because anyone can take an advisory lock.
create table tinydevcrm._locks (
    what              text not null,
    id                bigint not null,
    matview_ids       bigint[],
    pid               integer,
    backend_start     timestamptz,
    server_id         bigint,
    statement_timeout interval,
    marked_at         timestamptz,
    looked_at         timestamptz,

    constraint _locks_pkey primary key (what, id),
    constraint _locks_what_known check (what in ('matview', 'schedule', 'upkeep', 'clock')),
    constraint _locks_matview_ids_short check (
        array_ndims(matview_ids) = 1 and array_length(matview_ids, 1) <= 100000
    )
)
-- Each round updates a row: this leaves room for the new version on the same page.
with (fillfactor = 50);

comment on table tinydevcrm._locks is
    'Rows that a session locks with "for update" until its transaction ends. A job also marks its '
    'row, and commits that, before it refreshes: a mark of a session that is gone names the '
    'refresh during which it ended. Triggers create the rows. tinydevcrm.settle_jobs() removes '
    'those whose view or schedule is gone. A trigger cannot do that: it would wait for the session '
    'that holds the lock, and that session may wait for the trigger''s transaction. Users see, and '
    'may lock and mark, the rows of their own views and schedules.';
comment on column tinydevcrm._locks.what is
    'matview: the right to refresh a view; schedule: the right to run its round; upkeep: the right '
    'to settle jobs; clock: the right to run jobs, in a database without pg_cron.';
comment on column tinydevcrm._locks.id is
    'Number of the registration or the schedule; 0 for upkeep and clock.';
comment on column tinydevcrm._locks.matview_ids is
    'The mark: the registrations that a job refreshes, in this order, those included that it has '
    'done. At most 100000. Null when no job does.';
comment on column tinydevcrm._locks.pid is
    'Process of the session that has marked the row. A trigger writes this and the columns below.';
comment on column tinydevcrm._locks.backend_start is
    'When that session began. Another process may get the same number later.';
comment on column tinydevcrm._locks.server_id is
    'System identifier of its server. A restored dump has marks of another server.';
comment on column tinydevcrm._locks.statement_timeout is
    'The statement_timeout of that session; 0 for none.';
comment on column tinydevcrm._locks.marked_at is
    'When it was marked.';
comment on column tinydevcrm._locks.looked_at is
    'When a job last looked for what is due, or removed its mark.';

alter table tinydevcrm._locks enable row level security;

-- Postgres lets a role lock a row only if the role may update a column of it.
grant select, update (matview_ids) on tinydevcrm._locks to tinydevcrm_user;

insert into tinydevcrm._locks (what, id) values ('upkeep', 0), ('clock', 0);

create function tinydevcrm._locks_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.pid := pg_backend_pid();
    new.backend_start := (pg_stat_get_activity(new.pid)).backend_start;
    new.server_id := (pg_control_system()).system_identifier;
    new.statement_timeout := current_setting('statement_timeout')::interval;
    new.marked_at := clock_timestamp();
    return new;
end
$$;

comment on function tinydevcrm._locks_fill_in() is
    'Sets which session marks a row, and when.';

create trigger _100_fill_in
    before update of matview_ids on tinydevcrm._locks
    for each row
    when (new.matview_ids is not null)
    execute function tinydevcrm._locks_fill_in();

create function tinydevcrm._locks_note_look()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.looked_at := clock_timestamp();
    return new;
end
$$;

comment on function tinydevcrm._locks_note_look() is
    'Sets when a job has looked for what is due.';

create trigger _200_note_look
    before update of matview_ids on tinydevcrm._locks
    for each row
    execute function tinydevcrm._locks_note_look();

create function tinydevcrm._is_left_mark(lock tinydevcrm._locks)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select lock.matview_ids is not null
       and not exists (
           select
             from pg_stat_get_activity(lock.pid) as activity
            -- Null where the role may not see it: of another role.
            where coalesce(activity.backend_start = lock.backend_start, true)
              and lock.server_id = (pg_control_system()).system_identifier
       )
$$;

comment on function tinydevcrm._is_left_mark(tinydevcrm._locks) is
    'Whether a row has a mark of a session that is gone.';

create function tinydevcrm._take_lock(what text, id bigint)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform
       from tinydevcrm._locks
      where _locks.what = _take_lock.what
        and _locks.id = _take_lock.id
        for update skip locked;

    return found;
end
$$;

comment on function tinydevcrm._take_lock(text, bigint) is
    'Locks a row of tinydevcrm._locks until the transaction ends. An error releases the lock too. '
    'False when another session holds it, or when the row is not yours.';

create function tinydevcrm._mark_lock(what text, id bigint, matview_ids bigint[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Never waits: without the lock, another session does the work.
    if tinydevcrm._take_lock(_mark_lock.what, _mark_lock.id) then
        update tinydevcrm._locks
           set matview_ids = nullif(_mark_lock.matview_ids[1:100000], '{}')
         where _locks.what = _mark_lock.what
           and _locks.id = _mark_lock.id;
    end if;
end
$$;

comment on function tinydevcrm._mark_lock(text, bigint, bigint[]) is
    'Marks a row of tinydevcrm._locks with the registrations that this session is going to '
    'refresh. Null or none removes the mark. Does nothing when another session holds the lock.';

revoke execute on function
    tinydevcrm._locks_fill_in(),
    tinydevcrm._locks_note_look(),
    tinydevcrm._is_left_mark(tinydevcrm._locks),
    tinydevcrm._mark_lock(text, bigint, bigint[]),
    tinydevcrm._take_lock(text, bigint)
from public;

grant execute on function
    tinydevcrm._is_left_mark(tinydevcrm._locks),
    tinydevcrm._mark_lock(text, bigint, bigint[]),
    tinydevcrm._take_lock(text, bigint)
to tinydevcrm_user;
