drop function tinydevcrm._current_snapshot();
drop function tinydevcrm._is_stale(tinydevcrm.matviews);
drop function tinydevcrm._has_changed_since(bigint, text);
