drop function tinydevcrm.drop_user(text, text);
drop function tinydevcrm._end_sessions(regrole);
drop function tinydevcrm._check_droppable(regrole, regrole);
