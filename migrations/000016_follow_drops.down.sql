drop event trigger tinydevcrm_follow_drops;
drop function tinydevcrm._follow_drops();
