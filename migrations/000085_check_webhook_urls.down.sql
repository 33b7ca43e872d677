drop trigger _100_check_url on tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_check_url();
drop function tinydevcrm._find_address_problem(text);
drop function tinydevcrm._find_url_problem(text);
