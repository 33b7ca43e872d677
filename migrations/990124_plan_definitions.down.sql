drop function tinydevcrm.plan_definitions(jsonb, boolean, name, jsonb);
drop function tinydevcrm._show_old(tinydevcrm._definition_change);
drop function tinydevcrm._show_secret(jsonb, jsonb, jsonb, jsonb);
drop function tinydevcrm._compare_definitions(jsonb, boolean, name, jsonb);
drop function tinydevcrm._find_action(text, jsonb, jsonb);
drop function tinydevcrm._read_wanted(jsonb, name);
drop function tinydevcrm._normalize_definition(jsonb, name);
drop function tinydevcrm._raise_of(text, text, text, text, text, text);
drop type tinydevcrm._definition_change;
