drop function tinydevcrm._list_imports(text, bigint, integer, integer);
drop function tinydevcrm._drop_table(regclass, boolean);
drop function tinydevcrm._rename_table(regclass, text);
drop function tinydevcrm._list_dropped_with(regclass);
drop function tinydevcrm._list_cascaded(regclass);
drop function tinydevcrm._describe_table(text[], name[]);
drop function tinydevcrm._search(text, integer);
drop function tinydevcrm._list_tables(text, text, boolean, integer, integer);
drop function tinydevcrm._size_of(regclass);
