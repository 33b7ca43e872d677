-- When a refresh notifies, and with which rows.

begin;

select plan(47);

create schema "My Data";
set local search_path = "My Data", public;

create table numbers (n integer, "Checked At" text);

-- Refreshes a view and returns the result in one line.
create function pg_temp.refreshed(relation regclass)
    returns text
    language sql
as $$
    select concat_ws(
               ' ',
               outcome,
               case when is_notified then 'notified' else 'quiet' end,
               row_count,
               case when added_count is not null then format('+%s-%s', added_count, removed_count) end,
               (select jsonb_agg(value order by value) from jsonb_array_elements(rows)),
               case when is_cut then 'cut' end)
      from tinydevcrm.refresh_matview(refreshed.relation)
$$;

create function pg_temp.watch(rule text)
    returns void
    language sql
as $$
    select tinydevcrm.create_matview(rule, 'select n from numbers', rule)
$$;

select pg_temp.watch(rule)
  from (select name from tinydevcrm.notify_rules order by rank) as known (rule);

select is(pg_temp.refreshed('not_empty'), 'refreshed quiet 0', 'not_empty does not notify of an empty view');
select is(pg_temp.refreshed('empty'), 'refreshed notified 0', 'empty notifies');
select is(pg_temp.refreshed('became_not_empty'), 'refreshed quiet 0', 'became_not_empty does not notify');
select is(pg_temp.refreshed('changed'), 'refreshed quiet 0', 'changed has nothing to compare with at first');
select is(pg_temp.refreshed('rows_added'), 'refreshed quiet 0', 'rows_added has nothing to compare with at first');
select is(pg_temp.refreshed('always'), 'refreshed notified 0', 'always notifies');
select is(pg_temp.refreshed('never'), 'refreshed quiet 0', 'never does not notify');

insert into numbers
values (1), (1);

select is(pg_temp.refreshed('not_empty'), 'refreshed notified 2 [{"n": 1}, {"n": 1}]', 'not_empty notifies of a view with rows');
select is(pg_temp.refreshed('empty'), 'refreshed quiet 2', 'empty does not notify of a view with rows');
select is(pg_temp.refreshed('became_not_empty'), 'refreshed notified 2 [{"n": 1}, {"n": 1}]', 'became_not_empty notifies');
select is(pg_temp.refreshed('became_not_empty'), 'refreshed quiet 2', 'became_not_empty notifies once');
select is(
    pg_temp.refreshed('changed'), 'refreshed notified 2 +2-0 [{"n": 1}, {"n": 1}]',
    'changed counts the rows that were added and removed');
select is(pg_temp.refreshed('changed'), 'refreshed quiet 2 +0-0', 'changed does not notify when nothing changed');
select is(
    pg_temp.refreshed('rows_added'), 'refreshed notified 2 +2-0 [{"n": 1}, {"n": 1}]',
    'rows_added carries the added rows, each copy');
select is(pg_temp.refreshed('never'), 'refreshed quiet 2', 'never does not notify of a view with rows');

-- multisets

insert into numbers
values (1), (2);

select is(
    pg_temp.refreshed('rows_added'), 'refreshed notified 4 +2-0 [{"n": 1}, {"n": 2}]',
    'one more copy of a row is an added row');

delete from numbers
 where n = 1;

select is(pg_temp.refreshed('rows_added'), 'refreshed quiet 1 +0-3', 'rows_added does not notify of removed rows');
select is(pg_temp.refreshed('changed'), 'refreshed notified 1 +1-2 [{"n": 2}]', 'changed notifies of removed rows');

insert into numbers
values (1);

select is(
    pg_temp.refreshed('rows_added'), 'refreshed notified 2 +1-0 [{"n": 1}]', 'a removed row that returns is added again');

-- between two refreshes of ours

insert into numbers
values (7);
refresh materialized view rows_added;

select is(
    pg_temp.refreshed('rows_added'), 'refreshed notified 3 +1-0 [{"n": 7}]',
    'a refresh by hand in between loses no added row');

-- limits

insert into numbers
select i
  from generate_series(100, 119) as i;

