-- What the page lists of sources, and shows of one.

begin;

select plan(20);

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Two" login in role tinydevcrm_user;
create schema tap authorization "Tap One";
set local search_path = tap, public;
set local session authorization "Tap One";

create temporary table staging (id text);
insert into staging values ('1'), ('2');
select tinydevcrm.import_staging('staging', 'Orders') \g /dev/null
select tinydevcrm.create_source(
           'nightly orders', 'https://example.com/export.csv?token=s3cret', 'Orders', 'upsert', '{id}',
           '{"delimiter": ";"}', 'daily at 6:00', '{"X-Key": "s3cret"}', 0.5) \g /dev/null
select tinydevcrm.create_source('b', 'https://example.com/b.csv') \g /dev/null
select tinydevcrm.create_source('c', 'https://example.com/c.csv') \g /dev/null

reset session authorization;
-- As an orchestrator would: the first is imported, the second fails, the third waits.
update tinydevcrm.source_runs
   set status = 'imported', row_count = 2, filename = 'export.csv', import_number = imports.id
  from tinydevcrm.imports, tinydevcrm.sources
 where imports.schema_name = 'tap' and sources.id = source_id and sources.name = 'nightly orders';
update tinydevcrm.source_runs
   set status = 'failed', error_code = 'TD013', error_message = '404 Not Found'
  from tinydevcrm.sources
 where sources.id = source_id and sources.name = 'b';
set local session authorization "Tap One";

select results_eq(
    $$ select name, status, table_name collate "default" from tinydevcrm._list_sources('') $$,
    $$ values ('b', 'failing', 'tap.b'), ('c', 'ok', 'tap.c'), ('nightly orders', 'ok', 'tap."Orders"') $$,
    'those that need attention come first');
select results_eq(
    $$ select name from tinydevcrm._list_sources('', 'name', true, 1, 1) $$, $$ values ('c') $$,
    'they are sorted by name, page by page');
select results_eq(
    $$ select name from tinydevcrm._list_sources('ORDERS') $$, $$ values ('nightly orders') $$,
    'one is found by a part of its name or of its table''s');
select ok(
    not exists (select from tinydevcrm._list_sources('') as listed where listed::text like '%s3cret%'),
    'a list shows no secret');
select results_eq(
    $$ select (source).name, (source).url, words, table_key, upsert_key, options, header_names, refuse_if_fewer,
              accepts_empty, is_paused, is_open
         from tinydevcrm._describe_source('nightly orders') $$,
    $$ values ('nightly orders', 'https://example.com/…', 'every day at 06:00', 'tap."Orders"', '{id}'::text[],
               '{"delimiter": ";"}'::jsonb, '{X-Key}'::text[], 0.5, false, false, false) $$,
    'a source is described, its headers by their names');
select is(
    (select (source).name from tinydevcrm._describe_source('"nightly orders"')), 'nightly orders',
    'it is found by its name in events');
select is((select table_key from tinydevcrm._describe_source('c')), null, 'a table that is not there has no page');
select ok((select is_open from tinydevcrm._describe_source('c')), 'a run that waits is open');
select is_empty($$ select from tinydevcrm._describe_source('none') $$, 'a source that is not there is not described');

select results_eq(
    $$ select status, filename, row_count, import_number is not null, advice, finished_at is not null, is_late
         from tinydevcrm._list_source_runs('nightly orders', null, 9) $$,
    $$ values ('imported', 'export.csv', 2::bigint, true, null, true, false) $$, 'its runs are listed');
select results_eq(
    $$ select status, error_message, advice from tinydevcrm._list_source_runs('b', null, 9) $$,
    $$ values ('failed', '404 Not Found', 'Check the URL: the server has no such file.') $$,
    'a failure says what to do');
select is_empty(
    $$ select from tinydevcrm._list_source_runs('b', (select min(id) from tinydevcrm.source_runs), 9) $$,
    'older ones are those before one');
select is(tinydevcrm._advise_run('TD005', 'the file has no rows'), null, 'other errors have hints of their own');

select results_eq(
    $$ select name, schedule, state, is_troubled from tinydevcrm._list_sources_of('tap."Orders"') $$,
    $$ values ('nightly orders', 'daily at 6:00', 'ok', false) $$, 'a table has the sources that fill it');
select is(
    (select source_name from tinydevcrm._list_imports('orders')), 'nightly orders', 'an import has its source');
select results_eq(
    $$ select kind, key, state, reason from tinydevcrm._list_troubled(5) $$,
    $$ values ('source', 'b', 'failing', '404 Not Found') $$, 'a failing source needs attention');
select results_eq(
    $$ select kind, key, note from tinydevcrm._search('nightly', 5) $$,
    $$ values ('source', 'nightly orders', 'ok') $$, 'a search finds sources');
select results_eq(
    $$ select source_count, troubled_source_count from tinydevcrm.overview $$,
    $$ values (3::bigint, 1::bigint) $$, 'the overview counts them');

select throws_ok(
    $$ select tinydevcrm.alter_source('b', refuse_if_fewer => 50) $$, 'TD007', '''b'' cannot be a source',
    'a change keeps to the limits');

set local session authorization "Tap Two";
select is_empty(
    $$ select name from tinydevcrm._list_sources('')
        union all select (source).name from tinydevcrm._describe_source('b')
        union all select name from tinydevcrm._list_sources_of('tap.b')
        union all select key from tinydevcrm._search('b', 5) where kind = 'source'
        union all select source_name from tinydevcrm._list_imports('')
        union all select 'counted' from tinydevcrm.overview where source_count > 0 $$,
    'others see nothing of them');

select * from finish();

rollback;
