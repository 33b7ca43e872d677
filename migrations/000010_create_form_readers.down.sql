drop function tinydevcrm._read_currency(text);
drop function tinydevcrm._read_number(text, text);
