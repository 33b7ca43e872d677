drop function tinydevcrm._list_late_matviews();
drop function tinydevcrm._list_refreshing();
drop function tinydevcrm._is_late(tinydevcrm.schedules, timestamptz);
drop function tinydevcrm._compute_due_at(tinydevcrm.matviews, tinydevcrm.schedules);
drop function tinydevcrm._request_missed_refreshes();
drop function tinydevcrm.resume_matview(regclass);
drop function tinydevcrm.pause_matview(regclass);
drop function tinydevcrm.unschedule_matview(regclass);
drop function tinydevcrm.schedule_matview(regclass, text, text, boolean);
drop function tinydevcrm._assign_schedule(regclass, text, text, boolean);
drop function tinydevcrm.describe_schedule(text);
drop function tinydevcrm._describe_cron(
    integer[], integer[], integer[], integer[], integer[], boolean);
