-- Which rows an event says were added, removed and updated, and how their baseline is kept.

begin;

select plan(61);

create schema "My Data";
set local search_path = "My Data", public;

create table things (id integer, "The Name" text, price numeric, seen text);
insert into things
values (1, 'one', 1.50, 'a'), (2, 'two', 2, 'a'), (3, 'three', null, 'a');

-- The counts of a refresh, and its changes in an order: "+1-1~1 {…}".
create function pg_temp.changed(relation regclass)
    returns text
    language sql
as $$
    select concat_ws(
               ' ',
               case when outcome = 'failed' then error_message end,
               case when is_notified then 'notified' else 'quiet' end,
               case when added_count is not null then concat('+', added_count, '-', removed_count, '~' || updated_count) end,
               (
                   select string_agg(
                              lists.key || ' ' || (
                                  select coalesce(string_agg(value::text, ' ' order by value::text), '-')
                                    from json_array_elements(lists.value)),
                              '; ' order by lists.key)
                     from (
                       values ('added', added_rows::json), ('removed', removed_rows::json), ('updated', updated_rows::json)
                     ) as lists (key, value)
                    where value is not null),
               case when is_cut then 'cut' end)
      from tinydevcrm.refresh_matview(changed.relation)
$$;

create function pg_temp.buckets(relation regclass)
    returns bigint
    language sql
as $$
    select count(*)
      from tinydevcrm.matview_baselines
     where matview_id = (select id from tinydevcrm.matviews where matviews.relation = buckets.relation)
$$;

-- without a key

select tinydevcrm.create_matview('plain', 'select "The Name", price, id from things', 'changed');
select is(pg_temp.changed('plain'), 'quiet', 'the first refresh has nothing to compare with');
select is(pg_temp.changed('plain'), 'quiet +0-0', 'without a change an event has no changes');
update things
   set price = 2.50
 where id = 2;
select is(
    pg_temp.changed('plain'),
    'notified +1-1 added {"The Name":"two","price":2.50,"id":2}; removed {"The Name":"two","price":2,"id":2}',
    'without a key an update is a row removed and one added, with the columns in the order of the view');
update things
   set price = 2.5
 where id = 2;
select is(
    pg_temp.changed('plain'),
    'notified +1-1 added {"The Name":"two","price":2.5,"id":2}; removed {"The Name":"two","price":2.50,"id":2}',
    'values are compared as text');
insert into things
select things.*
  from things
 cross join generate_series(1, 2)
 where id = 1;
select is(
    pg_temp.changed('plain'),
    'notified +2-0 added {"The Name":"one","price":1.50,"id":1} {"The Name":"one","price":1.50,"id":1}; removed -',
    'each copy is listed');
delete from things
 where ctid in (select max(ctid::text)::tid from things where id = 1);
select is(
    pg_temp.changed('plain'), 'notified +0-1 added -; removed {"The Name":"one","price":1.50,"id":1}', 'so is one copy that is gone');
update things
   set price = case id when 2 then null else 2.5 end
 where id in (2, 3);
select is(
    pg_temp.changed('plain'),
    'notified +2-2 added {"The Name":"three","price":2.5,"id":3} {"The Name":"two","price":null,"id":2}; '
    'removed {"The Name":"three","price":null,"id":3} {"The Name":"two","price":2.5,"id":2}',
    'a value that moves from one row to another is a change, null too');
update things
   set "The Name" = nullif("The Name", 'two')
 where id = 2;
select is(
    pg_temp.changed('plain'),
    'notified +1-1 added {"The Name":null,"price":null,"id":2}; removed {"The Name":"two","price":null,"id":2}',
    'null is another value');
update things
   set "The Name" = ''
 where id = 2;
select is(
    pg_temp.changed('plain'),
    'notified +1-1 added {"The Name":"","price":null,"id":2}; removed {"The Name":null,"price":null,"id":2}',
    'and so is the empty text');
delete from things;
select is(
    (select format('%s %s %s', removed_count, row_count, json_array_length(removed_rows::json))
       from tinydevcrm.refresh_matview('plain')),
    '4 0 4', 'all rows can go');
select is(pg_temp.changed('plain'), 'quiet +0-0', 'and are gone once');

-- with a key

insert into things
values (1, 'one', 1.50, 'a'), (2, 'two', 2, 'a'), (3, 'three', null, 'a');
select tinydevcrm.create_matview('keyed', 'select id, price, seen from things', 'changed', key => '{id}', ignored_columns => '{seen}');
select pg_temp.changed('keyed');
update things
   set price = coalesce(price, 0) + 1,
       seen = 'b'
 where id <> 1;
insert into things
values (4, 'four', 4, 'b');
delete from things
 where id = 1;
