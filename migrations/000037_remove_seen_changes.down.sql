drop function tinydevcrm._remove_seen_changes();
drop function tinydevcrm._forget_other_server();
drop table tinydevcrm._change_horizon;
