drop trigger _200_restart_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_restart_schedule();

alter table tinydevcrm.matviews
    drop column is_paused,
    drop column schedule_id,
    drop column is_slow,
    drop column schedule;

drop function tinydevcrm._is_loop(tinydevcrm.schedules);
drop policy _locks_schedule on tinydevcrm._locks;
drop table tinydevcrm.schedules;
drop function tinydevcrm._schedules_create_lock();
delete from tinydevcrm._locks where what = 'schedule';
