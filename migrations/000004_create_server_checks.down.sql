drop function tinydevcrm._check_server();
drop function tinydevcrm._follows_at_once();
drop function tinydevcrm._set_for_citus(regprocedure, text, text);
drop function tinydevcrm._drop_event_trigger(text);
drop function tinydevcrm._create_event_trigger(text, text, text[], text, text);
drop function tinydevcrm._may_signal(oid);
drop function tinydevcrm._hidden();
drop function tinydevcrm._setting(text);
drop function tinydevcrm._has_clock();
