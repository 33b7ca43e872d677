select tinydevcrm._drop_event_trigger('tinydevcrm_follow_dropped_parts');
select tinydevcrm._drop_event_trigger('tinydevcrm_follow_commands');
drop function tinydevcrm._follow_dropped_parts();
drop function tinydevcrm._follow_commands();
drop function tinydevcrm._settle_definitions();
drop function tinydevcrm._keep_triggers_always(oid[]);
drop function tinydevcrm._track_partitions(oid[]);
drop function tinydevcrm._follow_definitions(oid[], oid[]);
drop function tinydevcrm._follow_relations(oid[]);
