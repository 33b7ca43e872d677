drop function tinydevcrm._lock_against_readers(regclass);
drop function tinydevcrm._try_locks(regclass[]);
drop function tinydevcrm._check_not_read(regclass, regclass);
drop function tinydevcrm._check_built_on(regclass);
drop function tinydevcrm._lock_for_change(tinydevcrm.matviews);
drop function tinydevcrm._list_built_on(regclass);
drop type tinydevcrm._built_on;
