drop function tinydevcrm._choose_exact_types(regclass);
drop function tinydevcrm._choose_decimal(numeric, integer);
drop function tinydevcrm._print_exact_type(text, regtype, integer);
