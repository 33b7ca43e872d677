-- E-mails: addresses, gathering, the hourly limit, recipients one by one, and unsubscribing.

begin;

select plan(57);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v' || i, 'select 1 as one', 'always') from generate_series(1, 3) as i;

-- addresses

select lives_ok(
    $$ select tinydevcrm.create_email('mail', '{a@example.com,B.o''c+x@sub.example.com}', 'v1') $$, 'an e-mail can be created');
select is(
    (select array[url, format] from tinydevcrm.webhooks), array['mailto:a@example.com,B.o''c+x@sub.example.com', 'email'],
    'it is a webhook of format email');
select throws_ok(
    format('select tinydevcrm.create_email(%L, %L)', 'bad', array[address]), 'TD007', null, format('%L is no address', address))
  from unnest(array[
           'a', '@example.com', 'a@', 'a@b@example.com', e'a@example.com\r\nBcc: b@example.com', 'a@example.com,b@example.com,',
           'A <a@example.com>', 'a@example.com?bcc=b@example.com', 'a%2Cb@example.com', 'a b@example.com', '"a"@example.com',
           'ä@example.com', 'a@exämple.com', 'a@example..com', '', repeat('a', 65) || '@example.com',
           'a@' || repeat('b', 63) || '.' || repeat('c', 63) || '.' || repeat('d', 63) || '.' || repeat('e', 63)]) as address;
select throws_ok(
    $$ select tinydevcrm.create_email('bad', '{}') $$, 'TD007', 'an e-mail has at least one recipient', 'none is refused');
select throws_ok(
    $$ select tinydevcrm.create_email('bad', '{a@example.com,A@EXAMPLE.com}') $$, 'TD007',
    'no e-mail can be sent there: A@EXAMPLE.com is there twice', 'one twice is refused');
select lives_ok(
    $$ select tinydevcrm.create_email('many', array(select format('%s%s@example.com', repeat('a', 50), i) from generate_series(1, 50) as i)) $$,
    'there may be 50');
select throws_ok(
    $$ select tinydevcrm.create_email('bad', array(select format('a%s@example.com', i) from generate_series(1, 51) as i)) $$, 'TD007',
    'no e-mail can be sent there: there are more than 50 addresses', 'but not 51');
select tinydevcrm.drop_subscription('many');

-- the server

select tinydevcrm.refresh_matview('v1');
select is(
    (select array[status, is_troubled::text] from tinydevcrm.subscription_status), array['no mail server', 'true'],
    'without a mail server the status says so');
select is_empty('select * from tinydevcrm._list_due_webhooks()', 'and nothing is sent');
select is(
    (select array[is_ok::text, detail] from tinydevcrm.check_installation() where finding = 'e-mails have a mail server'),
    array['false', 'none, and 1 subscriptions by e-mail wait'], 'the check of the installation says so too');
select tinydevcrm._note_mail_server('smtp.example.com:587');
select is((select status from tinydevcrm.subscription_status), 'ok', 'with one it is well');
select is((select count(*) from tinydevcrm._list_due_webhooks()), 1::bigint, 'and what has waited is sent');

-- what is sent

create temporary table posts as
select *
  from tinydevcrm._receive_posts(0, 1, '1 minute');
create function pg_temp.receive()
    returns bigint
    language sql
as $$
    truncate posts;
    insert into posts
    select posts.*
      from tinydevcrm.webhooks
     cross join lateral tinydevcrm._receive_posts(subscription_id, 100, '1 minute', 64) as posts
     where coalesce(webhooks.next_post_at, '-infinity') <= clock_timestamp();
    select count(*)
      from posts;
$$;
create function pg_temp.accept()
    returns void
    language sql
as $$
    select tinydevcrm._accept_posts(array[subscription_id], array(select delivery_id from posts))
      from tinydevcrm.webhooks
$$;
create function pg_temp.refuse(taken text[], is_final boolean)
    returns text
    language sql
as $$
    select tinydevcrm._refuse_post(subscription_id, delivery_id, null, 'refused', null, early, taken, is_final)
      from tinydevcrm.webhooks, posts
