drop function tinydevcrm._make_table_name(text);
drop function tinydevcrm._make_column_names(text[]);
