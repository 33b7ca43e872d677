drop procedure tinydevcrm.refresh_requested();
drop function tinydevcrm._find_requested_matview(bigint);
drop function tinydevcrm.refresh_matview(regclass);
drop function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean);
drop function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh);
drop function tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh);
drop function tinydevcrm._read_rows(regclass, tinydevcrm._refresh);
drop function tinydevcrm._begin_refresh(tinydevcrm.matviews);
drop function tinydevcrm._cut_text(text);
drop trigger _500_remember on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_remember();
drop function tinydevcrm._request_refresh(tinydevcrm.matviews);
drop table tinydevcrm.refresh_requests;
