drop function tinydevcrm._check_reading(tinydevcrm.imports, jsonb);
drop function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]);
