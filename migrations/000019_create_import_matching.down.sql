drop function tinydevcrm._separate_currencies(tinydevcrm.imports);
drop function tinydevcrm._list_kept_columns(text, text, text, jsonb, name);
drop function tinydevcrm._keeps_table(tinydevcrm.imports);
drop function tinydevcrm._check_columns(tinydevcrm.imports);
drop function tinydevcrm._list_column_differences(tinydevcrm.imports);
drop function tinydevcrm._check_options(jsonb, text);
drop function tinydevcrm._compare_columns(tinydevcrm.imports);
drop function tinydevcrm._find_base_type(regtype);
