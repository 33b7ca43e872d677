-- Which views are stale: see create_change_tracking, track_matviews and follow_table_changes.
begin;

select plan(61);

create table orders (id integer primary key, name text);
create table items (order_id integer references orders on delete cascade);
create table parts (id integer) partition by range (id);
create table parts_1 partition of parts for values from (0) to (10);
create materialized view of_orders as select * from orders;
create materialized view of_items as select * from items;
create materialized view of_parts as select * from parts;
create materialized view of_matview as select count(*) from of_orders;
create materialized view of_clock as select now() as at;

do $$ begin
    perform tinydevcrm.watch_matview(name::regclass)
       from unnest(array['of_orders', 'of_items', 'of_parts', 'of_matview', 'of_clock']) as name;
    perform tinydevcrm._track_reads(relation) from tinydevcrm.matviews;
end $$;

create function refresh_all() returns void language sql as $$
    update tinydevcrm.matviews set seen_snapshot = tinydevcrm._current_snapshot();
    -- A transaction never sees its own changes in a snapshot, so they are taken away.
    delete from tinydevcrm.table_changes
$$;

create function stale() returns text language sql as $$
    select coalesce(string_agg(relation::text, ', ' order by relation::text), '')
      from tinydevcrm.matviews
     where tinydevcrm._is_stale(matviews)
       and is_tracked
$$;

create function after(command text) returns text language plpgsql as $$
begin
    perform refresh_all();
    execute after.command;
    return stale();
end
$$;

select is(
    (select string_agg(relation::text, ', ' order by relation::text)
       from tinydevcrm.matviews where is_tracked),
    'of_items, of_matview, of_orders, of_parts', 'views that depend on tables alone are tracked');
select matches(
    (select untracked_reason from tinydevcrm.matviews where relation = 'of_clock'::regclass),
    'now\(\)', 'the others say why not');
select is(stale(), 'of_items, of_matview, of_orders, of_parts', 'before its first refresh a view is stale');
select is(after('select'), '', 'after a refresh it is not');

select is(after('insert into orders values (1, ''a'')'), 'of_orders', 'insert');
select is(after('update orders set name = ''b'''), 'of_orders', 'update');
select is(
    after('insert into orders values (1, ''c'') on conflict (id) do update set name = excluded.name'),
    'of_orders', 'upsert');
