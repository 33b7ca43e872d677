-- What the page shows of a user's tables, and does with them.

begin;

select plan(26);

create schema "My Data";
set local search_path = "My Data", public;

create table "my orders" (id integer primary key, customer text, price numeric, paid boolean, place point, data json);
insert into "my orders"
select n, case when n % 4 > 0 then 'customer ' || n % 4 end, n * 1.5, n % 3 = 1, point(n, 0), '{"n": 1}'
  from generate_series(1, 12) as n;
create table lines (order_id integer references "my orders");
create view plain as select * from "my orders";
create materialized view stored as select * from plain;

select tinydevcrm.create_matview('dear', 'select * from plain where price > 10');

-- columns

select results_eq(
    $$ select name, type, is_number, row_count, null_count, distinct_count, lowest, highest, frequent, frequencies
         from tinydevcrm._summarize_columns('"my orders"') $$,
    $$ values ('id', 'integer', true, 12::bigint, 0::bigint, 12::bigint, '1', '12', array['1', '2', '3'], array[1, 1, 1]::bigint[]),
              ('customer', 'text', false, 12, 3, 3, 'customer 1', 'customer 3', array['customer 1', 'customer 2', 'customer 3'], array[3, 3, 3]),
              ('price', 'numeric', true, 12, 0, 12, '1.5', '18.0', array['1.5', '3.0', '4.5'], array[1, 1, 1]),
              ('paid', 'boolean', false, 12, 0, 2, 'false', 'true', array['false', 'true'], array[8, 4]),
              ('place', 'point', false, 12, 0, 12, null, null, array['(1,0)', '(10,0)', '(11,0)'], array[1, 1, 1]),
              ('data', 'json', false, 12, 0, 1, null, null, array['{"n": 1}'], array[12]) $$,
    'nulls, different values, the lowest and the highest, and the most frequent ones');
select is(row_count, 2::bigint, 'of as many rows as a number of cells has')
  from tinydevcrm._summarize_columns('"my orders"', 12) where name = 'id';
select is(row_limit, 2::bigint, 'which it says')
  from tinydevcrm._summarize_columns('"my orders"', 12) where name = 'id';
select is(distinct_count, 12::bigint, 'of a materialized view too')
  from tinydevcrm._summarize_columns('stored') where name = 'id';
truncate lines, "my orders";
select results_eq(
    $$ select row_count, null_count, distinct_count, lowest, frequent from tinydevcrm._summarize_columns('"my orders"') where name = 'id' $$,
    $$ values (0::bigint, 0::bigint, 0::bigint, null::text, null::text[]) $$, 'of an empty table');
create domain note as json;
create type noted as (note json);
create table notes as
select array['{}'::json] as list, '{}'::note as note, row('{}')::noted as noted, '1'::xid as xid, n from generate_series(1, 2) as n;
select results_eq(
    $$ select name, distinct_count, lowest, frequent[1] from tinydevcrm._summarize_columns('notes') $$,
    $$ values ('list', 1::bigint, null, '{"{}"}'), ('note', 1, null, '{}'), ('noted', 1, null, '({})'), ('xid', 1, null, '1'), ('n', 2, '1', '1') $$,
    'of values without an order, also inside of other types');
drop table notes;
create table nothing ();
select is_empty($$ select * from tinydevcrm._summarize_columns('nothing') $$, 'of a table without columns');

-- tables

select results_eq(
    $$ select relation::text, matview_count from tinydevcrm._list_tables('my data', 'name') $$,
    $$ values ('lines', 0::bigint), ('"my orders"', 1), ('nothing', 0) $$,
    'a user''s tables, with the number of views that read them');
select results_eq(
    $$ select relation::text from tinydevcrm._list_tables('my data', 'views', true, 1, 0) $$,
    $$ values ('"my orders"') $$, 'sorted, and a page of them');
select results_eq(
    $$ select name, place, key from tinydevcrm._describe_table('{none,my orders}') $$,
    $$ values ('my orders', 2::bigint, '"My Data"."my orders"') $$, 'a table by its bare name');
