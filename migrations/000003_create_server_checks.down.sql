drop function tinydevcrm._check_server();
drop function tinydevcrm._has_clock();
