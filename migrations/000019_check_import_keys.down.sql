drop function tinydevcrm._add_key(tinydevcrm.imports);
drop function tinydevcrm._check_key_values(tinydevcrm.imports, text);
drop function tinydevcrm._format_key(tinydevcrm.imports);
drop function tinydevcrm._check_distribution(tinydevcrm.imports);
drop function tinydevcrm._check_key(tinydevcrm.imports);
