drop function tinydevcrm._check_rights();
