drop function tinydevcrm._list_imports(text, bigint, integer, integer);
drop function tinydevcrm._describe_table(text[], name[]);
drop function tinydevcrm._list_tables(text, text, boolean, integer, integer);
drop function tinydevcrm._size_of(regclass);
drop view tinydevcrm.imported_tables;
