drop function tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer);
drop function tinydevcrm._load_record_cutter();
drop type tinydevcrm.csv_dialect;
