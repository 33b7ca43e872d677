drop function tinydevcrm._cut_rows(jsonb, integer);
drop function tinydevcrm._carry_rows(text[], integer);
drop function tinydevcrm._read_added_rows(
    regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]);
drop function tinydevcrm._list_changes(bigint[], text[], text[], boolean, integer, integer);
drop function tinydevcrm._print_key(text, text[]);
drop function tinydevcrm._list_columns(regclass);
drop function tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh);
drop function tinydevcrm._compare_buckets(
    tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[]);
drop function tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh);
drop function tinydevcrm._unpack_places(bytea);
drop function tinydevcrm._count_buckets(bigint, bigint);
drop function tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh);
drop function tinydevcrm._build_row_hash(regclass, text[], integer);
drop function tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text);
drop function tinydevcrm._rule_holds(tinydevcrm.matviews, tinydevcrm._refresh);
drop type tinydevcrm._refresh;
drop trigger _500_forget_baseline on tinydevcrm.matviews;
drop function tinydevcrm._matviews_forget_baseline();
drop table tinydevcrm.matview_baselines;
drop function tinydevcrm._matview_baselines_remove_gone();
