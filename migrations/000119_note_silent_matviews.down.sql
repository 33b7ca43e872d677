drop function tinydevcrm._note_silent();
