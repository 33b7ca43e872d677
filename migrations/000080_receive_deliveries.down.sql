drop function tinydevcrm.reject_event(bigint, text, interval);
drop function tinydevcrm._compute_retry_delay(integer);
drop function tinydevcrm.acknowledge_events(bigint[]);
drop function tinydevcrm._receive_lines(text, integer, interval, integer);
drop function tinydevcrm.receive_events(text, integer, interval);
drop function tinydevcrm._receive_deliveries(bigint, integer, interval, integer, tid[]);
drop function tinydevcrm._find_newer_acknowledged(bigint, bigint, bigint);
