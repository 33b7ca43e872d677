drop function tinydevcrm.refresh_matview(regclass);
drop function tinydevcrm._refresh_matview(
    tinydevcrm.matviews, bigint, boolean, interval, boolean);
drop function tinydevcrm._read_rows(regclass, tinydevcrm._refresh);
drop function tinydevcrm._begin_refresh(tinydevcrm.matviews);
