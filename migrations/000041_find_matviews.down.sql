drop function tinydevcrm._find_matview(text[], name[]);
drop function tinydevcrm.accept_tables(regclass);
drop function tinydevcrm._find_unused_name(text, name);
drop function tinydevcrm._list_read_relations(regclass, "char"[]);
