drop trigger _100_note_renamed on tinydevcrm.imports;
drop function tinydevcrm._imports_note_renamed();
select tinydevcrm._drop_event_trigger('tinydevcrm_follow_owners');
drop function tinydevcrm._follow_owners();
drop function tinydevcrm._settle_owners(oid[]);
select tinydevcrm._drop_event_trigger('tinydevcrm_follow_drops');
drop function tinydevcrm._follow_drops();
drop function tinydevcrm._record_drop(tinydevcrm.matviews, text, text, text);
