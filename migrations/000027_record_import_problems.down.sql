drop function tinydevcrm.reject_import_values(bigint);
drop function tinydevcrm.record_import_problems(bigint, bigint[], text[], text[], boolean);
