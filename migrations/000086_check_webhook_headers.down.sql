drop trigger _150_check_headers on tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_check_headers();
drop function tinydevcrm._parse_headers(text);
drop function tinydevcrm._find_header_problem(jsonb);
