drop function tinydevcrm.import_staging(regclass, text, text, text[], jsonb, text, name, text);
drop function tinydevcrm._check_staging(regclass);
drop function tinydevcrm._choose_positions(text, text[]);
drop function tinydevcrm._wider_position(text, text, integer);
drop function tinydevcrm._first_position(text, text[]);
drop function tinydevcrm._which_fit(text, text[], integer);
drop function tinydevcrm._accepts(text, integer);
