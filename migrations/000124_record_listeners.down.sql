drop function tinydevcrm._record_listener(boolean);
drop table tinydevcrm.listeners;
drop function tinydevcrm._listeners_set_time();
