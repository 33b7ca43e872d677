drop function tinydevcrm.restore_matview(text);
drop function tinydevcrm._find_dropped(text);
drop trigger _200_take_number on tinydevcrm.matviews;
drop function tinydevcrm._matviews_take_number();
