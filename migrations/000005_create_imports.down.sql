drop function tinydevcrm.import_staging(regclass, text, text, name);
drop function tinydevcrm.finish_import(bigint, bigint);
drop function tinydevcrm.begin_import(text, bytea, text, text, name);
drop function tinydevcrm._check_target(name, text, text);
drop function tinydevcrm._load_staging(tinydevcrm.imports, regclass, text[]);
drop function tinydevcrm._make_room(tinydevcrm.imports, jsonb);
drop function tinydevcrm._choose_types(regclass);
drop table tinydevcrm.imports;
