drop function tinydevcrm._stand_in(tinydevcrm._definition_change);
drop function tinydevcrm._make_stand_in(tinydevcrm._definition_change, text, regclass);
drop function tinydevcrm._move_to_stand_in(regclass, regclass);
drop function tinydevcrm._list_null_columns(regclass);
