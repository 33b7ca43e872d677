drop function tinydevcrm._separate_currencies(tinydevcrm.imports);
drop function tinydevcrm._add_key(tinydevcrm.imports);
drop function tinydevcrm._check_key_values(tinydevcrm.imports, text);
drop function tinydevcrm._format_key(tinydevcrm.imports);
drop function tinydevcrm._check_distribution(tinydevcrm.imports);
drop function tinydevcrm._check_key(tinydevcrm.imports);
drop function tinydevcrm._check_columns(tinydevcrm.imports);
drop function tinydevcrm._compare_columns(tinydevcrm.imports);
drop function tinydevcrm._find_base_type(regtype);
