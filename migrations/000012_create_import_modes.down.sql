drop function tinydevcrm._clear_target(tinydevcrm.imports, jsonb);
drop function tinydevcrm._what_would_go(regclass);
drop function tinydevcrm._on_conflict(tinydevcrm.imports);
drop function tinydevcrm._place_rows(tinydevcrm.imports, jsonb);
drop function tinydevcrm._refuse_values(tinydevcrm.imports, text);
drop function tinydevcrm._misfits(tinydevcrm.imports, jsonb);
drop function tinydevcrm._would_change(tinydevcrm.imports, jsonb);