select is(
    pg_temp.changed('keyed'),
    'notified +3-3~2 added {"id":4,"price":4,"seen":"b"}; removed {"id":1,"price":1.50,"seen":"a"}; '
    'updated {"key": {"id": 2}, "old": {"id":2,"price":2,"seen":"a"}, "new": {"id":2,"price":3,"seen":"b"}} '
    '{"key": {"id": 3}, "old": {"id":3,"price":null,"seen":"a"}, "new": {"id":3,"price":1,"seen":"b"}}',
    'with a key an update is one row with its old and new values');
update things
   set seen = 'c';
select is(pg_temp.changed('keyed'), 'quiet +0-0', 'an ignored column is no update');
update things
   set id = 40
 where id = 4;
select is(
    pg_temp.changed('keyed'),
    'notified +1-1~0 added {"id":40,"price":4,"seen":"c"}; removed {"id":4,"price":4,"seen":"b"}; updated -',
    'another key is another row');
insert into things
values (40, 'twin', 7, 'c');
update things
   set price = 5
 where id = 40 and price = 4;
select is(
    pg_temp.changed('keyed'),
    'notified +2-1~0 added {"id":40,"price":5,"seen":"c"} {"id":40,"price":7,"seen":"c"}; '
    'removed {"id":40,"price":4,"seen":"c"}; updated -',
    'a key that rows share identifies none');
delete from things
 where id = 40;
select tinydevcrm.create_matview('two', 'select price as p, id as "A b", 1 as k from things where id < 10', 'changed', key => '{A b,k}');
select pg_temp.changed('two');
update things
   set price = 9
 where id = 2;
select is(
    pg_temp.changed('two'),
    'notified +1-1~1 added -; removed -; updated {"key": {"A b": 2, "k": 1}, "old": {"p":3,"A b":2,"k":1}, "new": {"p":9,"A b":2,"k":1}}',
    'a key of two columns is a key');
alter materialized view two rename column k to l;
update things
   set price = 8
 where id = 2;
select is(
    pg_temp.changed('two'),
    'notified +1-1~0 added {"p":8,"A b":2,"l":1}; removed {"p":9,"A b":2,"k":1}; updated -',
    'a key whose column is gone is none');

-- rows_removed and rows_added

select tinydevcrm.create_matview('added', 'select id from things', 'rows_added', key => '{id}');
select tinydevcrm.create_matview('removed', 'select id from things', 'rows_removed');
select pg_temp.changed('added'), pg_temp.changed('removed');
insert into things
values (6);
select pg_temp.changed('added');
insert into things
values (5);
select is(pg_temp.changed('removed'), 'quiet +2-0', 'rows_removed does not notify of added rows');
select is(
    (select format('%s %s %s %s %s', rows, added_rows, removed_rows, updated_rows, is_cut)
       from tinydevcrm.refresh_matview('added')),
    '[{"id": 5}] [{"id":5}] [] [] f',
    'rows_added carries the added rows as rows too');
delete from things
 where id = 5;
select is(
    (select concat_ws(' ', is_notified, coalesce(rows::text, 'no rows'), added_rows, removed_rows, updated_rows, is_cut)
       from tinydevcrm.refresh_matview('removed')),
    't no rows [] [{"id":5}] f',
    'rows_removed notifies of removed rows, and carries no others');
select is(pg_temp.changed('removed'), 'quiet +0-0', 'it notifies once');
select is(pg_temp.changed('added'), 'quiet +0-1~0', 'an event that does not notify has counts only');
select tinydevcrm.watch_matview('removed', notify_after => 2);
delete from things
 where id = 6;
select is(pg_temp.changed('removed'), 'quiet +0-1', 'a removed row may not notify yet');
select is(pg_temp.changed('removed'), 'notified +0-1 added -; removed {"id":6}', 'and stays removed until it does');
insert into things
values (6);
select pg_temp.changed('removed');
delete from things
 where id = 6;
select is(
    pg_temp.changed('removed'), 'quiet +0-1', 'what is added meanwhile becomes part of the baseline, as rows_added takes what is removed');

-- became_empty

select tinydevcrm.create_matview('gone', 'select id from things', 'became_empty');
select is(pg_temp.changed('gone'), 'quiet', 'became_empty does not notify of rows');
delete from things;
select is(pg_temp.changed('gone'), 'notified', 'became_empty notifies when there are none any more');
select is(pg_temp.changed('gone'), 'quiet', 'and notifies once');
select tinydevcrm.watch_matview('gone', notify_after => 2);
insert into things
values (1);
select pg_temp.changed('gone');
delete from things;
select is(
    array[pg_temp.changed('gone'), pg_temp.changed('gone'), pg_temp.changed('gone')], '{quiet,notified,quiet}',
    'with notify_after it notifies when the view has stayed empty, once');
