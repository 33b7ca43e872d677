drop function tinydevcrm._note_late(interval);
drop function tinydevcrm._note_late_of(regrole);
