drop function tinydevcrm._choose_ranks(text, text[]);
drop function tinydevcrm._find_wider_rank(text, text, integer);
drop function tinydevcrm._find_first_ranks(text, text[]);
drop function tinydevcrm._test_columns(text, text[], integer);
drop function tinydevcrm._build_check(text, text, integer);
drop function tinydevcrm._build_fit_condition(text, integer);
