-- Whether notifications reach the programs of a role.

create table tinydevcrm.listeners (
    owner     regrole not null default quote_ident(current_user)::regrole,
    is_deaf   boolean not null,
    probed_at timestamptz not null default clock_timestamp(),

    constraint listeners_pkey primary key (owner)
);

comment on table tinydevcrm.listeners is
    'Whether notifications reach the programs of a role: one row for each role. The orchestrator '
    'notifies itself at its start and each minute, every ten seconds while that does not arrive, '
    'and records the result here.';
comment on column tinydevcrm.listeners.owner is
    'Role of the program.';
comment on column tinydevcrm.listeners.is_deaf is
    'Whether the last probe did not arrive within five seconds, as through a pooler in '
    'transaction mode. The program then looks for events every ten seconds.';
comment on column tinydevcrm.listeners.probed_at is
    'When the last probe was sent.';

alter table tinydevcrm.listeners enable row level security;

create policy listeners_read on tinydevcrm.listeners
    for select
    to tinydevcrm_user
    using (true);

create policy listeners_create on tinydevcrm.listeners
    for insert
    to tinydevcrm_user
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

create policy listeners_change on tinydevcrm.listeners
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select,
      insert (is_deaf),
      update (is_deaf)
   on tinydevcrm.listeners
   to tinydevcrm_user;

create function tinydevcrm._listeners_set_time()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.probed_at := clock_timestamp();
    return new;
end
$$;

comment on function tinydevcrm._listeners_set_time() is
    'Sets the time of a probe.';

create trigger _100_set_time
    before update on tinydevcrm.listeners
    for each row
    execute function tinydevcrm._listeners_set_time();

create function tinydevcrm._record_listener(is_deaf boolean)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    insert into tinydevcrm.listeners (is_deaf)
    values (_record_listener.is_deaf)
    on conflict on constraint listeners_pkey do update
       set is_deaf = excluded.is_deaf
$$;

comment on function tinydevcrm._record_listener(boolean) is
    'Records whether the last probe of a program of the caller''s role did not arrive.';

revoke execute on function
    tinydevcrm._listeners_set_time(),
    tinydevcrm._record_listener(boolean)
from public;

grant execute on function tinydevcrm._record_listener(boolean) to tinydevcrm_user;
