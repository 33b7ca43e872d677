-- Tests of subscriptions, and previews of their messages. That a test is sent is tested in Go.

begin;

select plan(24);

create role "Tap Ann" login in role tinydevcrm_user;
create role "Tap Eve" login in role tinydevcrm_user;
create role "Tap Runner" in role tinydevcrm_orchestrator;
create schema tap_ann authorization "Tap Ann";
create schema tap_eve authorization "Tap Eve";

set local session authorization "Tap Ann";
set local search_path = tap_ann, public;
select tinydevcrm.create_matview('v', 'select 7 as secret, 1 as another');
select tinydevcrm.create_subscription('worker');
select tinydevcrm.create_webhook('hook', 'https://example.com/in', 'v');
select tinydevcrm.create_webhook('chat', 'https://hooks.slack.com/services/T/B/X', 'v');

select is(
    tinydevcrm.preview_message('hook') #>> '{event,rows}', '[{"example": 1}]',
    'without an event an example is previewed');
select tinydevcrm.refresh_matview('v');
select is(
    tinydevcrm.preview_message('hook') #>> '{event,rows}', '[{"secret": 7, "another": 1}]',
    'the last event is previewed');
select is(
    tinydevcrm.preview_message('worker') #>> '{event,matview}', 'tap_ann.v',
    'a subscription to all views previews the last event of any');
select is(
    tinydevcrm.preview_message('hook') ->> 'is_test', 'false', 'a preview is not marked as a test');

select throws_ok(
    $$ select tinydevcrm.test_subscription('none') $$, 'TD001', null, 'what is not there cannot be tested');
select throws_ok(
    $$ select tinydevcrm.test_subscription('worker') $$, 'TD007',
    'nothing is sent for subscription ''worker''', 'a worker cannot be tested');

select tinydevcrm.alter_subscription('chat', title => 'Mine', message => '{{view}}');
select tinydevcrm.pause_subscription('chat');
select isnt(tinydevcrm.test_subscription('chat'), null, 'a paused subscription can be tested');
select tinydevcrm.test_subscription('hook');
select tinydevcrm.test_subscription('chat') from generate_series(1, 4);
select throws_ok(
    $$ select tinydevcrm.test_subscription('chat') $$, '55000', null, 'there are five tests a minute at most');
select throws_ok(
    $$ update tinydevcrm.subscription_tests set asked_at = '-infinity' $$, '42501', null,
    'users cannot write when a test was asked for');
select throws_ok(
    $$ delete from tinydevcrm.subscription_tests $$, '42501', null, 'users cannot remove tests');
create temporary table ids as select id as subscription_id from tinydevcrm.subscriptions where name = 'hook';
grant select on ids to public;

set local session authorization "Tap Eve";
set local search_path = tap_eve, public;
select is_empty('select from tinydevcrm.subscription_tests', 'others do not see a test');
select throws_ok(
    'insert into tinydevcrm.subscription_tests (subscription_id) select subscription_id from ids', '42501',
    null, 'others cannot test a subscription');
select is_empty('select from tinydevcrm._receive_tests(10)', 'others do not receive a test');
select tinydevcrm.create_webhook('hook', 'https://example.com/eve');
select tinydevcrm.test_subscription('hook');

set local session authorization "Tap Runner";
create temporary table received as select * from tinydevcrm._receive_tests(10);
select results_eq(
    'select subscription, url, cardinality(secrets), format from received order by test_id',
    $$ values ('chat', 'https://hooks.slack.com/services/T/B/X', 0, 'slack'),
              ('hook', 'https://example.com/eve', 1, 'standard') $$,
    'the orchestrator receives one test of each owner');
select is_empty('select from tinydevcrm._receive_tests(10)', 'a test is received once, and the next when it is finished');
select is(
    (select body ->> 'title' || '|' || (body ->> 'is_test') || '|' || (body -> 'templates')::text
       from received
      where format = 'slack'),
    'Test: tap_ann.v: 1 row|true|{"title" : "Test: Mine", "message" : "This is a test: nothing has happened.\n\n{{view}}"}',
    'a test is marked, in templates too');
select is(
    (select body #>> '{event,rows}' from received where format = 'slack'),
    '[{"secret": 7, "another": 1}]', 'a test has the last event');
select is(
    (select body ->> 'type' || ' ' || (body #>> '{data,event,matview}') from received where format = 'standard'),
    'test public.example',
    'a test in format standard has its own type, and never the event of another owner');
select lives_ok(
    $$ select tinydevcrm._finish_test(test_id, 200, '20 ms', 'ok', null) from received $$,
    'the orchestrator records the answer');
select isnt_empty(
    $$ select from tinydevcrm._receive_tests(10) where subscription = 'hook' $$,
    'then the next test of the owner is received');

set local session authorization "Tap Ann";
select results_eq(
    $$ select status, duration, answer, error, finished_at >= started_at
         from tinydevcrm.subscription_tests
        where is_finished $$,
    $$ values (200, interval '20 ms', 'ok', null::text, true) $$, 'the owner sees the answer');
select is(
    (select count(*) from tinydevcrm.deliveries where acknowledged_at is not null or attempts > 0), 0::bigint,
    'a test is no delivery');

reset session authorization;
update tinydevcrm.subscription_tests set asked_at = now() - interval '61 minutes';
set local session authorization "Tap Ann";
select is_empty('select from tinydevcrm._receive_tests(10)', 'nobody sends an old test');
select tinydevcrm.test_subscription('chat');
select is(
    (select count(*) from tinydevcrm.subscription_tests join tinydevcrm.subscriptions on subscription_id = subscriptions.id where name = 'chat'),
    1::bigint, 'old tests are removed');

select * from finish();
rollback;
