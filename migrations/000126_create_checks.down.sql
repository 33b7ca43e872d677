revoke execute on function tinydevcrm._check_server() from tinydevcrm_user;

drop function tinydevcrm.check_installation();
drop function tinydevcrm._list_findings();
drop function tinydevcrm._check_timeouts();
drop function tinydevcrm._check_load();
drop function tinydevcrm._check_workers();
