drop function tinydevcrm._describe_columns(text[], text[]);
drop function tinydevcrm._build_page_statement(
    regclass, integer, text, boolean, jsonb, bigint, integer, boolean);
drop function tinydevcrm._print_filter(text, text, text, text);
drop function tinydevcrm._print_base_type(oid);
drop function tinydevcrm._build_rows_statement(regclass, boolean, integer);
drop function tinydevcrm._print_rows(regclass, text, boolean, integer);
drop function tinydevcrm._print_text(text, oid);
drop function tinydevcrm._is_built_in(oid);
