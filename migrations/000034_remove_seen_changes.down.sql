drop function tinydevcrm._remove_seen_changes();
drop table tinydevcrm._change_horizon;
