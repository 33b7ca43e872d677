drop function tinydevcrm._apply_settings(text[], text[]);
drop function tinydevcrm._plan_copy(regclass);
drop function tinydevcrm._list_settings(regclass);
drop function tinydevcrm._list_column_settings(regclass);
drop function tinydevcrm._list_grants(regclass);
drop function tinydevcrm._list_index_settings(regclass);
