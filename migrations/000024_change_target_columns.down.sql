drop function tinydevcrm._change_columns(tinydevcrm.imports, text);
drop function tinydevcrm._comment_columns(tinydevcrm.imports);
drop function tinydevcrm._adopt_types(tinydevcrm.imports, jsonb);
drop function tinydevcrm._widen_columns(tinydevcrm.imports, jsonb);
drop function tinydevcrm._find_wider_type(text, text);
drop function tinydevcrm._add_columns(tinydevcrm.imports, jsonb);
