drop function tinydevcrm.resume_matview(regclass);
drop function tinydevcrm.pause_matview(regclass);
drop function tinydevcrm.unschedule_matview(regclass);
drop function tinydevcrm.schedule_matview(regclass, text, text, boolean);
drop function tinydevcrm._assign_schedule(regclass, text, text, boolean);
