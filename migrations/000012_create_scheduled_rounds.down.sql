drop procedure tinydevcrm.refresh_scheduled(bigint);
drop function tinydevcrm._mark_scheduled(bigint, timestamptz);
drop function tinydevcrm._refresh_by_schedule(tinydevcrm.matviews);
drop function tinydevcrm._next_step(bigint, timestamptz);

alter table tinydevcrm.matviews
    drop column last_scheduled_at;
