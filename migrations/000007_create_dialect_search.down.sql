drop function tinydevcrm._find_dialect(bytea, text, text, text, boolean, integer);
drop type tinydevcrm.csv_dialect;
