revoke execute on function tinydevcrm._check_server() from tinydevcrm_user;

drop function tinydevcrm.check_installation();
drop function tinydevcrm._list_findings();
drop function tinydevcrm._check_timeouts();
drop function tinydevcrm._check_rights();
drop function tinydevcrm._check_load();
drop function tinydevcrm._record_listener(boolean);
drop table tinydevcrm.listeners;
drop function tinydevcrm._listeners_set_time();
drop function tinydevcrm._check_workers();
