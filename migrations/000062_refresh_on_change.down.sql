drop procedure tinydevcrm.refresh_changed(double precision, boolean);
drop procedure tinydevcrm._refresh_stale(bigint, double precision);
drop function tinydevcrm._has_just_changed(bigint, interval);
drop function tinydevcrm._arm_watches(bigint);
drop function tinydevcrm._list_unarmed(bigint);
drop function tinydevcrm._list_unlooked(bigint);
drop function tinydevcrm._find_change_due(bigint);
drop function tinydevcrm._find_change_schedule();
