drop procedure tinydevcrm.refresh_requested();
drop function tinydevcrm._find_requested_matview(bigint);
drop function tinydevcrm._record_ended_requests();
