drop function tinydevcrm._load_cell_kinds();
drop table tinydevcrm.csv_forms;
drop function tinydevcrm._read_currency(text);
drop function tinydevcrm._read_number(text, text);
