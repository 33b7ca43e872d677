drop function tinydevcrm._target(tinydevcrm.imports);
drop table tinydevcrm.import_problems;
drop table tinydevcrm.imports;
drop table tinydevcrm.import_modes;
drop function tinydevcrm._imports_finish();
