drop function tinydevcrm._read_table_columns(tinydevcrm.imports, jsonb);
drop function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]);
drop function tinydevcrm._fits_double(tinydevcrm.imports, text);
drop function tinydevcrm._plan_columns(text[], integer[], jsonb);
drop function tinydevcrm._check_type(text);
drop function tinydevcrm._find_storage_type(integer);
