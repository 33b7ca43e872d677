drop function tinydevcrm._preview_import_columns(bigint, integer[]);
drop function tinydevcrm.finish_import(bigint, integer[], bigint, bigint);
drop function tinydevcrm.widen_import(bigint, integer[], text[]);
drop function tinydevcrm.begin_import(
    text, text[], integer[], text, text, text[], jsonb, tinydevcrm.csv_dialect, name, text, jsonb);
drop function tinydevcrm._lock_import(bigint);
drop function tinydevcrm._build_import_step(tinydevcrm.imports, text);
drop type tinydevcrm.import_step;
