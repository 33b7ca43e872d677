drop function tinydevcrm._list_event_deliveries(bigint);
drop function tinydevcrm._find_neighbours(bigint);
