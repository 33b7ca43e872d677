drop function tinydevcrm._describe_columns(text[], text[]);
drop function tinydevcrm._build_rows_statement(regclass, boolean, integer);
drop function tinydevcrm._print_rows(regclass, text, boolean, integer);
drop function tinydevcrm._is_built_in(oid);
