drop view tinydevcrm.source_status;
drop function tinydevcrm._source_state(tinydevcrm.sources);
drop function tinydevcrm._is_run_late(tinydevcrm.source_runs);
drop function tinydevcrm._note_silent_sources();
drop function tinydevcrm._is_silent(tinydevcrm.sources);
drop trigger _900_note on tinydevcrm.sources;
drop function tinydevcrm._sources_note();
