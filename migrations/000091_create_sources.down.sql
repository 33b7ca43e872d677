drop function tinydevcrm.drop_source(text);
drop function tinydevcrm.resume_source(text);
drop function tinydevcrm.pause_source(text);
drop function tinydevcrm._set_source_pause(text, boolean);
drop function tinydevcrm.alter_source(text, text, jsonb, jsonb, text, numeric, interval);
drop function tinydevcrm.run_source(text, boolean);
drop function tinydevcrm.create_source(
    text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name);
drop function tinydevcrm._request_run(bigint, boolean);
drop function tinydevcrm._find_own_source(text);

drop table tinydevcrm.source_runs;
drop function tinydevcrm._source_runs_end();
drop function tinydevcrm._source_runs_note_due();
drop function tinydevcrm._source_runs_fill_in();

drop trigger _900_drop on tinydevcrm.sources;
drop trigger _100_fill_in on tinydevcrm.sources;
drop function tinydevcrm._sources_drop();
drop function tinydevcrm._sources_fill_in();
drop function tinydevcrm._list_shape_options(jsonb);
drop function tinydevcrm._find_source_problem(tinydevcrm.sources);
drop function tinydevcrm._compute_next_fetch(text, timestamptz);
drop table tinydevcrm.sources;
