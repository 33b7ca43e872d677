drop function tinydevcrm._check_server();
