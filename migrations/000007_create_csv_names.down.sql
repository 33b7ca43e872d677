drop function tinydevcrm._table_name(text);
drop function tinydevcrm._column_names(text[]);