select tinydevcrm.create_matview('never_full', 'select id from things', 'became_empty');
select is(pg_temp.changed('never_full'), 'quiet', 'a view without a refresh before has not become empty');

-- limits

insert into things (id, "The Name")
select i, repeat('x', 100)
  from generate_series(1, 600) as i;
select tinydevcrm.create_matview('limited', 'select id, "The Name" as t from things', 'changed', key => '{id}');
select pg_temp.changed('limited');
update things
   set "The Name" = 'y'
 where id <= 100;
delete from things
 where id > 500;
insert into things (id)
select i
  from generate_series(1001, 1100) as i;
select is(
    (select array[added_count, removed_count, updated_count, is_cut::integer,
                  json_array_length(added_rows::json),
                  json_array_length(removed_rows::json),
                  json_array_length(updated_rows::json)]
       from tinydevcrm.refresh_matview('limited')),
    array[200, 200, 100, 1, 4, 3, 3]::bigint[], 'the limit of rows holds for all three lists, which share it');
update tinydevcrm.settings
   set event_byte_limit = 500;
update things
   set "The Name" = repeat('z', 100)
 where id <= 2;
select is(
    (select array[updated_count, is_cut::integer, json_array_length(updated_rows::json)]
       from tinydevcrm.refresh_matview('limited')),
    array[2, 1, 2]::bigint[], 'is_cut says that the view has more rows than the event carries');
update things
   set "The Name" = repeat('w', 300)
 where id <= 2;
select is(
    (select array[updated_count, is_cut::integer, json_array_length(updated_rows::json)]
       from tinydevcrm.refresh_matview('limited')),
    array[2, 1, 1]::bigint[], 'the limit of bytes holds too');
select tinydevcrm.watch_matview('limited', 'rows_removed');
select pg_temp.changed('limited');
delete from things
 where id = 3;
select is(
    pg_temp.changed('limited'),
    format('notified +0-1~0 added -; removed {"id":3,"t":"y"}; updated -'),
    'an event that carries all that it is about is not cut');
update tinydevcrm.settings
   set event_byte_limit = default,
       compare_row_limit = 100;
delete from things
 where id between 4 and 6;
insert into things (id)
values (7000), (7000);
select is(
    pg_temp.changed('limited'), 'notified +2-3 added {"id":7000,"t":null} {"id":7000,"t":null} cut',
    'beyond compare_row_limit an event has counts and the added rows');
select is(
    (select count(*) from tinydevcrm.matview_baselines
      where rows is not null and matview_id = (select id from tinydevcrm.matviews where relation = 'limited'::regclass)),
    (select pg_temp.buckets('limited') - 2), 'and no rows are kept of what has changed');
update tinydevcrm.settings
   set compare_row_limit = default;

-- buckets

truncate things;
insert into things (id)
select i
  from generate_series(1, 100) as i;
select tinydevcrm.create_matview('grows', 'select id from things', 'changed');
select pg_temp.changed('grows');
select is(pg_temp.buckets('grows'), 1::bigint, 'a small view has one bucket');
insert into things (id)
select i
  from generate_series(101, 9000) as i;
select is(
    (select array[added_count, removed_count] from tinydevcrm.refresh_matview('grows')), '{8900,0}'::bigint[],
    'a view that grows gets more buckets, and loses no change');
select is(pg_temp.buckets('grows'), 32::bigint, 'one for about 256 rows');
create temporary table before as
select bucket, ctid as place
  from tinydevcrm.matview_baselines
 where matview_id = (select id from tinydevcrm.matviews where relation = 'grows'::regclass);
update things
   set id = -5
 where id = 5;
select is(
    pg_temp.changed('grows'), 'notified +1-1 added {"id":-5}; removed {"id":5} cut',
    'one of nine thousand rows is found');
select ok(
    (select count(*) between 1 and 2 from tinydevcrm.matview_baselines
      where matview_id = (select id from tinydevcrm.matviews where relation = 'grows'::regclass)
        and (bucket, ctid) not in (select bucket, place from before)),
    'only buckets that differ are written');
delete from things
 where id > 100;
select is(
    (select array[added_count, removed_count] from tinydevcrm.refresh_matview('grows')), '{0,8900}'::bigint[],
    'a view that shrinks has fewer buckets, and loses no change');
select is(pg_temp.buckets('grows'), 1::bigint, 'those beyond the last one are removed');

-- every value counts