select is(
    (select array[added_count, jsonb_array_length(rows), is_cut::integer]
       from tinydevcrm.refresh_matview('rows_added')),
    array[20, 10, 1]::bigint[], 'an event carries as many rows as settings allow, and says that there are more');

select tinydevcrm.create_matview('wide', 'select repeat(''x'', 40000) as text from numbers', 'rows_added');
select tinydevcrm.refresh_matview('wide');
insert into numbers
values (0), (0);

select is(
    (select array[added_count, jsonb_array_length(rows), is_cut::integer]
       from tinydevcrm.refresh_matview('wide')),
    array[2, 1, 1]::bigint[], 'an event carries at most as many bytes as settings allow');

-- failures

select tinydevcrm.create_matview('tenth', 'select 10 / n as tenth from numbers where n < 10 and n <> 0', 'rows_added');
select pg_temp.refreshed('tenth');
alter table numbers add column m integer;

select tinydevcrm.create_matview('risky', 'select n, 10 / m as tenth from numbers where m is not null', 'rows_added');
select pg_temp.refreshed('risky');
insert into numbers (n, m)
values (50, 0);

select is(pg_temp.refreshed('risky'), 'failed notified', 'a failure notifies whatever the rule');
select is(pg_temp.refreshed('risky'), 'failed quiet', 'the second failure of a streak does not notify');

update numbers
   set m = 5
 where n = 50;

select is(
    pg_temp.refreshed('risky'), 'recovered notified 1 +1-0 [{"n": 50, "tenth": 2}]',
    'a recovery notifies, compared with the rows before the failure');
select is(pg_temp.refreshed('risky'), 'refreshed quiet 1 +0-0', 'after the recovery the rule decides again');

-- intervals

create function pg_temp.wait_over(relation regclass)
    returns void
    language sql
as $$
    update tinydevcrm.matviews
       set last_notified_at = last_notified_at - interval '1 hour'
     where matviews.relation = wait_over.relation
$$;

delete from numbers;
select tinydevcrm.create_matview('seldom', 'select n from numbers', 'rows_added', notify_interval => '1 hour');
select tinydevcrm.create_matview('often', 'select n from numbers', 'became_not_empty', notify_interval => '1 hour');
select pg_temp.refreshed('seldom'), pg_temp.refreshed('often');
insert into numbers
values (1);

select is(pg_temp.refreshed('seldom'), 'refreshed notified 1 +1-0 [{"n": 1}]', 'the first refresh with added rows notifies');
insert into numbers
values (2);
select is(pg_temp.refreshed('seldom'), 'refreshed quiet 2', 'the next within the interval does not notify');
select pg_temp.wait_over('seldom');
insert into numbers
values (3);
select is(
    pg_temp.refreshed('seldom'), 'refreshed notified 3 +2-0 [{"n": 2}, {"n": 3}]',
    'the first after the interval carries what was added meanwhile');

select is(pg_temp.refreshed('often'), 'refreshed notified 3 [{"n": 1}, {"n": 2}, {"n": 3}]', 'became_not_empty notifies');
delete from numbers;
select is(pg_temp.refreshed('often'), 'refreshed quiet 0', 'the view becomes empty');
insert into numbers
values (4);
select is(pg_temp.refreshed('often'), 'refreshed quiet 1', 'rows within the interval do not notify');
select pg_temp.wait_over('often');
select is(pg_temp.refreshed('often'), 'refreshed notified 1 [{"n": 4}]', 'they notify when the interval is over');

-- columns left out, and changes of the rule

select tinydevcrm.create_matview(
    'checked', 'select n, "Checked At" from numbers', 'changed', ignored_columns => '{Checked At}');
select pg_temp.refreshed('checked');
update numbers
   set "Checked At" = 'today';

select is(pg_temp.refreshed('checked'), 'refreshed quiet 1 +0-0', 'a column left out does not count');
select lives_ok(
    $$ select tinydevcrm.watch_matview('checked', ignored_columns => '{}') $$, 'the ignored columns can be changed');
