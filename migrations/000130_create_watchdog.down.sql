drop function tinydevcrm._end_blocking_sessions(double precision);
