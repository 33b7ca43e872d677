drop function tinydevcrm._list_late_matviews();
drop function tinydevcrm._list_refreshing();
drop function tinydevcrm._is_late(tinydevcrm.schedules, timestamptz);
drop function tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules);
drop function tinydevcrm._request_missed_refreshes();
