-- What expires, and what stays.

begin;

select plan(5);

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

select is(tinydevcrm._remove_expired_events(2), 2::bigint, 'a batch has the size asked for');
select is(tinydevcrm._remove_expired_events(2), 1::bigint, 'the last one is smaller');
select is(
    (select count(*)::integer from tinydevcrm.matview_refresh_events where matview = 'public.retention_test'),
    2, 'what is younger stays');
select is(
    (select count(*)::integer
       from tinydevcrm.deliveries
       join tinydevcrm.subscriptions
         on subscriptions.id = subscription_id
      where name = 'retention test'),
    2, 'deliveries go with their events');
select is(
    (select command from cron.job where jobname = 'tinydevcrm retention'),
    'call tinydevcrm.remove_expired()', 'a job of pg_cron does it');

select * from finish();

rollback;
