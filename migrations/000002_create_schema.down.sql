drop function tinydevcrm._check_schema(name);

drop table tinydevcrm.settings;

revoke usage on schema cron from tinydevcrm_user;

drop schema tinydevcrm;

-- Fails while the role still has rights on something of the user's: revoke those first.
drop role tinydevcrm_user;
