drop function tinydevcrm.refresh_matview(regclass);
drop function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint);
drop function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh);
drop function tinydevcrm._read_rows(regclass, tinydevcrm._refresh);
drop function tinydevcrm._begin_refresh(tinydevcrm.matviews);
