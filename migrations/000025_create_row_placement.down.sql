drop function tinydevcrm._analyze_target(tinydevcrm.imports);
drop function tinydevcrm._place_rows(tinydevcrm.imports, jsonb);
drop function tinydevcrm._clear_target(tinydevcrm.imports, jsonb);
drop function tinydevcrm._recreate_target(tinydevcrm.imports, text);
drop function tinydevcrm._plan_replacement(tinydevcrm.imports, jsonb);
drop function tinydevcrm._list_lost_properties(regclass);
