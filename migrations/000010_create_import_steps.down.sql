drop function tinydevcrm._preview_columns(bigint, integer[]);
drop function tinydevcrm.finish_import(bigint, integer[], bigint, bigint);
drop function tinydevcrm.record_import_problems(bigint, bigint[], text[], text[]);
drop function tinydevcrm.widen_import(bigint, integer[]);
drop function tinydevcrm.begin_import(
    text, text[], integer[], text, text, text[], jsonb, tinydevcrm.csv_dialect, name, text);
drop function tinydevcrm._import_under_way(bigint);
drop function tinydevcrm._table_columns(tinydevcrm.imports, jsonb);
drop function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]);
drop function tinydevcrm._import_step(tinydevcrm.imports, text);
drop function tinydevcrm._create_loading_table(tinydevcrm.imports);
drop function tinydevcrm._loading_table(tinydevcrm.imports);
drop type tinydevcrm.import_step;
