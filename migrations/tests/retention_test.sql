-- What expires, and what stays.

begin;

select plan(13);

select tinydevcrm.create_matview('retention_test', 'select 1 as one');
select tinydevcrm.create_subscription('retention test');
select tinydevcrm.refresh_matview('retention_test')
  from generate_series(1, 5);

update tinydevcrm.matview_refresh_events
   set started_at = now() - interval '31 days'
 where id in (
     select id
       from tinydevcrm.matview_refresh_events
      where matview = 'public.retention_test'
      order by id
      limit 3
 );

create function pg_temp.ids()
    returns bigint[]
    language sql
as $$
    select array(
        select id
          from tinydevcrm.matview_refresh_events
         where matview = 'public.retention_test'
         order by id)
$$;

create temporary table before as
select pg_temp.ids() as ids;

select is(
    tinydevcrm._remove_expired_events(0, 2), (select ids[2] from before),
    'a batch has the size asked for, and says where to go on');
select is(tinydevcrm._remove_expired_events((select ids[2] from before), 2), null, 'the last one says that it is');
select is(pg_temp.ids(), (select ids from before), 'what a subscription waits for stays beyond its time');

select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('retention test', 2);
select tinydevcrm._remove_expired_events(0, 100);

select is(pg_temp.ids(), (select ids[3:] from before), 'what has been delivered goes');

update tinydevcrm.matview_refresh_events
   set started_at = now() - interval '91 days'
 where id = (select ids[3] from before);
select tinydevcrm._remove_expired_events(0, 100);

select is(pg_temp.ids(), (select ids[4:] from before), 'and what nobody took in three months');
select is(
    (select expired_count from tinydevcrm.subscription_status where subscription = 'retention test'),
    1::bigint, 'which is counted');
select is(
    (select count(*)::integer
       from tinydevcrm.deliveries
       join tinydevcrm.subscriptions
         on subscriptions.id = subscription_id
      where name = 'retention test'),
    2, 'deliveries go with their events');

update tinydevcrm.settings
   set event_limit = 1;

select is((select sum(tinydevcrm._remove_surplus_events(id, 100)) from tinydevcrm.matviews), 0::numeric, 'nor goes by number what is waited for');
select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('retention test');
select is((select sum(tinydevcrm._remove_surplus_events(id, 100)) from tinydevcrm.matviews), 1::numeric, 'then the oldest of too many do');

-- Runs of pg_cron, begun one after the other: 2 was cut off by a crash of the server, 3 goes on ever since,
-- 5 was cut off just now. The rest of the log, if any, is newer.
insert into cron.job_run_details (runid, command, status, start_time, end_time)
select -10 + n, 'call tinydevcrm.refresh_scheduled(1)', status, began_at, ended_at
  from (values
      (1, 'succeeded', now() - interval '8 days', now() - interval '8 days'),
      (2, 'connecting', null, null),
      (3, 'running', now() - interval '8 days', null),
      (4, 'failed', now() - interval '8 days', now() - interval '8 days'),
      (5, 'failed', now(), null),
      (6, 'succeeded', now(), now())) as runs (n, status, began_at, ended_at);
select tinydevcrm._remove_expired_job_runs(100);

select is(
    array(select runid::integer + 10 from cron.job_run_details where runid < 0 order by runid), array[3, 5, 6],
    'job runs go when they have expired, and with them those that a crash had cut off before');

create table retention_there (a integer);
insert into tinydevcrm.imports (source, mode, schema_name, table_name, started_at, finished_at)
select table_name || n, 'create', 'public', table_name, now() - age, now() - age
  from generate_series(1, 2) as n
 cross join (values
     ('retention_there', interval '91 days'),
     ('retention_gone', interval '91 days')) as made (table_name, age)
 order by n;
insert into tinydevcrm.imports (source, mode, schema_name, table_name, finished_at)
values ('young', 'create', 'public', 'retention_gone', now());

select is(tinydevcrm._remove_expired_imports(1), 1::bigint, 'so do imports, a batch at a time');
select tinydevcrm._remove_expired_imports(100);
select is(
    array(select source from tinydevcrm.imports where table_name like 'retention%' order by id),
    array['retention_there2', 'young'], 'but for the last one of a table that is there');

select is(
    (select command from cron.job where jobname = 'tinydevcrm retention'),
    'call tinydevcrm.remove_expired()', 'a job of pg_cron does it');

select * from finish();

rollback;
