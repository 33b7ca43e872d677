drop function tinydevcrm._find_due_matview(bigint, bigint[], timestamptz);
drop function tinydevcrm._plan_round(bigint[], timestamptz);
drop function tinydevcrm._list_early(bigint[]);
drop function tinydevcrm._move_mark(bigint, bigint[], integer, boolean);
drop function tinydevcrm._record_ended_rounds(bigint[]);
drop function tinydevcrm._needs_refresh(tinydevcrm.matviews);
drop function tinydevcrm._compute_change_due(tinydevcrm.matviews);
