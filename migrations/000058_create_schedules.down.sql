drop trigger _200_restart_schedule on tinydevcrm.matviews;
drop function tinydevcrm._matviews_restart_schedule();
drop trigger _700_settle_watches_after_drop on tinydevcrm.matviews;
drop trigger _700_settle_watches on tinydevcrm.matviews;
drop function tinydevcrm._matviews_settle_watches();
drop function tinydevcrm._settle_watches(bigint);

alter table tinydevcrm.matviews
    drop column schedule_began_at,
    drop column catch_up,
    drop column is_paused,
    drop column schedule_id,
    drop column is_slow,
    drop column schedule;

drop function tinydevcrm._is_loop(tinydevcrm.schedules);
drop policy _locks_schedule on tinydevcrm._locks;
drop policy _locks_admin on tinydevcrm._locks;
revoke select, update (looked_snapshot) on tinydevcrm.change_watches from tinydevcrm_user;
drop policy change_watches_look on tinydevcrm.change_watches;
drop policy change_watches_owner on tinydevcrm.change_watches;
alter table tinydevcrm.change_watches drop constraint change_watches_schedule_fkey;
drop table tinydevcrm.schedules;
drop function tinydevcrm._schedules_create_lock();
delete from tinydevcrm._locks where what = 'schedule';
