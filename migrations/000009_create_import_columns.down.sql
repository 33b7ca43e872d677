drop function tinydevcrm._comes_back(tinydevcrm.imports, text);
drop function tinydevcrm._checked_type(text);
drop function tinydevcrm._plan_columns(text[], integer[], jsonb);
drop function tinydevcrm._stored_as(integer);
