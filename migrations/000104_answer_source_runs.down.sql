drop function tinydevcrm._fail_run(bigint, integer, text, text, boolean, interval);
drop function tinydevcrm._note_unchanged(bigint, integer);
drop function tinydevcrm._finish_run(bigint, integer, bigint, text, text);
drop function tinydevcrm._end_run(bigint, bigint, text, text);
drop function tinydevcrm._check_rows(tinydevcrm.sources, tinydevcrm.imports);
drop function tinydevcrm._return_run(bigint, integer);
drop function tinydevcrm._extend_run(bigint, integer, interval);
drop function tinydevcrm._lock_run(bigint, integer);
