-- Removes the registry. The materialized views stay, because they are the user's.

drop policy _locks_matview on tinydevcrm._locks;
drop table tinydevcrm.dropped_matviews;
drop table tinydevcrm.matview_read_names;
drop table tinydevcrm.matview_definitions;
drop table tinydevcrm.matviews;
drop table tinydevcrm.notify_rules;
delete from tinydevcrm._locks where what = 'matview';
drop function tinydevcrm._matviews_create_lock();
drop function tinydevcrm._set_muted_until();
drop function tinydevcrm._matviews_fill_in();
