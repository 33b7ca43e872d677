drop function tinydevcrm._refuse_value(tinydevcrm.imports, text, text, bigint, text);
drop function tinydevcrm._find_row(tinydevcrm.imports, text);
drop function tinydevcrm._find_unfit_row(text, text);
drop function tinydevcrm._list_forms(text, text, text[]);
drop function tinydevcrm._create_loading_table(tinydevcrm.imports);
drop function tinydevcrm._find_loading_table(tinydevcrm.imports);
drop function tinydevcrm._check_target(tinydevcrm.imports);
drop function tinydevcrm._refuse_name_in_use(text);
drop function tinydevcrm._check_table_name(text);