$$;
create function pg_temp.pass(period interval)
    returns void
    language sql
as $$
    update tinydevcrm.deliveries
       set visible_at = visible_at - period
     where acknowledged_at is null;
    update tinydevcrm.webhooks
       set next_post_at = next_post_at - period,
           posted_at = array(select at - period from unnest(posted_at) as at);
$$;
create function pg_temp.recipients()
    returns text
    language sql
as $$
    select string_agg(recipient.value ->> 'address', ' ')
      from posts
     cross join lateral json_array_elements(body -> 'recipients') as recipient
$$;

select is(pg_temp.receive(), 1::bigint, 'the first is sent at once');
select is(pg_temp.recipients(), 'a@example.com B.o''c+x@sub.example.com', 'to all recipients');
select matches((select body ->> 'mail_id' from posts), '^delivery_[0-9]+\.[0-9a-f]{24}$', 'with an id that others cannot guess');
create temporary table first_post as table posts;

-- some have got it

select is(pg_temp.refuse('{a@example.com}', false), null, 'when one recipient is refused for now');
select pg_temp.pass('10 minutes');
select pg_temp.receive();
select is(pg_temp.recipients(), 'B.o''c+x@sub.example.com', 'the retry is for that one');
select is((select body ->> 'mail_id' from posts), (select body ->> 'mail_id' from first_post), 'with the same id');
select pg_temp.refuse('{}', true);
select is(
    (select array[status, last_error] from tinydevcrm.latest_deliveries('mail')), array['acknowledged', 'refused'],
    'one that is refused for good ends it, with a note');
select is((select sent_to from tinydevcrm.webhooks), '{}', 'and the next is for all again');

-- gathered

select tinydevcrm.refresh_matview('v1') from generate_series(1, 3);
select is(pg_temp.receive(), 0::bigint, 'within a minute nothing more is sent');
select pg_temp.pass('1 minute');
select is(pg_temp.receive(), 1::bigint, 'then all as one');
select is((select json_array_length(body -> 'events') from posts), 3, 'with each event');
select is(
    (select array[body ->> 'title', body ->> 'matview'] from posts), array['3 notifications: "My Data".v1 (3)', null], 'and a title for all');
select pg_temp.refuse('{}', true);
select is(
    (select array[status, count(*)::text] from tinydevcrm.latest_deliveries('mail') where attempts > 0 or carried_by is not null group by status order by status desc limit 1),
    array['parked', '3'], 'when all recipients are refused for good it is parked without further attempts');

-- the hourly limit

update tinydevcrm.settings
   set mail_hourly_limit = 4;
do $$
begin
    for i in 1..2 loop
        perform pg_temp.pass('1 minute');
        perform tinydevcrm.refresh_matview('v1');
        assert pg_temp.receive() = 1;
        perform pg_temp.accept();
    end loop;
end
$$;
select pg_temp.pass('10 minutes');
select tinydevcrm.refresh_matview('v1') from generate_series(1, 2);
select is(pg_temp.receive(), 0::bigint, 'beyond the hourly limit nothing is sent');
select is(
    (select next_attempt_at between now() + interval '45 minutes' and now() + interval '50 minutes' from tinydevcrm.subscription_status), true,
    'until the first of the hour is an hour old');
select pg_temp.pass('50 minutes');
select pg_temp.receive();
select is((select json_array_length(body -> 'events') from posts), 2, 'and then nothing has been lost');
select pg_temp.accept();

-- unsubscribing

create function pg_temp.link(address text)
    returns text[]
    language sql
as $$
    select regexp_match(
               recipient.value ->> 'unsubscribe', '^/unsubscribe\?subscription=([0-9]+)&recipient=([0-9a-f]+)&token=([0-9a-f]{64})$')
      from first_post
     cross join lateral json_array_elements(body -> 'recipients') as recipient
     where recipient.value ->> 'address' = link.address
$$;
select is(
    tinydevcrm._unsubscribe(link[1]::bigint, link[2], overlay(link[3] placing case left(link[3], 1) when '0' then '1' else '0' end from 1 for 1)), null,
    'a wrong token does nothing')
  from pg_temp.link('a@example.com') as link;
