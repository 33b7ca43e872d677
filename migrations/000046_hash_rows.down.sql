drop function tinydevcrm._list_columns(regclass);
drop function tinydevcrm._count_buckets(bigint, bigint);
drop function tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh);
drop function tinydevcrm._build_row_hash(regclass, text[], integer);
