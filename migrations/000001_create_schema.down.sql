drop function tinydevcrm._lock_own_table(text, text);
drop function tinydevcrm._check_session_of(regclass);
drop function tinydevcrm._is_session_of(regrole);
drop function tinydevcrm._is_group(regrole);
drop function tinydevcrm._check_schema(name);

drop schema tinydevcrm;

-- As in the up migration: the workers of a Citus coordinator have these roles too.
do $$
begin
    if current_setting('citus.enable_ddl_propagation', true) is not null then
        perform set_config('citus.enable_ddl_propagation', 'on', true);
    end if;
end
$$;

-- Fails while one of these roles has a right on an object of the user's: revoke that first.
drop role tinydevcrm_orchestrator;
drop role tinydevcrm_admin;
drop role tinydevcrm_user;
