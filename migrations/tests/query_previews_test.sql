begin;
select plan(15);

create table numbers (n integer, "Odd ""name""" text);
insert into numbers select i, repeat('é', 300) from generate_series(1, 20) as i;

select is(
    (tinydevcrm.preview_query('select n, null as nothing, '''' as empty from numbers where n < 3 order by n;')).rows,
    '[["1", null, ""], ["2", null, ""]]'::jsonb,
    'the first rows come as texts and nulls');
select is(
    (tinydevcrm.preview_query('table numbers')).columns,
    '[{"name": "n", "type": "integer"}, {"name": "Odd \"name\"", "type": "text"}]'::jsonb,
    'the columns come with names and types');
select is(
    (tinydevcrm.preview_query('select n from numbers where false')).columns->0->>'type',
    'integer',
    'a query without rows has columns too');
select is(
    (tinydevcrm.preview_query('select n from numbers where false')).rows, '[]'::jsonb,
    'a query without rows has an empty array of rows');
select is(
    jsonb_array_length((tinydevcrm.preview_query('table numbers')).rows), 10,
    'a preview has at most ten rows');
select is(
    jsonb_array_length((tinydevcrm.preview_query('table numbers', 3)).rows), 3,
    'or as many as were requested');
select is(
    length((tinydevcrm.preview_query('select "Odd ""name""" from numbers', 1)).rows->0->>0), 201,
    'a long value is cut');
select is(to_regclass('pg_temp._query_preview'), null, 'no view is left behind');

select throws_ok(
    $$ select tinydevcrm.preview_query('select 1; drop table numbers') $$, 'TD002', null,
    'two statements are refused');
select throws_ok(
    $$ select tinydevcrm.preview_query(e' ;\n') $$, 'TD002', 'the query is empty',
    'an empty query is refused');
create function trips() returns integer language plpgsql as 'begin execute ''selekt 1''; return 1; end';
select throws_ok(
    $$ select tinydevcrm.preview_query('show work_mem') $$, 'TD002', null,
    'a text that is not a query is refused');
select throws_ok(
    $$ select tinydevcrm.create_matview('trip', 'select trips()') $$, '42601', null,
    'an error in a function is raised as it is');
select throws_ok(
    $$ select tinydevcrm.preview_query('select nope from numbers') $$, '42703', null,
    'the error of the database is raised as it is');
select throws_ok(
    $$ select tinydevcrm.preview_query('with d as (delete from numbers returning n) select n from d') $$,
    '0A000', null, 'a query that changes something is refused');
select is(count(*), 20::bigint, 'it changes nothing') from numbers;

select * from finish();
rollback;
