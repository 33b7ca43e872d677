drop function tinydevcrm._refuse_values(tinydevcrm.imports, text);
drop function tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb);
drop function tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb);
