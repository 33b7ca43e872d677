drop event trigger tinydevcrm_follow_dropped_parts;
drop event trigger tinydevcrm_follow_commands;
drop function tinydevcrm._follow_dropped_parts();
drop function tinydevcrm._follow_commands();
drop function tinydevcrm._note_silent();
drop function tinydevcrm._track_partitions(oid[]);
drop function tinydevcrm._follow_relations(oid[]);