select is(after('insert into items values (1)'), 'of_items', 'insert into another table');
select is(after('delete from orders'), 'of_items, of_orders', 'delete, and a foreign key that cascades');
select is(after('truncate orders cascade'), 'of_items, of_orders', 'truncate, and its cascade');
select is(after('insert into parts values (1)'), 'of_parts', 'insert by the partitioned table');
select is(after('insert into parts_1 values (2)'), 'of_parts', 'insert by the partition');
create materialized view of_part as select * from parts_1;
select tinydevcrm.watch_matview('of_part');
select is(after('insert into parts values (3)'), 'of_part, of_parts', 'a view of one partition: insert by the partitioned table');
create table super (id integer) partition by range (id);
select tinydevcrm.track_table('super');
alter table super attach partition parts for values from (0) to (100);
select is(after('insert into super values (4)'), 'of_part, of_parts', 'and by one that the table has become a part of');
create table parts_9 partition of parts for values from (90) to (100);
select is(after('delete from parts_9'), 'of_parts', 'but not a change of another partition');
alter table super detach partition parts;
drop table parts_9;
drop materialized view of_part;
select is(after('create table parts_2 partition of parts for values from (10) to (20)'), 'of_parts', 'a new partition');
select is(after('insert into parts_2 values (12)'), 'of_parts', 'insert into the new partition');
select is(
    after('create table parts_3 (id integer); insert into parts_3 values (25);
           alter table parts attach partition parts_3 for values from (20) to (30)'),
    'of_parts', 'a partition that is attached');
select is(after('update parts_3 set id = 26'), 'of_parts', 'update of the attached partition');
select is(after('alter table parts detach partition parts_3'), 'of_parts', 'a partition that is detached');
select is(after('insert into parts_3 values (27)'), '', 'which is no part any more');
select is(after('drop table parts_2'), 'of_parts', 'a partition that is dropped');
select is(after('refresh materialized view of_orders'), 'of_matview, of_orders', 'a refresh by hand, which may have an old snapshot, and what reads the view');
select is(after('create index on orders (name)'), '', 'an index changes no rows');

select refresh_all();
savepoint undone;
insert into orders values (5, 'x');
rollback to savepoint undone;
select is(stale(), '', 'a change that is rolled back is none');
insert into orders values (6, 'x');
select is(stale(), 'of_orders', 'a change after a savepoint that was rolled back');

select refresh_all();
set session_replication_role = replica;
insert into orders values (7, 'x');
select is(stale(), 'of_orders', 'session_replication_role = replica does not hide a change');
set session_replication_role = origin;

select is(
    (select count(*) from tinydevcrm.table_changes where relation = 'orders'::regclass), 1::bigint,
    'a transaction writes one row per table');

select refresh_all();
alter table orders disable trigger all;
select is(
    (select untracked_reason from tinydevcrm.matviews where relation = 'of_orders'::regclass),
    'the table public.orders is not tracked', 'a disabled trigger tracks nothing');
insert into orders values (8, 'x');
alter table orders enable always trigger tinydevcrm_record_change;
select is(stale(), 'of_orders', 'after it is enabled again, what it did not see counts');

select tinydevcrm.untrack_table('orders');
select is(
    (select is_tracked from tinydevcrm.matviews where relation = 'of_orders'::regclass), false,
    'untrack_table() ends it');
select is(
    (select count(*) from pg_trigger where tgname = 'tinydevcrm_record_change'
        and tgrelid = 'orders'::regclass), 0::bigint, 'and removes the trigger');
select tinydevcrm.track_table('orders');
select is(
    (select is_tracked from tinydevcrm.matviews where relation = 'of_orders'::regclass), true,
    'track_table() begins it again');
drop trigger tinydevcrm_record_change on orders;
select is(
    (select is_tracked from tinydevcrm.matviews where relation = 'of_orders'::regclass), false,
    'a dropped trigger ends it too');
select tinydevcrm.track_table('orders');

create view shown as select id from orders;
create materialized view of_shown as select * from shown;
select tinydevcrm.watch_matview('of_shown');
select is(
    after('create or replace view shown as select id from orders where id > 5'), 'of_shown',
    'a view with another query');
select is(
    after('create or replace view shown as select id from orders where now() is not null'), '',
    'and with a query that calls now()');
select matches(
    (select untracked_reason from tinydevcrm.matviews where relation = 'of_shown'::regclass),
    'now\(\)', 'which cannot be tracked');

-- what is not a table

create type mood as enum ('sad');
create type pair as (a integer, b text);
create domain moods as mood[];
create function plain(integer) returns integer immutable language sql as 'select $1';
create function add_plain(integer, integer) returns integer immutable language sql as 'select $1 + $2';
create operator |+| (procedure = add_plain, leftarg = integer, rightarg = integer);
create aggregate sum_plain(integer) (sfunc = add_plain, stype = integer, initcond = '0');
create text search configuration search (copy = simple);
create table feelings (felt moods, two pair, id integer);
create view via_rule as select id from feelings;
create materialized view of_labels as select felt::text from feelings;
create materialized view of_pairs as select two::text from feelings;
create materialized view of_calls as select plain(id) from feelings;
create materialized view of_operators as select id |+| 1, (select sum_plain(id) from feelings) from feelings;
create materialized view of_words as select to_tsvector('search', id::text) from feelings;
create materialized view of_rule as select id from via_rule;
do $$ begin
    perform tinydevcrm.watch_matview(name::regclass)
       from unnest(array[
           'of_labels', 'of_pairs', 'of_calls', 'of_operators', 'of_words', 'of_rule']) as name;
end $$;
select is(after('select'), '', 'views of types and functions are tracked');
select is(
    after('alter type mood rename value ''sad'' to ''blue'''), 'of_calls, of_labels, of_operators, of_pairs, of_rule, of_words',
    'a label of a type, in a domain of its array: all views of that table');
select is(
    after('create or replace function plain(integer) returns integer immutable language sql as ''select 2'''),
    'of_calls', 'another body of an immutable function');
select is(
    after('create or replace function add_plain(integer, integer) returns integer immutable language sql as ''select 2'''),
    'of_operators', 'also of one behind an operator and an aggregate');
select is(
    after('alter text search configuration search alter mapping for asciiword with english_stem'),
    'of_words', 'a text search configuration');
select is(after('create or replace rule "_RETURN" as on select to via_rule do instead select id + 1 as id from feelings'),
    'of_rule', 'a view whose query a rule replaces');
select is(
    after('alter type pair drop attribute b'),
    'of_calls, of_labels, of_operators, of_pairs, of_rule, of_words', 'an attribute of a composite type');
select after('alter function plain(integer) volatile');
select matches(
    (select untracked_reason from tinydevcrm.matviews where relation = 'of_calls'::regclass),
    'plain\(integer\), which is volatile', 'a function that becomes volatile ends the tracking');

-- commands that were not followed

create schema elsewhere;
create table elsewhere.parts_7 partition of parts for values from (70) to (80);
select is(after('drop schema elsewhere cascade'), 'of_parts', 'a partition that is dropped with its schema');
set session_replication_role = replica;
select after('create table parts_8 partition of parts for values from (80) to (90)');
set session_replication_role = origin;
select tinydevcrm._settle_tracking();
select is(after('select'), '', 'upkeep analyzes a view for which no trigger did');
select is(after('insert into parts_8 values (81)'), 'of_parts',
    'session_replication_role = replica does not hide a new partition');

refresh materialized view of_parts;
select is(after('refresh materialized view of_parts with no data'), 'of_parts', 'a view without rows is stale');
refresh materialized view of_parts;
select is(
    after('alter table parts_1 disable trigger all; alter table parts_1 enable trigger all'), 'of_parts',
    'a trigger that was off for a while is on again');
select is(after('insert into parts_1 values (3)'), 'of_parts', 'and tracks');

select throws_ok(
    $$ select tinydevcrm.track_table('of_shown') $$, 'TD007',
    'public.of_shown is not a table that can be tracked', 'only tables can be tracked');
select throws_ok(
    $$ select tinydevcrm.track_table(null) $$, 'TD007',
    'null is not a table that can be tracked', 'null cannot');

update tinydevcrm.matviews set seen_snapshot = '100000000000:100000000000:'
 where relation = 'of_orders'::regclass;
select is(
    tinydevcrm._is_stale(matviews), true, 'a snapshot of another server counts for nothing')
  from tinydevcrm.matviews where relation = 'of_orders'::regclass;

-- a restored dump: the numbers of the other server's transactions may come again

select refresh_all();
insert into tinydevcrm.table_changes (relation, xid)
values ('orders', 100000000000);
select is(stale(), 'of_orders', 'a change by a transaction that has not been yet');
update tinydevcrm._change_horizon set server_id = 1;
select tinydevcrm._remove_seen_changes();
select is(
    (select count(*) from tinydevcrm.table_changes where xid = 100000000000), 0::bigint,
    'is removed when it is of another server');
select is(
    (select count(*) from tinydevcrm.matviews where not tinydevcrm._is_stale(matviews)), 0::bigint,
    'and each view is stale then');
select refresh_all();
select tinydevcrm._remove_seen_changes();
select is(stale(), '', 'once');

create role tracking_writer;
grant insert on orders to tracking_writer;
select refresh_all();
set role tracking_writer;
insert into orders values (100, 'x');
reset role;
select is(stale(), 'of_orders', 'who may write the table needs no rights of ours');

create role tracking_other;
grant tinydevcrm_user to tracking_other;
set role tracking_other;
select is((select count(*) from tinydevcrm.table_changes), 0::bigint, 'nobody sees the changes of others');
select throws_ok(
    $$ select tinydevcrm.track_table('orders') $$, '42501', null, 'nor tracks their tables');
reset role;

select * from finish();
rollback;
