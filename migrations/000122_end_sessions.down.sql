drop function tinydevcrm._cancel_overdue_refreshes();
drop function tinydevcrm._end_locked_sessions();
