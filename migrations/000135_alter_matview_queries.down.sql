drop function tinydevcrm.alter_matview_query(regclass, text);
drop function tinydevcrm._drop_replaced(regclass[]);
drop function tinydevcrm._rebuild_reader(tinydevcrm._built_on);
drop function tinydevcrm._create_copy(tinydevcrm._built_on);
drop function tinydevcrm._swap_matview(regclass, regclass);
drop function tinydevcrm._clear_names_and_grants(regclass, regclass);
