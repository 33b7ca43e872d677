drop function tinydevcrm._describe_run(tinydevcrm.source_runs);
drop function tinydevcrm._is_file_imported(text);
drop function tinydevcrm._note_file(bigint, text);
drop function tinydevcrm._take_file(text);
drop function tinydevcrm._take_run(interval, bigint[]);
drop function tinydevcrm._may_fetch_more(regrole);
drop function tinydevcrm._fail_lost_runs();
drop function tinydevcrm._is_fetchable(regrole);
drop function tinydevcrm._make_due_runs();
