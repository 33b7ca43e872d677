drop function tinydevcrm._check_schema(name);

drop table tinydevcrm.settings;

drop schema tinydevcrm;

-- Fails while the role still has rights on something of the user's: revoke those first.
drop role tinydevcrm_user;
