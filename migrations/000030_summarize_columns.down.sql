drop function tinydevcrm._summarize_columns(regclass, bigint);
drop function tinydevcrm._summarize_column(regclass, text, oid, bigint, boolean);
