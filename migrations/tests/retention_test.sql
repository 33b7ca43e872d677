-- What expires, and what stays.

begin;

select plan(10);

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

select is(tinydevcrm._remove_surplus_events(100), 0::bigint, 'nor goes by number what is waited for');
select tinydevcrm.acknowledge_events(array_agg(delivery_id))
  from tinydevcrm.receive_events('retention test');
select is(tinydevcrm._remove_surplus_events(100), 1::bigint, 'then the oldest of too many do');

select is(
    (select command from cron.job where jobname = 'tinydevcrm retention'),
    'call tinydevcrm.remove_expired()', 'a job of pg_cron does it');

select * from finish();

rollback;
