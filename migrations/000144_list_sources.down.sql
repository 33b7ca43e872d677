drop function tinydevcrm._list_sources_of(text);
drop function tinydevcrm._list_source_runs(text, bigint, integer);
drop function tinydevcrm._advise_run(text, text);
drop function tinydevcrm._describe_source(text);
drop function tinydevcrm._list_sources(text, text, boolean, integer, integer);
