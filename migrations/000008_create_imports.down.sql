drop function tinydevcrm._checked_name(text);
drop function tinydevcrm._lock_own_table(text, text);
drop function tinydevcrm._check_target(tinydevcrm.imports);
drop function tinydevcrm._refuse_name_in_use(text);
drop function tinydevcrm._target(tinydevcrm.imports);
drop table tinydevcrm.import_problems;
drop table tinydevcrm.imports;
drop function tinydevcrm._imports_finish();
