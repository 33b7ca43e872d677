drop function tinydevcrm.check_definitions(jsonb);
drop function tinydevcrm._try_all(jsonb);
drop function tinydevcrm.apply_definitions(jsonb, boolean);
drop function tinydevcrm._note_managed(tinydevcrm._definition_change[]);
drop function tinydevcrm._define_all(tinydevcrm._definition_change[], name, boolean);
drop function tinydevcrm._list_steps(tinydevcrm._definition_change[], boolean);
