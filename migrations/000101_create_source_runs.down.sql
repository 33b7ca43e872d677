drop table tinydevcrm.source_runs;
drop function tinydevcrm._source_runs_end();
drop function tinydevcrm._source_runs_note_due();
drop function tinydevcrm._source_runs_fill_in();
