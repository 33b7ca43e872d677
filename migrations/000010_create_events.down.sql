drop function tinydevcrm.refresh_matview(regclass);
drop function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint);
drop function tinydevcrm._restore_key(tinydevcrm.matviews);
drop function tinydevcrm._refresh_concurrently(tinydevcrm.matviews);
drop function tinydevcrm._drop_key_index(tinydevcrm.matviews);
drop function tinydevcrm._key_index(tinydevcrm.matviews);
drop function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text);
drop function tinydevcrm._lock_matview(bigint);
drop function tinydevcrm._count_rows(regclass);
drop function tinydevcrm._is_worth_telling(text, text, text, bigint);
drop function tinydevcrm._refresh_method(regclass);
drop table tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_notify();
