-- Posts that carry several deliveries, and rows apart, in one subscription: its audience changes while deliveries wait.

begin;

select plan(27);

create schema "My Data";
set local search_path = "My Data", public;

create table orders (id integer primary key, owner_email text, manager text);
create table divisors as select 1 as divisor;
select tinydevcrm.create_matview(
    'late', 'select id, owner_email, manager, 1 / divisor as one from orders, divisors', notify_when => 'never', key => '{id}');
-- So that each refresh compares, whichever of the others there are.
select tinydevcrm.create_subscription('worker', 'late', notify_when => 'changed');
select tinydevcrm.refresh_matview('late');
select tinydevcrm._note_mail_server('smtp.example.com:587');

create function pg_temp.sub(name text)
    returns bigint
    language sql
as $$
    select id
      from tinydevcrm.subscriptions
     where subscriptions.name = sub.name
$$;

-- What a program receives: to whom, and the ids of the rows, those of each event of a message in brackets.
create function pg_temp.receive(name text)
    returns table (delivery_id bigint, message_id text, recipients text, ids text, body json)
    language sql
as $$
    select posts.delivery_id,
           posts.message_id,
           (select string_agg(value ->> 'address', ' ')
              from jsonb_array_elements(coalesce(posts.body::jsonb -> 'recipients', '[]'))),
           coalesce(
               (select string_agg(value ->> 'id', ',' order by value ->> 'id')
                  from jsonb_array_elements(nullif(posts.body::jsonb #> '{event,rows}', 'null'))),
               (select string_agg(format('[%s]', value #>> '{rows,0,id}'), ' ' order by number)
                  from jsonb_array_elements(
                           coalesce(posts.body::jsonb -> 'events', posts.body::jsonb #> '{data,events}'))
                       with ordinality as events (event, number)
                 cross join lateral (select coalesce(events.event -> 'event', events.event) as value) as read),
               ''),
           posts.body
      from tinydevcrm._receive_posts(pg_temp.sub(receive.name), 100, '1 minute', 100) as posts
$$;
create function pg_temp.accept(name text, ids bigint[])
    returns void
    language sql
as $$
    select tinydevcrm._accept_posts(array[pg_temp.sub(accept.name)], accept.ids)
$$;
create function pg_temp.add(id integer, owner_email text, manager text default null)
    returns text
    language sql
as $$
    insert into orders values (add.id, add.owner_email, add.manager);
    select outcome from tinydevcrm.refresh_matview('late')
$$;
create function pg_temp.split(name text)
    returns void
    language sql
as $$
    select tinydevcrm.set_audience(
               split.name, 'rows_added', to_column => 'owner_email', allowed_domains => '{x.example}')
$$;
create temporary table posts as
select *
  from pg_temp.receive('nobody');
create temporary table first_post as table posts;

-- an e-mail that is sent again while rows apart wait

select tinydevcrm.create_email('mail', '{boss@example.com}', 'late', notify_when => 'rows_added');
select pg_temp.add(1, 'a@x.example');
insert into first_post select * from pg_temp.receive('mail');
select is((select ids from first_post), '1', 'an e-mail has a row');
select pg_temp.accept('mail', array(select delivery_id from first_post));
select pg_temp.split('mail');
insert into orders values (2, 'a@x.example'), (3, 'b@x.example');
select tinydevcrm.refresh_matview('late');
select tinydevcrm.redeliver_event(delivery_id) from first_post;
insert into posts select * from pg_temp.receive('mail');
select results_eq(
    'select message_id, recipients, ids from posts', 'select message_id, recipients, ids from first_post',
    'it is sent again as it was, without the rows apart that wait');
select pg_temp.accept('mail', array(select delivery_id from posts));
truncate posts;
insert into posts select * from pg_temp.receive('mail');
select set_eq(
    'select recipients, ids from posts', $$ values ('a@x.example', '2'), ('b@x.example', '3') $$,
    'which go to their recipients after it');

-- a row that is refused, and then an e-mail that is sent again

create temporary table refused as
select *
  from posts
 order by delivery_id
 limit 1;
select tinydevcrm._refuse_post(pg_temp.sub('mail'), delivery_id, 451, 'try later') from refused;
select tinydevcrm._release_posts(array(select delivery_id from posts except select delivery_id from refused));
select tinydevcrm.redeliver_event(id) from tinydevcrm.deliveries where row_numbers is null and subscription_id = pg_temp.sub('mail');
select tinydevcrm.retry_subscription('mail');
truncate posts;
insert into posts select * from pg_temp.receive('mail');
select results_eq(
    'select message_id, recipients, ids from posts', 'select message_id, recipients, ids from first_post',
    'the e-mail comes first, as it was');
select pg_temp.accept('mail', array(select delivery_id from posts));
truncate posts;
insert into posts select * from pg_temp.receive('mail');
select results_eq(
    'select message_id, recipients, ids from posts where delivery_id = (select delivery_id from refused)',
    'select message_id, recipients, ids from refused', 'the retry of the row goes to its recipient, and is the same message');
select pg_temp.accept('mail', array(select delivery_id from posts));
select is(
    (select pending_count + parked_count from tinydevcrm.subscription_status where subscription = 'mail'), 0::bigint,
    'and nothing is left');

-- who asks for a row to carry others gets nothing of it

select tinydevcrm.redeliver_event(id) from tinydevcrm.deliveries where row_numbers is not null and subscription_id = pg_temp.sub('mail');
update tinydevcrm.deliveries set is_gathered = true where row_numbers is not null and subscription_id = pg_temp.sub('mail');
truncate posts;
insert into posts select * from pg_temp.receive('mail');
select set_eq(
    'select recipients, ids from posts', $$ values ('a@x.example', '2'), ('b@x.example', '3') $$,
    'a row apart carries no others');
select pg_temp.accept('mail', array(select delivery_id from posts));

-- another column while rows wait

insert into orders values (4, 'a@x.example', 'm@x.example'), (5, 'a@x.example', 'n@x.example'),
                          (6, 'b@x.example', 'm@x.example'), (7, 'b@x.example', 'm@x.example');
select tinydevcrm.refresh_matview('late');
select tinydevcrm.set_audience('mail', 'rows_added', to_column => 'manager', allowed_domains => '{x.example}');
truncate posts;
insert into posts select * from pg_temp.receive('mail');
select set_eq(
    'select recipients, ids from posts', $$ values ('boss@example.com', '4,5'), ('m@x.example', '6,7') $$,
    'rows that were put together by another column go to an address only if it is that of all of them');
select pg_temp.accept('mail', array(select delivery_id from posts));
select tinydevcrm.drop_subscription('mail');

-- a replay for another audience

select tinydevcrm.create_email('replayed', '{boss@example.com}', 'late');
select pg_temp.split('replayed');
insert into orders values (11, 'b@x.example'), (12, 'a@x.example'), (13, 'a@x.example');
select tinydevcrm.refresh_matview('late');
select pg_temp.accept('replayed', array(select delivery_id from pg_temp.receive('replayed')));
create function pg_temp.list_replayed()
    returns integer[]
    language sql
as $$
    select array(
               select value::integer
                 from pg_temp.receive('replayed') as posts
                cross join lateral unnest(string_to_array(posts.ids, ',')) as value
                order by 1)
$$;
create function pg_temp.replay()
    returns integer[]
    language sql
as $$
    select tinydevcrm.replay_events('replayed', (select started_at from tinydevcrm.matview_refresh_events order by id desc limit 1));
    select pg_temp.list_replayed()
$$;
select tinydevcrm.set_audience('replayed', 'rows_added', each_row => true);
select is(pg_temp.replay(), '{11,12,13}', 'a replay has each row once when each row is apart now');
select tinydevcrm.acknowledge_events(array(select id from tinydevcrm.deliveries));
select tinydevcrm.set_audience('replayed', 'rows_added');
select is(pg_temp.replay(), '{11,12,13}', 'and when the event is whole now');
select tinydevcrm.drop_subscription('replayed');

-- a failure goes to the recipients of the e-mail, and so does its end

select tinydevcrm.create_email('trouble', '{boss@example.com}', 'late');
select tinydevcrm.set_audience(
    'trouble', 'rows_added, failed', to_column => 'owner_email', allowed_domains => '{x.example}');
update divisors set divisor = 0;
select is(pg_temp.add(21, 'a@x.example'), 'failed', 'a refresh fails');
update divisors set divisor = 1;
select is((tinydevcrm.refresh_matview('late')).outcome, 'recovered', 'the next one succeeds, with a row more');
truncate posts;
insert into posts select * from pg_temp.receive('trouble');
select results_eq(
    $$ select body ->> 'severity', recipients, ids from posts order by delivery_id $$,
    $$ values ('failure', 'boss@example.com', ''), ('recovery', 'a@x.example', '21'), ('recovery', 'boss@example.com', '21') $$,
    'who gets the failure gets its end, and the row goes to its recipient');
select is((select count(distinct message_id) from posts), 3::bigint, 'each message has an id of its own');
select tinydevcrm.drop_subscription('trouble');

-- the end of a digest whose message has been refused

select tinydevcrm.create_webhook('digest', 'https://example.com/', 'late', notify_when => 'rows_added', digest => 'hourly');
select pg_temp.add(31, null);
select pg_temp.add(32, null);
update tinydevcrm.deliveries set created_at = created_at - interval '2 hours' where subscription_id = pg_temp.sub('digest');
truncate first_post;
insert into first_post select * from pg_temp.receive('digest');
select is((select ids from first_post), '[31] [32]', 'a digest has two events');
select tinydevcrm._refuse_post(pg_temp.sub('digest'), delivery_id, 500, 'no') from first_post;
select tinydevcrm.set_digest('digest', null);
select pg_temp.add(33, null);
select tinydevcrm.retry_subscription('digest');
truncate posts;
insert into posts select * from pg_temp.receive('digest');
select results_eq(
    'select delivery_id, message_id, ids, body::text from posts', 'select delivery_id, message_id, ids, body::text from first_post',
    'it is posted again as it was, with the rows of each event, when there is no digest any more');
select pg_temp.accept('digest', array(select delivery_id from posts));
truncate posts;
insert into posts select * from pg_temp.receive('digest');
select results_eq(
    $$ select body ->> 'type', body #>> '{data,rows,0,id}' from posts $$, $$ values ('matview.refreshed', '33') $$,
    'and what has come meanwhile alone');
select pg_temp.accept('digest', array(select delivery_id from posts));
select is(
    (select pending_count from tinydevcrm.subscription_status where subscription = 'digest'), 0::bigint, 'nothing is left');

-- a parked message whose first event is removed

select tinydevcrm.set_digest('digest', 'hourly');
select pg_temp.add(34, null);
select pg_temp.add(35, null);
select pg_temp.add(36, null);
update tinydevcrm.deliveries
   set created_at = created_at - interval '2 hours'
 where subscription_id = pg_temp.sub('digest')
   and acknowledged_at is null;
truncate posts;
insert into posts select * from pg_temp.receive('digest');
select is((select ids from posts), '[34] [35] [36]', 'a digest has three events');
select tinydevcrm._refuse_post(pg_temp.sub('digest'), delivery_id, 500, 'no', is_final => true) from posts;
select is(
    (select parked_count from tinydevcrm.subscription_status where subscription = 'digest'), 3::bigint, 'and is parked');
select is(
    tinydevcrm._remove_events(array[(select event_id from tinydevcrm.deliveries where id = (select delivery_id from posts))]), 1::bigint,
    'its first event expires');
select is(tinydevcrm.redeliver_parked('digest'), 2::bigint, 'what it has carried can be redelivered');
select tinydevcrm.set_digest('digest', null);
select is(
    (select array_agg(body #>> '{data,rows,0,id}' order by delivery_id) from pg_temp.receive('digest')), '{35,36}', 'and is posted');

-- an address that is both a recipient and in the column

select tinydevcrm.create_email('both', '{Boss@x.example,other@x.example}', 'late');
select pg_temp.split('both');
select pg_temp.add(41, 'boss@X.example');
create temporary table link as
select body #>> '{recipients,0,address}' as address,
       substring(body #>> '{recipients,0,unsubscribe}' from 'recipient=([0-9a-f]+)') as recipient,
       substring(body #>> '{recipients,0,unsubscribe}' from 'token=([0-9a-f]+)') as token
  from pg_temp.receive('both');
select is((select address from link), 'boss@x.example', 'an address may be in the column, and a recipient of the e-mail, in other letters');
select is((select tinydevcrm._unsubscribe(pg_temp.sub('both'), recipient, token) from link), 'boss@x.example', 'its link unsubscribes it');
select is(
    (select url from tinydevcrm.webhooks where subscription_id = pg_temp.sub('both')), 'mailto:other@x.example',
    'from both');

-- rows apart of all views

select tinydevcrm.create_subscription('all');
select throws_ok(
    $$ update tinydevcrm.subscriptions set each_row = true where name = 'all' $$, '23514', null,
    'a subscription to all views gets no rows apart, also when it is written directly');

select * from finish();

rollback;
