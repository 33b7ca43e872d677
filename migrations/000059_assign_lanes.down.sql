drop function tinydevcrm._find_round_grace(integer, text);
drop function tinydevcrm._assign_lane(bigint, interval);
drop function tinydevcrm._make_slow(bigint);
drop function tinydevcrm._reads_slow_matview(bigint, text, text);
drop function tinydevcrm._find_last_look(tinydevcrm.matviews);
