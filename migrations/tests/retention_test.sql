-- What retention removes, and what it keeps.

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
    'a full batch returns the last id, to continue after it');
select is(
    tinydevcrm._remove_expired_events((select ids[2] from before), 2), null,
    'the last batch returns null');
select is(pg_temp.ids(), (select ids from before), 'expired events with pending deliveries stay');

select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('retention test', 2);
select tinydevcrm._remove_expired_events(0, 100);

select is(
    pg_temp.ids(), (select ids[3:] from before),
    'expired events without pending deliveries are removed');

update tinydevcrm.matview_refresh_events
   set started_at = now() - interval '91 days'
 where id = (select ids[3] from before);
select tinydevcrm._remove_expired_events(0, 100);

select is(
    pg_temp.ids(), (select ids[4:] from before),
    'after delivery_retention also those with pending deliveries are removed');
select is(
    (select expired_count from tinydevcrm.subscription_status where subscription = 'retention test'),
    1::bigint, 'a delivery that was removed unacknowledged counts as expired');
select is(
    (select count(*)::integer
       from tinydevcrm.deliveries
       join tinydevcrm.subscriptions
         on subscriptions.id = subscription_id
      where name = 'retention test'),
    2, 'deliveries are removed with their events');

update tinydevcrm.settings
   set event_limit = 1;

select is(
    (select sum(tinydevcrm._remove_surplus_events(id, 100)) from tinydevcrm.matviews), 0::numeric,
    'surplus events with pending deliveries stay');
select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('retention test');
select is(
    (select sum(tinydevcrm._remove_surplus_events(id, 100)) from tinydevcrm.matviews), 1::numeric,
    'the oldest surplus events are removed');

-- Runs of pg_cron in the order of their start: a crash of the server cut off 2, 3 still runs, a crash has just
-- cut off 5. Other runs in the log, if any, are newer.
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
    'expired job runs are removed, and with them earlier ones without an end time');

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

-- Anyone can write any name, and an import that has not finished has put no rows into the table.
create role "Tap Forger" in role tinydevcrm_user;
insert into tinydevcrm.imports (owner, source, mode, schema_name, table_name, finished_at)
values ('"Tap Forger"'::regrole, 'forged', 'create', 'public', 'retention_there', now());
insert into tinydevcrm.imports (source, mode, schema_name, table_name)
values ('running', 'append', 'public', 'retention_there');

select is(tinydevcrm._remove_expired_imports(1), 1::bigint, 'expired imports are removed in batches');
select tinydevcrm._remove_expired_imports(100);
select is(
    array(select source from tinydevcrm.imports where table_name like 'retention%' order by id),
    array['retention_there2', 'young', 'forged', 'running'],
    'the last finished import of an existing table by its owner stays');

select is(
    (select command from cron.job where jobname = 'tinydevcrm retention'),
    'call tinydevcrm.remove_expired()', 'a pg_cron job calls remove_expired()');

select * from finish();

rollback;
