drop function tinydevcrm._drop_table(regclass, boolean);
drop function tinydevcrm._rename_table(regclass, text);
drop function tinydevcrm._list_dropped_with(regclass);
drop function tinydevcrm._list_cascaded(regclass);
