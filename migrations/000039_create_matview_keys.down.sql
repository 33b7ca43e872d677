drop function tinydevcrm._restore_key(tinydevcrm.matviews);
drop function tinydevcrm._refresh_concurrently(tinydevcrm.matviews);
drop function tinydevcrm._drop_key_index(tinydevcrm.matviews);
drop function tinydevcrm._key_index(tinydevcrm.matviews);
drop function tinydevcrm._build_key_index_statement(regclass, text[]);
drop function tinydevcrm._set_key(regclass, text[]);
