drop function tinydevcrm._list_preview_notes(tinydevcrm.imports, jsonb);
drop function tinydevcrm._check_reading(tinydevcrm.imports, jsonb);
drop function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]);
