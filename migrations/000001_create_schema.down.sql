drop function tinydevcrm._lock_key(text, bigint);
drop function tinydevcrm._check_schema(name);

drop table tinydevcrm.settings;

drop schema tinydevcrm;

-- Fails while one of them still has rights on something of the user's: revoke those first.
drop role tinydevcrm_orchestrator;
drop role tinydevcrm_admin;
drop role tinydevcrm_user;