select is(count(*), 3::bigint, 'by each way to write it')
  from unnest(array['"my orders"', 'My Data.my orders', '"My Data"."my orders"']) as name
 cross join tinydevcrm._describe_table(array[name]);
select is_empty($$ select * from tinydevcrm._describe_table('{pg_catalog.pg_class,tinydevcrm.matviews}') $$, 'not one of the system');
select set_eq(
    $$ select kind, relation::text, constraint_name, key from tinydevcrm._list_dropped_with('"my orders"') $$,
    $$ values ('view', 'plain', null, null), ('materialized view', 'stored', null, null),
              ('watched view', 'dear', null, '"My Data".dear'), ('foreign key', 'lines', 'lines_order_id_fkey', null) $$,
    'what is dropped with a table');

create table orders () inherits ("my orders");
create view "of orders" as select * from orders;
create table kept ("order" "my orders", n integer);
create function total("my orders") returns numeric language sql as 'select $1.price';
select set_eq(
    $$ select kind, coalesce(constraint_name, relation::text) from tinydevcrm._list_dropped_with('"my orders"') $$,
    $$ values ('view', 'plain'), ('materialized view', 'stored'), ('watched view', 'dear'), ('foreign key', 'lines_order_id_fkey'),
              ('table', 'orders'), ('view', '"of orders"'), ('table column', '"My Data".kept."order"'),
              ('function', '"My Data".total("My Data"."my orders")') $$,
    'also tables that inherit from it, and what is of its row type');
select is_empty($$ select * from tinydevcrm._list_dropped_with('kept') $$, 'nothing for a table on which nothing depends');
create table numbered (id serial primary key, other integer generated always as identity, parent integer references numbered, check (id > 0));
create index on numbered ((id + other)) where other > 0;
select is_empty($$ select * from tinydevcrm._list_dropped_with('numbered') $$, 'not the parts of the table');
drop table orders, kept cascade;
drop function total("my orders");
drop table numbered;

-- changes

select throws_ok($$ select tinydevcrm._rename_table('"my orders"', repeat('x', 64)) $$, 'TD007', null, 'a name that no table can have');
select is(tinydevcrm._rename_table('"my orders"', 'Orders 2026'), '"My Data"."Orders 2026"', 'a table is renamed');
select throws_ok($$ select tinydevcrm._drop_table('"Orders 2026"', false) $$, '2BP01', null, 'a table that is read is not dropped alone');
select lives_ok($$ select tinydevcrm._drop_table('"Orders 2026"', true) $$, 'but with what reads it');
select is(count(*), 1::bigint, 'and the drop of the view is an event')
  from tinydevcrm.matview_refresh_events where matview = '"My Data".dear' and outcome = 'dropped';

-- imports

create temporary table staging (n text);
insert into staging values ('1'), ('2');
select tinydevcrm.import_staging('staging', 'first one');
select tinydevcrm.import_staging('staging', 'second');
alter table "first one" rename to "1st";
select results_eq(
    $$ select key, relation::text, (imported).row_count from tinydevcrm._list_imports('my data') limit 2 $$,
    $$ values ('"My Data".second', 'second', 2::bigint), ('"My Data"."1st"', '"1st"', 2) $$,
    'imports, newest first, with the present names of their tables');
create table "first one" ();
select results_eq(
    $$ select relation::text, source from tinydevcrm._list_tables('1st') union all
       select relation::text, source from tinydevcrm._list_tables('first') $$,
    $$ values ('"1st"', 'staging'), ('"first one"', null) $$, 'they go with the table, also under a new name');
select results_eq(
    $$ select relation::text from tinydevcrm._list_imports('FIRST', null, 1, 0) $$,
    $$ values ('"1st"') $$, 'found by a part of the old name');
select is(relation::text, 'second', 'or by the number')
  from tinydevcrm._list_imports('', (select max(id) from tinydevcrm.imports));
drop table second;
select results_eq(
    $$ select key, relation from tinydevcrm._list_imports('my data', null, 1, 0) $$,
    $$ values (null::text, null::regclass) $$, 'a table that is gone has no key');

select * from finish();
rollback;
