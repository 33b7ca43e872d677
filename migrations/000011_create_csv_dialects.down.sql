drop function tinydevcrm.sniff_csv(bytea, text, text, text, text, boolean, integer);
drop function tinydevcrm._read_start(bytea, text, text, text, text, integer);
drop function tinydevcrm._guess_encoding(bytea);
