drop function tinydevcrm._find_next_work(text);
drop function tinydevcrm._find_next_fetch();
drop function tinydevcrm._find_next_deadline();
drop function tinydevcrm._find_next_post(text);
drop function tinydevcrm._find_next_job();
