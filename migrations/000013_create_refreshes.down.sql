drop function tinydevcrm.refresh_matview(regclass);
drop function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint);
drop function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text);
drop function tinydevcrm._read_rows(regclass, text, integer, integer);
drop function tinydevcrm._is_worth_telling(text, text, text, bigint);
drop function tinydevcrm._begin_refresh(tinydevcrm.matviews);
