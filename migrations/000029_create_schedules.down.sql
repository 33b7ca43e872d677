-- The jobs go with their schedules, by the trigger.
update tinydevcrm.matviews
   set schedule_id = null;

drop function tinydevcrm.resume_matview(regclass);
drop function tinydevcrm.pause_matview(regclass);
drop function tinydevcrm.unschedule_matview(regclass);
drop function tinydevcrm.schedule_matview(regclass, text);
drop function tinydevcrm._assign_schedule(regclass, text);
drop function tinydevcrm._schedule_of(regrole, text, integer, text, boolean);

drop trigger _900_drop_unused_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_drop_unused_schedule();

alter table tinydevcrm.matviews
    drop column is_paused,
    drop column schedule_id;

drop function tinydevcrm._create_job(tinydevcrm.schedules);
drop table tinydevcrm.schedules;
drop function tinydevcrm._schedules_drop_job();
drop function tinydevcrm._schedules_create_job();
