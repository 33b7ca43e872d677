-- A trigger removes the job of each schedule that this drops.
update tinydevcrm.matviews
   set schedule = null;

drop trigger _100_end_pause on tinydevcrm.matviews;
drop function tinydevcrm._matviews_end_pause();

drop trigger _100_find_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_find_schedule();
drop function tinydevcrm._catches_up(text, integer);
drop function tinydevcrm._find_or_create_schedule(regrole, text, integer, text, boolean);

drop trigger _900_drop_unused_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_drop_unused_schedule();

drop trigger _900_drop_job on tinydevcrm.schedules;
drop function tinydevcrm._schedules_drop_job();
drop trigger _500_create_job on tinydevcrm.schedules;
drop function tinydevcrm._schedules_create_job();
drop function tinydevcrm._create_job(regrole, text, text, text);
drop function tinydevcrm._describe_job(tinydevcrm.schedules);