select is(pg_temp.refreshed('checked'), 'refreshed quiet 1', 'a changed comparison begins anew without a notification');
update numbers
   set "Checked At" = 'tomorrow';
select is(
    pg_temp.refreshed('checked'), 'refreshed notified 1 +1-1 [{"n": 4, "Checked At": "tomorrow"}]', 'a column that is no longer left out counts');
select is(
    (select array[notify_when, notify_interval::text]
       from tinydevcrm.watch_matview('checked', 'always', notify_interval => '5 minutes')),
    array['always', '00:05:00'], 'the rule and the interval can be changed at any time');
select is_empty(
    $$ select from tinydevcrm.matview_baselines
         join tinydevcrm.matviews on id = matview_id
        where relation = 'checked'::regclass $$,
    'a rule that does not compare has no baseline');

select throws_ok(
    $$ select tinydevcrm.watch_matview('checked', ignored_columns => '{nowhere}') $$, 'TD007',
    '"My Data".checked has no column nowhere', 'a column that is not there cannot be left out');
select throws_ok(
    $$ select tinydevcrm.watch_matview('checked', notify_interval => '-1 second') $$, 'TD007', null,
    'a negative interval is refused');

-- every type, with any settings of the session

create type pair as (a integer, b json);
create table things as
select '{"b": 1,  "a": 2}'::json as j,
       int4range(1, 5) as x,
       point(1, 2) as p,
       (1, '{}')::pair as c,
       array['{}'::json] as js,
       timestamptz '2024-01-31 10:00:00+00' as at,
       0.1::double precision + 0.2 as f,
       '\xff'::bytea as bytes,
       interval '1 day 2 hours' as i,
       null::text as nothing;
select tinydevcrm.create_matview('all_types', 'select * from things', 'rows_added');
select pg_temp.refreshed('all_types');
set local timezone = 'Asia/Tokyo';
set local datestyle = 'German';
set local intervalstyle = 'iso_8601';
set local extra_float_digits = -5;
set local bytea_output = 'escape';
select is(
    pg_temp.refreshed('all_types'), 'refreshed quiet 1 +0-0',
    'the same rows are the same in a session with other settings');
insert into things
select '{"b": 1, "a": 2}'::json, x, p, c, js, at, f, bytes, i, nothing
  from things;
select is(
    (select array[added_count, jsonb_array_length(rows)] from tinydevcrm.refresh_matview('all_types')),
    array[1, 1]::bigint[], 'a row with another text is another row');
insert into things
select '{"a": "\u0000"}'::json, x, p, c, js, at, f, bytes, i, nothing
  from things
 limit 1;
select is(
    (select array[outcome, is_notified::text, added_count::text, rows::text, is_cut::text]
       from tinydevcrm.refresh_matview('all_types')),
    array['refreshed', 'true', '1', null, 'true'], 'a row that jsonb cannot hold notifies and is not carried');

-- odd names

create table odd as
select 1 as carried, 2 as "the row", 3 as "the hash", 4 as hashed, 5 as numbered;
select tinydevcrm.create_matview('odd_names', 'select * from odd', 'rows_added');
select pg_temp.refreshed('odd_names');
insert into odd
select 6, 7, 8, 9, 10;
select is(
    (select rows from tinydevcrm.refresh_matview('odd_names')),
    '[{"carried": 6, "the row": 7, "the hash": 8, "hashed": 9, "numbered": 10}]'::jsonb,
    'columns may have any names');
select tinydevcrm.watch_matview('odd_names', 'always');
select is(
    (select jsonb_array_length(rows) from tinydevcrm.refresh_matview('odd_names')), 2, 'columns may have any names by the other rules too');

select tinydevcrm.create_matview('keyed', 'select n from numbers', key => '{n}');
alter materialized view keyed rename column n to m;
refresh materialized view keyed with no data;
select pg_temp.refreshed('keyed');
select alike(
    (select format('%s %s', outcome, plain_reason) from tinydevcrm.matview_status where relation = 'keyed'::regclass),
    'refreshed its key has a column that does not exist%', 'a renamed column of the key is a reason, and no failure');

select * from finish();

rollback;
