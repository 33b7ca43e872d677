-- Which URLs a webhook can have, and how its URL is changed.

begin;

select plan(44);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v', 'select 1 as one', 'always');

select throws_like(
    format('select tinydevcrm.create_webhook(%L, %L)', 'w', url),
    'no webhook can post there: ' || problem,
    format('%s is refused', url))
  from (
    values ('ftp://example.com/', 'a URL begins with http:// or https://'),
           ('https:/example.com/', 'a URL begins with http:// or https://'),
           ('', 'a URL begins with http:// or https://'),
           ('https://u:p@example.com/', 'a URL has no user name or password%'),
           ('https://u@example.com/', 'a URL has no user name or password%'),
           ('https:///in', '% is no host name'),
           ('https://:443/', '% is no host name'),
           ('https://a..example.com/', '% is no host name'),
           ('https://exa_mple.com\evil/', '% is no host name'),
           ('https://' || repeat('a', 64) || '.com/', '% is no host name'),
           ('https://' || repeat('abc.', 64) || 'com/', '% is no host name'),
           ('https://example.com:0/', 'there is no port 0'),
           ('https://example.com:65536/', 'there is no port 65536'),
           ('https://example.com/%zz', '% that is no escape is in it'),
           (e'https://example.com/\x01', '% a control character %'),
           ('https://example.com/a b', 'a space%'),
           ('http://[::zz]/', '% is no host name'),
           ('http://[1::2::3]/', '% is no address'),
           ('http://10.1.2.3/', 'the address 10.1.2.3 is private'),
           ('http://127.0.0.1:80', 'the address 127.0.0.1 is private'),
           ('http://169.254.169.254/latest', 'the address 169.254.169.254 is private'),
           ('http://192.168.0.1./', 'the address 192.168.0.1 is private'),
           ('http://0.0.0.0/', 'the address 0.0.0.0 is private'),
           ('http://2130706433/', '% is not an address of four decimal numbers'),
           ('http://0x7f.1/', '% is not an address of four decimal numbers'),
           ('http://0177.0.0.1/', '% is not an address of four decimal numbers'),
           ('http://127.1/', '% is not an address of four decimal numbers'),
           ('http://[::1]/', 'the address [::1] is private'),
           ('http://[fe80::1]:8080/', 'the address [fe80::1] is private'),
           ('http://[fd00::1]/', 'the address [fd00::1] is private'),
           ('http://[::ffff:10.0.0.1]/', 'the address [::ffff:10.0.0.1] is private'),
           ('http://[64:ff9b::a00:1]/', 'the address [64:ff9b::a00:1] is private')
  ) as refused (url, problem);

select lives_ok(
    format('select tinydevcrm.create_webhook(%L, %L)', url, url), format('%s is accepted', url))
  from unnest(array[
           'https://example.com', 'http://a_b.example.com.:8080/in?a=%zz&b=c@d',
           'https://münchen.example/%C3%BC', 'http://1.1.1.1/', 'http://[2606:4700::1111]:443/'
       ]) as url;

select throws_ok(
    $$ update tinydevcrm.webhooks set url = 'http://10.0.0.1/' $$, 'TD007', null,
    'a URL that is changed by hand is checked too');

update tinydevcrm.settings
   set webhook_networks = '{10.0.0.0/8, fd00::/8}';
select lives_ok(
    format('select tinydevcrm.create_webhook(%L, %L)', url, url),
    format('%s is accepted when the orchestrator may post there', url))
  from unnest(array['http://10.1.2.3/', 'http://[fd00::1]/']) as url;

create role "Tap Ann" login in role tinydevcrm_user;
set local session authorization "Tap Ann";
select throws_ok(
    $$ select tinydevcrm._allow_webhook_networks('{0.0.0.0/0}') $$, '42501', null,
    'a user cannot allow networks');
reset session authorization;

-- alter_webhook()

select tinydevcrm.create_webhook('hook', 'https://example.com/old');
select tinydevcrm.refresh_matview('v');
create temporary table hook as
select subscriptions.id,
       webhooks.secret
  from tinydevcrm.subscriptions
  join tinydevcrm.webhooks
    on webhooks.subscription_id = subscriptions.id
 where subscriptions.name = 'hook';
select tinydevcrm._refuse_post(hook.id, received.delivery_id, 410, '410 Gone', '1 hour')
  from hook
 cross join lateral tinydevcrm._receive_posts(hook.id, 1, '1 minute') as received;
select is_empty(
    'select name from tinydevcrm._list_due_webhooks() where name = ''hook''',
    'after the refusal of a gone endpoint nothing is due');
select tinydevcrm.alter_webhook('hook', 'https://example.com/new');
select results_eq(
    'select url, secrets from hook cross join lateral tinydevcrm._receive_posts(hook.id, 10, ''1 minute'')',
    'select ''https://example.com/new'', array[secret] from hook',
    'the pending delivery goes to the new URL at once, with the same secret');
select throws_ok(
    $$ select tinydevcrm.alter_webhook('hook', 'https://u:p@example.com/') $$, 'TD007', null,
    'alter_webhook() checks the URL');

select * from finish();

rollback;
