drop function tinydevcrm._distribute_import(tinydevcrm.imports);
drop function tinydevcrm._add_key(tinydevcrm.imports);
drop function tinydevcrm._check_key_values(tinydevcrm.imports, text);
drop function tinydevcrm._enforces_key(tinydevcrm.imports);
drop function tinydevcrm._build_conflict_clause(tinydevcrm.imports);
drop function tinydevcrm._format_key(tinydevcrm.imports);
drop function tinydevcrm._check_distribution(tinydevcrm.imports);
drop function tinydevcrm._check_key(tinydevcrm.imports);
