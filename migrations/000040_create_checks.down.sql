drop function tinydevcrm.check_installation();
drop function tinydevcrm._check_workers();
