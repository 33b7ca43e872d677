drop function tinydevcrm.import_staging(regclass, text, text, text[], jsonb, text[], name, text, jsonb);
drop function tinydevcrm._check_staging(regclass);
drop function tinydevcrm._choose_ranks(text, text[]);
drop function tinydevcrm._find_wider_rank(text, text, integer);
drop function tinydevcrm._find_first_ranks(text, text[]);
drop function tinydevcrm._test_columns(text, text[], integer);
drop function tinydevcrm._build_fit_condition(text, integer);
