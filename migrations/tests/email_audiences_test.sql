-- E-mails with rows apart: to the address of a column, without gathering, and with a link to unsubscribe.

begin;

select plan(16);

create schema "My Data";
set local search_path = "My Data", public;

create table orders (id integer, owner_email text);
select tinydevcrm.create_matview('late', 'select * from orders', notify_when => 'never');
select tinydevcrm._note_mail_server('smtp.example.com:587');
select tinydevcrm.create_email(
    'each owner', '{boss@example.com}', 'late', notify_when => 'rows_added, failed', to_column => 'owner_email',
    allowed_domains => '{x.example}');
select tinydevcrm.create_email('boss', '{boss@example.com}', 'late', notify_when => 'rows_added');

select results_eq(
    $$ select name, tinydevcrm._gathers(webhooks) from tinydevcrm.webhooks join tinydevcrm.subscriptions on id = subscription_id order by id $$,
    $$ values ('each owner', false), ('boss', true) $$,
    'an e-mail gathers, unless it gets rows apart');

create function pg_temp.post(name text)
    returns table (message_id text, recipients text, ids text, link text)
    language sql
as $$
    with posts as materialized (
        select posts.*
          from tinydevcrm.subscriptions
         cross join tinydevcrm._receive_posts(subscriptions.id, 100, '1 minute', 100) as posts
         where subscriptions.name = post.name
    ),
    done as materialized (
        select count(accepted) as count
          from tinydevcrm.subscriptions
         cross join lateral tinydevcrm._accept_posts(array[subscriptions.id], array(select delivery_id from posts)) as accepted
         where subscriptions.name = post.name
    )
    select posts.body ->> 'message_id',
           (select string_agg(value ->> 'address', ' ') from json_array_elements(posts.body -> 'recipients')),
           (select string_agg(value ->> 'id', ',' order by value ->> 'id') from json_array_elements(posts.body -> 'event' -> 'rows')),
           posts.body -> 'recipients' -> 0 ->> 'unsubscribe'
      from posts, done
     order by posts.delivery_id
$$;

select tinydevcrm.refresh_matview('late');
insert into orders values (1, 'a@x.example'), (2, 'b@x.example'), (3, 'a@x.example'), (4, 'c@evil.example'), (5, e'a@x.example\r\nBcc: c@evil.example');
select tinydevcrm.refresh_matview('late');

create temporary table posts as
select *
  from pg_temp.post('each owner');
select set_eq(
    'select recipients, ids from posts',
    $$ values ('a@x.example', '1,3'), ('b@x.example', '2'), ('boss@example.com', '4'), ('boss@example.com', '5') $$,
    'each gets the rows of their own, and the recipients of the e-mail those without an address that is allowed');
select is(
    (select count(distinct message_id) from posts), 4::bigint, 'each post has an id of its own');
select results_eq(
    $$ select message_id ~ '^event_[0-9]+$', recipients, ids from pg_temp.post('boss') $$,
    $$ values (true, 'boss@example.com', '1,2,3,4,5') $$,
    'another e-mail of the view gets all rows as one');

-- a link to unsubscribe

create temporary table link as
select substring(link from 'subscription=(\d+)')::bigint as subscription_id,
       substring(link from 'recipient=([0-9a-f]+)') as recipient,
       substring(link from 'token=([0-9a-f]+)') as token
  from posts
 where recipients = 'a@x.example';

select is(
    (select tinydevcrm._unsubscribe(subscription_id, recipient, repeat('0', 64)) from link), null, 'a wrong link does nothing');
select is(
    (select tinydevcrm._unsubscribe(subscription_id, encode('b@x.example', 'hex'), token) from link), null,
    'the link of one address is not that of another');
select is(
    (select address from link cross join lateral tinydevcrm._find_unsubscribed(subscription_id, recipient, token)),
    'a@x.example', 'the link shows an address of a column');
select is(
    (select tinydevcrm._unsubscribe(subscription_id, recipient, token) from link), 'a@x.example', 'and unsubscribes it');
select is(
    (select tinydevcrm._unsubscribe(subscription_id, recipient, token) from link), null, 'once');
select is(
    (select array[status, url] from tinydevcrm.subscription_status where subscription = 'each owner'),
    array['ok', 'mailto:boss@example.com'], 'the others stay');
insert into orders values (6, 'A@x.example'), (7, 'b@x.example');
select tinydevcrm.refresh_matview('late');
select set_eq(
    $$ select recipients, ids from pg_temp.post('each owner') $$, $$ values ('boss@example.com', '6'), ('b@x.example', '7') $$,
    'what is for one that has unsubscribed goes to the recipients of the e-mail');

-- digests

select throws_ok(
    $$ select tinydevcrm.set_digest('each owner', 'daily at 8:00') $$,
    'TD007', 'a digest gathers what each_row and to_column deliver apart', 'rows apart have no digest');
select throws_ok(
    $$ select tinydevcrm.create_email('x', '{a@x.example}', 'late', 'daily at 8:00', each_row => true) $$,
    'TD007', 'a digest gathers what each_row and to_column deliver apart', 'nor when they are created');
select tinydevcrm.set_digest('boss', 'daily at 8:00');
select throws_ok(
    $$ select tinydevcrm.set_audience('boss', each_row => true) $$,
    'TD007', 'a digest gathers what each_row and to_column deliver apart', 'and a digest gets no rows apart');
select tinydevcrm.set_digest('boss', null);

-- Rows that wait when they are no longer apart.
insert into orders values (8, 'b@x.example'), (9, 'd@x.example');
select tinydevcrm.refresh_matview('late');
select tinydevcrm.set_audience('each owner', 'rows_added');
select set_eq(
    $$ select recipients, ids from pg_temp.post('each owner') $$, $$ values ('boss@example.com', '8'), ('boss@example.com', '9') $$,
    'rows that wait stay apart');
select ok(
    (select tinydevcrm._gathers(webhooks) from tinydevcrm.webhooks join tinydevcrm.subscriptions on id = subscription_id where name = 'each owner'),
    'then it gathers');

select * from finish();
rollback;
