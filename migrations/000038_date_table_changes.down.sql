drop function tinydevcrm._check_deadline(tinydevcrm.matviews);
drop function tinydevcrm._find_last_change(bigint);
drop function tinydevcrm._list_dated_sources(bigint);
drop function tinydevcrm._note_changed_tables();
drop table tinydevcrm.table_change_times;
