drop trigger _900_drop on tinydevcrm.sources;
drop trigger _100_fill_in on tinydevcrm.sources;
drop function tinydevcrm._sources_drop();
drop function tinydevcrm._sources_fill_in();
drop function tinydevcrm._list_shape_options(jsonb);
drop function tinydevcrm._find_source_problem(tinydevcrm.sources);
drop function tinydevcrm._compute_next_fetch(text, timestamptz);
drop table tinydevcrm.sources;