select is(
    tinydevcrm._unsubscribe(a[1]::bigint, b[2], a[3]), null, 'a token is for one address')
  from pg_temp.link('a@example.com') as a, pg_temp.link('B.o''c+x@sub.example.com') as b;
select is(
    (
        select count(*)
          from tinydevcrm.webhooks
         cross join lateral unnest('{a@example.com,é,7f7,zz}'::text[]) as forged (recipient)
         cross join lateral tinydevcrm._find_unsubscribed(subscription_id, recipient, 'x')
    ), 0::bigint, 'a link that no letter has leads to nothing, whatever is in it');
select tinydevcrm.rotate_webhook_secret('mail');
select is(
    tinydevcrm._unsubscribe(link[1]::bigint, link[2], link[3]), 'a@example.com', 'the link unsubscribes, also after a rotation of the secret')
  from pg_temp.link('a@example.com') as link;
select is((select url from tinydevcrm.webhooks), 'mailto:B.o''c+x@sub.example.com', 'the others stay');
select is(
    tinydevcrm._unsubscribe(link[1]::bigint, link[2], link[3]), null, 'a second time does nothing')
  from pg_temp.link('a@example.com') as link;
select tinydevcrm._unsubscribe(link[1]::bigint, link[2], link[3])
  from pg_temp.link('B.o''c+x@sub.example.com') as link;
select is(
    (select array[status, pause_reason, url] from tinydevcrm.subscription_status),
    array['switched off', 'B.o''c+x@sub.example.com has unsubscribed, the last recipient', 'mailto:'],
    'the last one pauses the subscription, and the owner sees why');
select tinydevcrm.alter_email('mail', '{c@example.com}');
update tinydevcrm.deliveries
   set state = 'acknowledged';
select is(
    (select array[status, url] from tinydevcrm.subscription_status), array['ok', 'mailto:c@example.com'], 'other recipients end that');

-- of another owner, by an orchestrator that is no superuser

select tinydevcrm.drop_subscription('mail');
create role "Tap Ann" login in role tinydevcrm_user;
create role "Tap Runner" login in role tinydevcrm_orchestrator;
create schema tap authorization "Tap Ann";
grant all on posts, first_post to public;
set local session authorization "Tap Ann";
set local search_path = tap, public;
select tinydevcrm.create_matview('w', 'select 1 as one', 'always');
select tinydevcrm.create_email('ann', '{ann@example.com,c@example.com}', 'w');
select tinydevcrm.refresh_matview('w') from generate_series(1, 3);
set local session authorization "Tap Runner";
select is((select array_agg(name) from tinydevcrm._list_due_webhooks()), '{ann}', 'the orchestrator sees the e-mails of users');
select tinydevcrm._receive_posts(-1, 1, '1 minute');
truncate first_post;
insert into first_post
select posts.*
  from tinydevcrm.webhooks
 cross join lateral tinydevcrm._receive_posts(subscription_id, 100, '1 minute', 64) as posts;
select is((select json_array_length(body -> 'events') from first_post), 3, 'gathers them');
select tinydevcrm._refuse_post(subscription_id, delivery_id, null, 'later', null, early, '{c@example.com}')
  from tinydevcrm.webhooks, first_post;
select tinydevcrm._accept_posts(array[subscription_id], array[delivery_id])
  from tinydevcrm.webhooks, first_post;
select is(
    (select count(*) from tinydevcrm.deliveries where state = 'acknowledged' and owner = '"Tap Ann"'::regrole), 3::bigint,
    'records the outcome of all');
select is((select next_post_at > now() from tinydevcrm.webhooks), true, 'sets when the next one is sent');
select tinydevcrm._unsubscribe(link[1]::bigint, link[2], link[3])
  from unnest(array['c@example.com', 'ann@example.com']) as address
 cross join lateral pg_temp.link(address) as link;
set local session authorization "Tap Ann";
select is(
    (select array[status, url] from tinydevcrm.subscription_status), array['switched off', 'mailto:'], 'and unsubscribes recipients');

select * from finish();

rollback;
