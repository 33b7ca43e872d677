drop function tinydevcrm._join_user(oid);
drop function tinydevcrm._lock_managed_user(text);
drop function tinydevcrm._managed_user(text);
drop function tinydevcrm.create_user(text, text);
