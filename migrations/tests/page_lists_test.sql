-- What the page lists.

begin;

select plan(35);

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Two" login in role tinydevcrm_user;
create schema tap authorization "Tap One";
create schema "Else" authorization "Tap One";
set local search_path = tap, "Else", public;
set local session authorization "Tap One";

create temporary table staging (id text, "A name" text);
insert into staging values ('1', 'x'), ('2', 'y');
select tinydevcrm.import_staging('staging', 'things') \g /dev/null
select tinydevcrm.import_staging('staging', 'others') \g /dev/null
select tinydevcrm.import_staging('staging', 'things', mode => 'append') \g /dev/null
select tinydevcrm.import_staging('staging', 'dropped') \g /dev/null
drop table dropped;

select results_eq(
    $$ select relation::text, mode, row_count from tinydevcrm.imported_tables order by 1 $$,
    $$ values ('others', 'create', 2::bigint), ('things', 'append', 2) $$,
    'each existing imported table is listed, with its newest import');
create table by_hand (n integer);
alter table things rename to renamed;
select results_eq(
    $$ select kind, key, note from tinydevcrm._search('tap.', 9) $$,
    $$ values ('table', 'tap.renamed', 'staging'), ('table', 'tap.others', 'staging'), ('table', 'tap.by_hand', null) $$,
    'a search finds each table of the user, by its name now');
select is((select count(*) from tinydevcrm._search('tap.', 1)), 1::bigint, 'row_limit is the limit');
alter table renamed rename to things;
drop table by_hand;

select tinydevcrm.create_matview('v', 'select 1 as one') \g /dev/null
select tinydevcrm.create_matview('V', 'select 1 as one', schema_name => 'Else', ignored_columns => '{one}') \g /dev/null
select tinydevcrm.create_matview('v', 'select 1 as one', schema_name => 'Else') \g /dev/null
create table numbers as select 1 as n;
select tinydevcrm.create_matview('breaks', 'select 1 / n as n from numbers') \g /dev/null
update numbers set n = 0;
select tinydevcrm.refresh_matview('breaks') \g /dev/null

select is(tinydevcrm._matview_key('v'), 'tap.v', 'a name without a schema is the view that psql finds first');
select is(tinydevcrm._matview_key('"V"'), '"Else"."V"', 'a name is quoted where psql quotes it');
select is(tinydevcrm._matview_key('"Else".v'), '"Else".v', 'a name with its schema is returned unchanged');
select results_eq(
    $$ select key, is_asked, is_listed, (matview).status from tinydevcrm._find_matviews('v', '', 3) $$,
    $$ values ('tap.breaks', false, true, 'failing'),
              ('"Else".v', false, true, 'not scheduled'),
              ('"Else"."V"', false, true, 'not scheduled'),
              ('tap.v', true, false, 'not scheduled') $$,
    'failing views and the newest come first, then the view asked for');
select results_eq(
    $$ select key from tinydevcrm._find_matviews('', '', 9, state => 'failing') $$, $$ values ('tap.breaks') $$,
    'views are found by their state');
select results_eq(
    $$ select key from tinydevcrm._find_matviews('', '', 2, sort => 'name', is_descending => true, row_offset => 1) $$,
    $$ values ('tap.breaks'), ('"Else".v') $$,
    'they are sorted by name, page by page');
select is(
    (select key from tinydevcrm._find_matviews('', '', 1, sort => 'refreshed', is_descending => true)), 'tap.breaks',
    'the last refreshed one comes first');
select is(
    (select ignored_columns from tinydevcrm._find_matviews('', 'else.v', 9) where key = '"Else"."V"'), 'one',
    'a view is listed with what the page can change');

select is(
    tinydevcrm._read_names(' one,"A, B", "a ""quoted"" name" ,, '), array['one', 'A, B', 'a "quoted" name'],
    'a list of names is read as SQL writes it');
select is(tinydevcrm._read_names(null), null, 'null is no list');
select results_eq(
    $$ select relation::text, place, key, name::text, refreshed_at is not null, failing_since is not null
         from tinydevcrm._describe_view(array['breaks.json', 'breaks']) $$,
    $$ values ('breaks', 2::bigint, 'tap.breaks', 'breaks', false, true) $$, 'the first name that a view has is used');

