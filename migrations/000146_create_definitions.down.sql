drop function tinydevcrm._print_queries();
drop function tinydevcrm._show_time(timestamptz);
drop function tinydevcrm._shorten_name(text, text, name);
drop function tinydevcrm._without_nulls(jsonb);
drop type tinydevcrm._definition;
drop table tinydevcrm.definition_keys;
