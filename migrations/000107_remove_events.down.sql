drop function tinydevcrm._remove_surplus_events(bigint, integer);
drop function tinydevcrm._list_surplus_matviews();
drop function tinydevcrm._remove_expired_events(bigint, integer);
drop function tinydevcrm._remove_events(bigint[]);
