drop function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh);
drop function tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh, text);
drop function tinydevcrm._advance_rule(tinydevcrm.matviews, tinydevcrm._refresh, text);
drop function tinydevcrm._cut_text(text);
drop trigger _500_remember on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_remember();

alter table tinydevcrm.matviews
    drop column blocked_since,
    drop column ended_count;
