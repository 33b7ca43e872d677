drop function tinydevcrm._keep_written(regclass, text);
drop function tinydevcrm._trim_query(text);
drop trigger _100_note_written on tinydevcrm.matview_definitions;
drop function tinydevcrm._matview_definitions_note_written();

alter table tinydevcrm.matview_definitions
    drop constraint matview_definitions_written_short,
    drop column written_for,
    drop column written;