create table values_of_types (id integer, a bigint, at timestamptz, d date, is_on boolean, r real, c text collate "C", p text collate "POSIX", "char" char(3));
insert into values_of_types
values (1, 1, '2024-01-01', '2024-01-01', true, 0, 'x', 'y', 'k'), (2, 2, 'infinity', 'infinity', false, 'NaN', 'v', 'w', 'l');
select tinydevcrm.create_matview('types', 'select * from values_of_types', 'changed');
select pg_temp.changed('types');

create function pg_temp.after(assignment text)
    returns text
    language plpgsql
as $$
begin
    execute 'update values_of_types set ' || assignment;
    return (select concat(error_message, '+', added_count, '-', removed_count) from tinydevcrm.refresh_matview('types'));
end
$$;

select is(pg_temp.after(assignment), '+1-1', 'a change: ' || assignment)
  from unnest(array[
           'a = 4294967296 where id = 1', 'at = at + ''1 us'' where id = 1', 'd = ''-infinity'' where id = 2', 'd = null where id = 1', 'is_on = null where id = 2', 'is_on = false where id = 1',
           'r = ''-0'' where id = 1', 'c = null where id = 1', 'p = p || '' '' where id = 1', '"char" = ''K'' where id = 1'
       ]) as assignment;
select is(pg_temp.after(assignment), '+2-2', 'a swap: ' || assignment)
  from unnest(array['c = case id when 1 then ''v'' end', 'a = case id when 1 then 2 else 4294967296 end']) as assignment;

-- random changes of a view of several buckets, compared with what except finds

create table many as
select i % 500 as a, i as b
  from generate_series(1, 3000) as i;
select tinydevcrm.create_matview('random', 'select * from many', 'changed');
select pg_temp.changed('random');

create function pg_temp.count_wrong(rounds integer)
    returns text
    language plpgsql
as $$
declare
    v_wrong text;
    v_event tinydevcrm.matview_refresh_events;
begin
    for v_round in 1 .. rounds loop
        create temporary table old as select * from random;
        delete from many where random() < 0.001 * v_round ^ 2 / 20;
        insert into many select a, b from many where random() < 0.002;
        update many set a = a + 1 where random() < 0.002;
        v_event := tinydevcrm.refresh_matview('random');
        select concat_ws(' ', v_wrong, nullif(format('%s %s', added, removed), format('%s %s', v_event.added_count, v_event.removed_count)))
          into v_wrong
          from (select count(*) as added from (select * from random except all select * from old) as rows) as one,
               (select count(*) as removed from (select * from old except all select * from random) as rows) as two;
        drop table old;
    end loop;
    return v_wrong;
end
$$;

select is(pg_temp.count_wrong(20), '', 'the counts of random changes are right');
select cmp_ok(pg_temp.buckets('random'), '>', 1::bigint, 'in several buckets');

-- values that jsonb cannot hold, and events as programs get them

create table documents (id integer, j json);
select tinydevcrm.create_matview('odd', 'select id, j from documents', 'rows_added');
select tinydevcrm.create_matview('odd_key', 'select id, j::text as j, j as k from documents', 'changed', key => '{id}');
select pg_temp.changed('odd_key');
select pg_temp.changed('odd');
insert into documents
values (1, '{"b": "\u0000",
             "a": 1e999999}');
select is(
    (select format(
                '%s %s %s %s', outcome, is_notified, coalesce(rows::text, 'no rows'),
                substring(tinydevcrm.event_json(event)::text from '"added" : .*, "is_cut"'))
       from tinydevcrm.refresh_matview('odd') as event),
    'refreshed t no rows "added" : [{"id":1,"j":{"b": "\u0000",              "a": 1e999999}}], '
    '"removed" : [], "updated" : null, "is_cut"',
    'a row that jsonb cannot hold is carried as it is, on one line');
select is(
    (select (tinydevcrm._print_numbers_as_text(event)).added_rows
       from tinydevcrm.matview_refresh_events as event where added_rows ~ '1e999999'),
    '[{"id":"1","j":{"b": "\u0000",              "a": "1e999999"}}]',
    'numbers are texts on request');
select tinydevcrm.watch_matview('odd', 'changed');
select pg_temp.changed('odd');
update documents
   set id = 2;
select is(
    (select format('%s %s', outcome, json_array_length(removed_rows::json)) from tinydevcrm.refresh_matview('odd')),
    'refreshed 1', 'neither does it make the rule changed fail');

insert into documents
values (3, '{"b": "\u0000"}');
select pg_temp.changed('odd_key');
update documents
   set j = '{"c": "\u0000"}'
 where id = 3;
select is(
    (select format('%s %s', outcome, removed_rows) from tinydevcrm.refresh_matview('odd_key')),
    'refreshed [{"id":3,"j":"{\"b\": \"\\u0000\"}","k":{"b": "\u0000"}}]',
    'such a row has no key');

select * from finish();

rollback;
