drop function tinydevcrm._list_bad_conditions(tinydevcrm.imports);
drop function tinydevcrm._find_odd_numbers(tinydevcrm.imports, text, text);
drop function tinydevcrm._keeps_value(text, text, text);
drop function tinydevcrm._refuse_values(tinydevcrm.imports, jsonb, text);
drop function tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb);
drop function tinydevcrm._find_odd_values(tinydevcrm.imports, text, text);
drop function tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb);
