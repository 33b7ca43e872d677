drop function tinydevcrm._make_table_name(text);
drop function tinydevcrm._make_column_names(text[]);
drop function tinydevcrm._compose(text);
drop function tinydevcrm._cut_name(text, integer);
