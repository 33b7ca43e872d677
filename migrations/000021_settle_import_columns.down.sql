drop function tinydevcrm._list_preview_notes(tinydevcrm.imports, jsonb);
drop function tinydevcrm._check_reading(tinydevcrm.imports, jsonb);
drop function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]);
drop function tinydevcrm._choose_ranks(text, text[]);
drop function tinydevcrm._find_wider_rank(text, text, integer);
drop function tinydevcrm._find_first_ranks(text, text[]);
drop function tinydevcrm._test_columns(text, text[], integer);
drop function tinydevcrm._build_check(text, text, integer);
drop function tinydevcrm._build_fit_condition(text, integer);
