-- The registry, and which queries create_matview() accepts.

begin;

select plan(42);

create schema "My Data";
set local search_path = "My Data", public;

create table numbers as
select generate_series(0, 9) as n;

select is(
    tinydevcrm.create_matview('Big "ones"', 'select * from numbers where n > 5 -- all of them')::text,
    '"Big ""ones"""',
    'create_matview() creates a view in the caller''s schema, with any name and any comment');
select results_eq(
    'select count(*)::integer from "Big ""ones"""', array[4], 'create_matview() fills the view');
select is_empty(
    'select from tinydevcrm.matview_refresh_events', 'create_matview() writes no event');
select lives_ok(
    $$ select tinydevcrm.create_matview('v', 'values (1), (2);') $$, 'values is a query, with a semicolon');
select lives_ok(
    $$ select tinydevcrm.create_matview('t', 'table numbers') $$, 'table is a query');

select throws_ok(query, sqlstate, null, why)
  from (
    values
        ($$ select tinydevcrm.create_matview('x', 'select 1; drop table numbers') $$, 'TD002',
            'two statements are refused'),
        ($$ select tinydevcrm.create_matview('x', 'select 1; select 2') $$, 'TD002',
            'two queries are refused'),
        ($$ select tinydevcrm.create_matview('x', 'drop table numbers') $$, 'TD002',
            'a statement that returns no rows is refused'),
        ($$ select tinydevcrm.create_matview('x', 'delete from numbers returning n') $$, 'TD002',
            'a delete is refused'),
        ($$ select tinydevcrm.create_matview(
                'x', 'with gone as (delete from numbers returning n) select * from gone') $$, '0A000',
            'a delete within a query is refused'),
        ($$ select tinydevcrm.create_matview('x', ' ; ') $$, 'TD002', 'an empty query is refused'),
        ($$ select tinydevcrm.create_matview('x', ' Explain select 1') $$, 'TD002', 'explain is refused'),
        ($$ select tinydevcrm.create_matview('x', null) $$, 'TD002', 'a null query is refused'),
        ($$ select tinydevcrm.create_matview('x', 'select nope from numbers') $$, '42703',
            'an error in the query is raised as it is'),
        ($$ select tinydevcrm.create_matview('x', 'select 1 / 0') $$, '22012',
            'so is an error that appears when the query runs'),
        ($$ select tinydevcrm.create_matview('numbers', 'select 1') $$, 'TD004',
            'a name in use is refused'),
        ($$ select tinydevcrm.create_matview('', 'select 1') $$, 'TD007', 'an empty name is refused'),
        ($$ select tinydevcrm.create_matview(repeat('x', 64), 'select 1') $$, 'TD007',
            'a long name is refused, not cut'),
        ($$ select tinydevcrm.create_matview('x', 'select 1', 'sometimes') $$, 'TD007',
            'an unknown rule is refused'),
        ($$ select tinydevcrm.watch_matview('numbers') $$, 'TD008', 'a table is refused'),
        ($$ select tinydevcrm.refresh_matview('numbers') $$, 'TD001',
            'a refresh of a relation that is not watched is refused')
  ) as refusals (query, sqlstate, why);

select results_eq('select count(*)::integer from numbers', array[10], 'no refused statement was run');

create materialized view by_hand as
select 1 as one;

select is(
    (tinydevcrm.watch_matview('by_hand', 'always')).notify_when, 'always',
    'watch_matview() registers a view made by hand');

select tinydevcrm.drop_matview('by_hand');

select is(
    to_regclass('by_hand'), null, 'drop_matview() drops it');

-- a key

create table keyed (id integer, name text);
insert into keyed
values (1, 'a'), (2, 'b');

select lives_ok(
    $$ select tinydevcrm.create_matview('k', 'select * from keyed', 'never', key => '{id}') $$,
    'a view may have a key');
select is(
    (select method from tinydevcrm.refresh_matview('k')), 'concurrently',
    'a view with a key is refreshed concurrently');
select is(
    (select plain_reason from tinydevcrm.matview_status where relation = 'k'::regclass), null,
    'a concurrent refresh has no reason to be plain');

insert into keyed
values (2, 'c');

select is(
    (select array[outcome, method, is_notified::text, plain_reason] from tinydevcrm.refresh_matview('k')),
    array['refreshed', 'plain', 'true',
          'rows share a key: Key (id)=(2) is duplicated.'],
    'rows that share a key make the refresh plain, and that notifies whatever the rule');
select is((select count(*) from k), 3::bigint, 'a plain refresh loses no row');
select is(
    (select array[method, is_notified::text] from tinydevcrm.refresh_matview('k')),
    array['plain', 'false'], 'it notifies once');
select is(
    (select plain_reason from tinydevcrm.matview_status where relation = 'k'::regclass),
    'rows share a key: Key (id)=(2) is duplicated.', 'the status shows the reason');

delete from keyed
 where name = 'c';

select is((select method from tinydevcrm.refresh_matview('k')), 'plain', 'the first refresh without such rows is plain');
select is(
    (select method from tinydevcrm.refresh_matview('k')), 'concurrently', 'the next one is concurrent again');
select is(
    (select plain_reason from tinydevcrm.matview_status where relation = 'k'::regclass), null,
    'and has no reason to be plain');
select throws_ok(
    $$ select tinydevcrm.create_matview('l', 'select 1 as n union all select 1', key => '{n}') $$,
    'TD009', 'two rows of the query have the same key',
    'a key that rows share from the start is refused');
select is(to_regclass('l'), null, 'a refused view is not created');

select tinydevcrm.create_matview('plain', 'select 1 as n');
select tinydevcrm.refresh_matview('plain');
select is(
    (select plain_reason from tinydevcrm.matview_status where relation = 'plain'::regclass),
    'it has no unique index on plain columns', 'a view without a unique index has that as its reason');

-- names that are free

select is(tinydevcrm._find_unused_name('free'), 'free', 'a free name stays as it is');
create table "Taken"();
create view "Taken_2" as select 1 as n;
select is(
    tinydevcrm._find_unused_name('Taken'), 'Taken_3', 'a name that a table or view has gets a number');
select is(
    tinydevcrm._find_unused_name(repeat('é', 31) || 'xx'), repeat('é', 31) || 'x',
    'a name over 63 bytes is cut');
select tinydevcrm.create_matview(repeat('é', 31), 'select 1 as n');
select is(
    tinydevcrm._find_unused_name(repeat('é', 32)), repeat('é', 30) || '_2',
    'a long name is cut between characters, with room for the number');

-- what it reads

create table "Far Away" as
select 1 as n;
create view between_them as
select * from "Far Away";
select tinydevcrm.create_matview('nearer', 'select * from between_them');
select tinydevcrm.create_matview('nearest', 'select n from nearer union all select 2 from between_them');
alter table "Far Away" rename to "Farther";
select is(
    (select reads::text[] from tinydevcrm.matview_status where relation = 'nearest'::regclass),
    array['"Farther"', 'nearer'], 'the status shows what a view reads, through views, by the present names');

select * from finish();

rollback;
