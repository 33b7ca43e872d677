drop function tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh);
drop function tinydevcrm._compare_buckets(
    tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[]);
drop function tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh);
drop function tinydevcrm._unpack_places(bytea);