select tinydevcrm.create_subscription('thingsub') \g /dev/null
create materialized view empty as select 1 as n with no data;
select tinydevcrm.watch_matview('empty') \g /dev/null
select results_eq(
    $$ select kind, key, state, reason, since is not null from tinydevcrm._list_troubled(5) $$,
    $$ values ('view', 'tap.breaks', 'failing', 'division by zero', true),
              ('view', 'tap.empty', 'not populated', 'it has no rows before its first refresh', false) $$,
    'what fails is listed with its reason, and what has no rows yet after it');
select is((select count(*) from tinydevcrm._list_troubled(1)), 1::bigint, 'row_limit is the limit of each kind');
select results_eq(
    $$ select kind, coalesce(relation::text, key), note from tinydevcrm._search('THING', 5) $$,
    $$ values ('table', 'things', 'staging'), ('subscription', 'thingsub', 'worker') $$,
    'a search finds tables and subscriptions by a part of their names');
select is(
    (select string_agg(relation::text, ' ') from tinydevcrm._search('reaks', 5)), 'breaks',
    'a search finds views');
select is(
    (select concat_ws(' ', relation, matview) from tinydevcrm.create_sample()), 'sample sample_now',
    'the sample is a table and a view');
select is(
    (select array[row_count is not null, schedule = '5 seconds', status = 'ok']
       from tinydevcrm.matview_status where relation = 'sample_now'::regclass),
    '{t,t,t}', 'the view of the sample is scheduled and refreshed');

select tinydevcrm.create_webhook('chat', 'https://hooks.slack.com/services/T0/B0/secret', 'v') \g /dev/null
select tinydevcrm.create_webhook('hook', 'https://example.com/in', 'breaks', headers => '{"X-Key": "s3cret"}') \g /dev/null
select tinydevcrm.refresh_matview('breaks') \g /dev/null
update numbers set n = 1;
select tinydevcrm.refresh_matview('breaks') \g /dev/null
select tinydevcrm.reject_event(delivery_id, 'a 500') from tinydevcrm.receive_events('hook', 1) \g /dev/null
select is(
    (select string_agg(subscription, ' ') from tinydevcrm._list_subscriptions('', '', '', false, 9, 0)),
    'hook chat thingsub', 'subscriptions that need attention come first');
select is(
    (select string_agg(subscription, ' ') from tinydevcrm._list_subscriptions('H', '', 'name', true, 2, 1)),
    'hook chat', 'they are found by a part, sorted by name and read by pages');
select is(
    (select string_agg(subscription, ' ') from tinydevcrm._list_subscriptions('', 'tap.v', '', false, 9, 0)),
    'chat thingsub', 'those of a view include those of all views');
select results_eq(
    $$ select (subscription).url, matview_key, is_signed, header_names, failure_count
         from tinydevcrm._describe_subscription('hook') $$,
    $$ values ('https://example.com/in', 'tap.breaks', true, array['X-Key'], 0) $$,
    'a subscription is described, its headers by their names');
select results_eq(
    $$ select matview_key, is_signed, header_names from tinydevcrm._describe_subscription('thingsub') $$,
    $$ values (null::text, null::boolean, '{}'::text[]) $$, 'a worker of all views has neither');
select is(
    (select note from tinydevcrm._search('chat', 5)), 'https://hooks.slack.com/…cret', 'a search shows no URL that is a secret');

select tinydevcrm.create_webhook('theirs', 'https://example.com/', 'v') \g /dev/null
set local session authorization "Tap Two";

select is_empty($$ select * from tinydevcrm._list_subscriptions('', '', '', false, 9, 0) $$, 'another user sees no subscriptions');
select is_empty($$ select * from tinydevcrm._describe_subscription('theirs') $$, 'nor one of them');
select throws_ok($$ select tinydevcrm._list_deliveries('theirs', null, null, 9) $$, 'TD001', null, 'nor its deliveries');
select is_empty('select * from tinydevcrm.imported_tables', 'another user sees no tables');
select is_empty($$ select * from tinydevcrm._find_matviews('tap.v', '', 9) $$, 'another user sees no views');

reset session authorization;

select is_empty(
    $$ select * from tinydevcrm._search('tap.', 9) where kind = 'table' $$,
    'a session with more rights finds no tables of others');
select throws_ok(
    format('select tinydevcrm.create_subscription(%L)', name), '23514', null, format('no subscription is named %s', name))
  from unnest('{.,..,new}'::text[]) as name;

select * from finish();

rollback;
