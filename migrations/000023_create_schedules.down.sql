-- The jobs go with their schedules, by the trigger.
update tinydevcrm.matviews
   set schedule = null;

drop function tinydevcrm.resume_matview(regclass);
drop function tinydevcrm.pause_matview(regclass);
drop function tinydevcrm.unschedule_matview(regclass);
drop function tinydevcrm.schedule_matview(regclass, text);
drop function tinydevcrm._assign_schedule(regclass, text);

drop trigger _100_find_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_find_schedule();
drop function tinydevcrm._schedule_of(regrole, text, integer, text, boolean);

drop trigger _900_drop_unused_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_drop_unused_schedule();

alter table tinydevcrm.matviews
    drop column is_paused,
    drop column schedule_id,
    drop column is_slow,
    drop column schedule;

drop function tinydevcrm._job_of(tinydevcrm.schedules);
drop function tinydevcrm._is_loop(tinydevcrm.schedules);
drop policy _locks_schedule on tinydevcrm._locks;
drop table tinydevcrm.schedules;
delete from tinydevcrm._locks where what = 'schedule';
drop function tinydevcrm._schedules_drop_job();
drop function tinydevcrm._schedules_create_job();
drop function tinydevcrm._schedules_create_lock();
drop function tinydevcrm._create_job(regrole, text, text, text);
