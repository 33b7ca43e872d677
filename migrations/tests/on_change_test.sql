-- Schedules on change: see create_change_tracking, track_matviews and create_scheduled_rounds.
begin;

select plan(26);

create table orders (n integer);
create table "Odd ones" (n integer);
create materialized view of_orders as select * from orders;
create materialized view of_both as select orders.n from orders join "Odd ones" using (n);
create materialized view of_clock as select now() as at;

do $$ begin
    perform tinydevcrm.watch_matview(name::regclass)
       from unnest(array['of_orders', 'of_both', 'of_clock']) as name;
end $$;

create function watches() returns text language sql as $$
    select coalesce(string_agg(relation::text, ', ' order by relation::text), '')
      from tinydevcrm.change_watches
$$;

create function due(view regclass) returns text language sql as $$
    select case
               when tinydevcrm._compute_change_due(matviews) is null then 'fresh'
               when tinydevcrm._compute_change_due(matviews) <= clock_timestamp() then 'due'
               else 'later'
           end
      from tinydevcrm.matviews
     where relation = due.view
$$;

-- As if the last refresh of a view had begun so long ago, and had read what there is now.
create function refreshed(view regclass, ago interval) returns void language sql as $$
    update tinydevcrm.matviews
       set seen_snapshot = tinydevcrm._current_snapshot(),
           tried_snapshot = tinydevcrm._current_snapshot(),
           last_refreshed_at = clock_timestamp() - refreshed.ago,
           last_scheduled_at = clock_timestamp() - refreshed.ago
     where relation = refreshed.view;
    -- A transaction never sees its own changes in a snapshot, so they are taken away.
    delete from tinydevcrm.table_changes
$$;

select is((tinydevcrm._parse_schedule('When  it CHANGES')).schedule, 'on change', 'in words');
select throws_ok(
    $$ select tinydevcrm._parse_schedule('on change UTC') $$, 'TD003', null, 'it has no time zone');
select is(
    (select words || cardinality(next_due_at) from tinydevcrm.describe_schedule('on change')),
    'when a table that it reads has changed0', 'and no next time');
select throws_like(
    $$ select tinydevcrm.schedule_matview('of_clock', 'on change') $$,
    '%of_clock cannot be refreshed on change: it calls now()%', 'a view that is not tracked says why');

select results_eq(
    $$ select schedule, time_zone, catch_up, seconds, is_slow, outcome
         from tinydevcrm.schedule_matview('of_orders', 'on change') $$,
    $$ values ('on change', null::text, false, null::integer, false, 'refreshed') $$,
    'it is refreshed when it is scheduled');
select is(
    (select concat_ws(': ', replace(jobname::text, schedules.id::text, 'N'), job.schedule, command)
       from cron.job
       join tinydevcrm.schedules on job_id = jobid),
    'tinydevcrm schedule N: * * * * *: call tinydevcrm.refresh_changed(is_job => true)',
    'its job runs each minute, in case nobody is notified');
select is(watches(), 'orders', 'what it reads is watched');

select tinydevcrm.schedule_matview('of_both', 'on change');
select is(watches(), '"Odd ones", orders', 'and so is what another reads');
select is((select count(*)::integer from tinydevcrm.schedules), 1, 'by the same schedule');
update tinydevcrm.matviews set is_slow = true where relation = 'of_both'::regclass;
select is((select count(*)::integer from tinydevcrm.schedules), 1, 'which has no job for slow views');
select tinydevcrm.untrack_table('"Odd ones"');
update tinydevcrm.matviews set is_paused = true where relation = 'of_both'::regclass;
select is(
    (select schedule from tinydevcrm.matviews where relation = 'of_both'::regclass), 'on change',
    'a view that is not tracked any more keeps its schedule');
select tinydevcrm.unschedule_matview('of_both');
select is(watches(), 'orders', 'without a schedule, what only it reads is not watched');
select tinydevcrm.schedule_matview('of_orders', '1 minute');
select is(watches(), '', 'nor by the clock');
select tinydevcrm.schedule_matview('of_orders', 'on change');
drop materialized view of_both;
create table more (n integer);
alter table more inherit orders;
select is(watches(), 'more, orders', 'what becomes a part of it is watched');
alter table more no inherit orders;
select is(watches(), 'orders', 'until it is none');

select refreshed('of_orders', '1 hour');
select is(due('of_orders'), 'fresh', 'without a change nothing is due');
insert into orders values (1);
select is(due('of_orders'), 'due', 'a change is due at once');
select refreshed('of_orders', '500 ms');
insert into orders values (2);
select is(due('of_orders'), 'later', 'but not within a second of the last refresh');
update tinydevcrm.matviews set refresh_interval = '300 ms';
select is(due('of_orders'), 'due', 'unless the interval is shorter');
select throws_ok(
    $$ update tinydevcrm.matviews set refresh_interval = '0' $$, '23514', null, 'which has a limit');

-- As after a refresh that failed, or could not notify.
select refreshed('of_orders', '30 seconds');
update tinydevcrm.matviews set seen_snapshot = null where relation = 'of_orders'::regclass;
select is(due('of_orders'), 'later', 'after a failure it waits');
insert into orders values (3);
select is(due('of_orders'), 'due', 'for a change');
select refreshed('of_orders', '1 minute');
update tinydevcrm.matviews set seen_snapshot = null where relation = 'of_orders'::regclass;
select is(due('of_orders'), 'due', 'or for a minute');
select refreshed('of_orders', '2 seconds');
update tinydevcrm.matviews
   set seen_snapshot = null,
       blocked_since = last_refreshed_at - interval '1 second'
 where relation = 'of_orders'::regclass;
select is(due('of_orders'), 'due', 'when it was blocked, as long as it has been');

update tinydevcrm.matviews set notify_when = 'always' where relation = 'of_orders'::regclass;
select refreshed('of_orders', '1 hour');
select is(
    (select tinydevcrm._needs_refresh(matviews) from tinydevcrm.matviews where relation = 'of_orders'::regclass),
    false, 'the rule always does not refresh without a change');

update cron.job set schedule = '1 second' where command like '%refresh_changed%';
update tinydevcrm.matviews set last_scheduled_at = now() - interval '1 hour';
call tinydevcrm.settle_jobs();
select is(
    (select array_agg(schedule) from cron.job where command like '%refresh_changed%'), array['* * * * *'],
    'upkeep lets a job rest that has nothing to do');

select * from finish();

rollback;
