drop function tinydevcrm._table_name(text);
drop function tinydevcrm._column_names(text[]);
drop function tinydevcrm._find_dialect(bytea);
drop function tinydevcrm.sniff_csv(bytea);
drop type tinydevcrm.csv_dialect;
