-- The queue is what is pending, whatever one statement changes. Several sessions at once are a Go test.

begin;

select plan(20);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v1', 'select 1 as one', 'always');
select tinydevcrm.create_matview('v2', 'select 1 as one', 'always');
select tinydevcrm.create_webhook('hook', 'https://example.com/', digest => 'hourly');
select tinydevcrm.create_subscription('worker');

create function pg_temp.refresh_all()
    returns void
    language sql
as $$
    select tinydevcrm.refresh_matview(relation)
      from tinydevcrm.matviews
     order by id
$$;
-- What is pending, after it is seen to be the queue.
create function pg_temp.pending(name text)
    returns text
    language plpgsql
as $$
begin
    if exists (
        (
            select subscription_id, matview_id, event_id, row_number, id, owner
              from tinydevcrm.deliveries
             where state = 'pending'
            except all
            select subscription_id, matview_id, event_id, row_number, delivery_id, owner
              from tinydevcrm.pending_deliveries
        )
        union all
        (
            select subscription_id, matview_id, event_id, row_number, delivery_id, owner
              from tinydevcrm.pending_deliveries
            except all
            select subscription_id, matview_id, event_id, row_number, id, owner
              from tinydevcrm.deliveries
             where state = 'pending'
        )
    ) then
        return 'the queue differs';
    end if;

    return (
        select coalesce(string_agg(right(events.matview, 2), ' ' order by events.id), '')
          from tinydevcrm.pending_deliveries as queue
          join tinydevcrm.subscriptions on subscriptions.id = queue.subscription_id
          join tinydevcrm.matview_refresh_events as events on events.id = queue.event_id
         where subscriptions.name = pending.name
    );
end
$$;

select pg_temp.refresh_all();
select is(pg_temp.pending('worker'), 'v1 v2', 'new deliveries are in the queue');
update tinydevcrm.deliveries set state = case when id % 2 = 0 then 'acknowledged' else 'parked' end
 where subscription_id = (select id from tinydevcrm.subscriptions where name = 'worker');
select is(pg_temp.pending('worker'), '', 'those that end leave it');
update tinydevcrm.deliveries set is_redelivered = true, state = 'acknowledged';
select is(pg_temp.pending('worker'), 'v1 v2', 'those that are delivered again are back, each with its new number');
savepoint before;
update tinydevcrm.deliveries set state = 'acknowledged';
rollback to savepoint before;
select is(pg_temp.pending('worker'), 'v1 v2', 'what is undone changes nothing');
update tinydevcrm.deliveries set state = 'acknowledged';
update tinydevcrm.deliveries set state = 'pending', attempts = 3;
select is(pg_temp.pending('worker'), 'v1 v2', 'a user may set the state');

-- one that carries others

update tinydevcrm.deliveries set is_gathered = true
 where id = (
           select min(deliveries.id)
             from tinydevcrm.deliveries
             join tinydevcrm.subscriptions on subscriptions.id = deliveries.subscription_id
            where subscriptions.name = 'hook'
       );
create temporary view carrying as
select deliveries.id,
       deliveries.state,
       deliveries.leader_event_id = deliveries.event_id as leads
  from tinydevcrm.deliveries
 where leader_event_id is not null;
select results_eq(
    'select leads, state from carrying order by leads',
    $$ values (false, 'pending'::text), (true, 'pending') $$, 'one carries the other');
select is(pg_temp.pending('hook'), 'v1 v2', 'and both are in the queue');
update tinydevcrm.deliveries set state = 'acknowledged' where id = (select id from carrying where leads);
select is(pg_temp.pending('hook'), '', 'both leave it together');
update tinydevcrm.deliveries set state = case when id = (select id from carrying where leads) then 'pending' else 'acknowledged' end
 where id in (select id from carrying);
select is(pg_temp.pending('hook'), 'v1 v2', 'the state is that of the one that carries, whatever the statement says of the other');
update tinydevcrm.deliveries set state = 'acknowledged' where id = (select id from carrying where not leads);
select is(pg_temp.pending('hook'), 'v1', 'one of them ends alone');
-- The one that carries comes first: its trigger runs before that of the other.
update tinydevcrm.deliveries set state = case state when 'pending' then 'acknowledged' else 'pending' end
 where id in (select id from carrying);
select is(pg_temp.pending('hook'), '', 'and a statement that changes both both ways leaves neither');
select tinydevcrm.replay_events('hook', '-infinity');
select is(pg_temp.pending('hook'), 'v1 v2', 'a replay brings both back');

-- One that has ended carries nothing: what it carried would never be received.
savepoint before;
update tinydevcrm.deliveries set is_redelivered = true where leader_event_id is not null;
update tinydevcrm.deliveries set leader_event_id = null, visible_at = clock_timestamp();
update tinydevcrm.deliveries set is_gathered = true, state = 'acknowledged'
 where id = (
           select deliveries.id
             from tinydevcrm.deliveries
             join tinydevcrm.subscriptions on subscriptions.id = deliveries.subscription_id
            where subscriptions.name = 'hook'
            order by deliveries.event_id
            limit 1
       );
select is_empty(
    $$ select from tinydevcrm.deliveries where state = 'pending' and visible_at = 'infinity' $$,
    'one that ends and gathers in one statement carries nothing');
rollback to savepoint before;

-- several changes in one statement

update tinydevcrm.deliveries set is_gathered = true, is_redelivered = true where id in (select id from carrying where leads);
select results_eq(
    'select leads, state from carrying order by leads',
    $$ values (false, 'pending'::text), (true, 'pending') $$, 'one that gathers and is delivered again carries the other');
savepoint grouped;
update tinydevcrm.deliveries set state = 'acknowledged', is_redelivered = true where id in (select id from carrying where leads);
select is(pg_temp.pending('hook'), 'v1 v2', 'one is delivered again with what it carries, whatever state the statement gives it');
rollback to savepoint grouped;
update tinydevcrm.deliveries set is_gathered = true where id in (select id from carrying where not leads);
select results_eq(
    'select leads, state from carrying order by leads',
    $$ values (false, 'pending'::text), (true, 'pending') $$, 'one that is carried gathers nothing');
update tinydevcrm.deliveries set state = 'acknowledged' where id in (select id from carrying where leads);
update tinydevcrm.deliveries set state = 'pending' where leader_event_id <> event_id;
select is(pg_temp.pending('hook'), 'v2', 'what was carried is pending alone when the state says so');
select is_empty(
    $$ select from tinydevcrm.deliveries where state = 'pending' and visible_at = 'infinity' $$, 'and is received');
rollback to savepoint before;

-- what is removed

select tinydevcrm.drop_subscription('hook');
select is(pg_temp.pending('worker'), 'v1 v2', 'a subscription takes its deliveries with it');
delete from tinydevcrm.matview_refresh_events;
select is(pg_temp.pending('worker'), '', 'and so does an event');

select * from finish();

rollback;
