-- Another query for a watched view: what stays, what is built again, what is refused.

begin;

select plan(44);

create schema "Tap X";
set local search_path = "Tap X", public;
create role "Tap Reader";
create role "Tap Clerk";
create table facts (n integer, name text, m bigint);
insert into facts values (1, 'one', 10), (2, 'two', 20), (3, 'three', 30);

select tinydevcrm.create_matview(
    'The V', 'select n, name, m from facts where n < 3', 'changed', key => array['n'], ignored_columns => array['m']);
select tinydevcrm.create_subscription('mine', '"The V"');
select tinydevcrm.allow_embedding('"The V"', array['https://example.com']);
select tinydevcrm._assign_schedule('"The V"', '1 hour', null, null);
select tinydevcrm.refresh_matview('"The V"');

comment on materialized view "The V" is 'it''s mine';
comment on column "The V".name is 'a name';
create index "Name's Index" on "The V" (lower(name)) with (fillfactor = 70) where n > 0;
alter index "Name's Index" alter column 1 set statistics 77;
comment on index "Name's Index" is 'lowered';
create index m_index on "The V" (m);
create statistics pairs on n, name from "The V";
alter materialized view "The V" cluster on m_index;
alter materialized view "The V" set (fillfactor = 80, toast.autovacuum_enabled = false);
alter materialized view "The V" alter column name set statistics 55;
alter materialized view "The V" alter column name set storage external;
alter materialized view "The V" alter column n set (n_distinct = 5);
grant select on "The V" to "Tap Reader" with grant option;
grant select (name) on "The V" to "Tap Clerk";
grant select on "The V" to public;
revoke trigger on "The V" from current_user;
alter default privileges in schema "Tap X" grant update on tables to "Tap Clerk";

-- The state of a materialized view, apart from its numbers

create function pg_temp.state(relation regclass) returns text language sql as $$
    select concat_ws(
        E'\n',
        obj_description(c.oid), c.reloptions, (select t.reloptions from pg_class t where t.oid = c.reltoastrelid),
        (select string_agg(acl::text, ' ' order by acl::text) from unnest(c.relacl) as acl),
        (select string_agg(concat_ws(' ', attname, attstattarget, attstorage, (select string_agg(o, ' ') from unnest(attoptions) as o where o ~ '^n_distinct'), attacl, col_description(c.oid, attnum)), E'\n' order by attname)
           from pg_attribute where attrelid = c.oid and attnum > 0),
        (select string_agg(concat_ws(' ', pg_get_indexdef(indexrelid), indisclustered, obj_description(indexrelid),
                    (select string_agg(attstattarget::text, ',') from pg_attribute where attrelid = indexrelid)), E'\n' order by indexrelid::regclass::text)
           from pg_index where indrelid = c.oid),
        (select string_agg(pg_get_statisticsobjdef(oid), E'\n') from pg_statistic_ext where stxrelid = c.oid))
      from pg_class c
     where c.oid = $1
$$;
create function pg_temp.registration() returns text language sql as $$
    select to_jsonb(m)::text
      from (
        select id, owner, notify_when, ignored_columns, notify_interval, key, last_outcome, last_row_count,
               has_baseline, last_refreshed_at, last_notified_at, created_at, schedule_id
          from tinydevcrm.matviews
         where relation = '"Tap X"."The V"'::regclass
      ) as m
$$;
create temporary table before as
select '"The V"'::regclass::oid as oid,
       pg_temp.state('"The V"') as state,
       pg_temp.registration() as registration,
       (select max(id) from tinydevcrm.matview_refresh_events) as event_id;

-- A query with the same columns

create temporary table altered as
select * from tinydevcrm.alter_matview_query('"The V"', 'select n, name, m from facts where n > 1;  ');
select isnt('"The V"'::regclass::oid, (select oid from before), 'it is another materialized view');
select is((select matview from altered), '"The V"'::regclass, 'of the same name, which the function returns');
select results_eq('select n from "The V" order by n', 'values (2), (3)', 'with the rows of the new query');
select is(pg_temp.state('"The V"'), (select state from before),
    'grants, comments, options, statistics targets, storage, indexes and the cluster mark are as before');
select ok((select length(state) > 400 from before), 'and these are not few');
select is(pg_temp.registration(), (select registration from before),
    'number, schedule, rule, key, outcomes and times are as before');
select is((select warnings from altered), '{}', 'there is no warning');
select is((select rebuilt from altered), '{}', 'nothing is built on it');
select is(
    (select kept from altered),
    array['column n', 'column name', 'comment', 'index "Tap X"."Name''s Index"', 'index "Tap X"."The V_n_idx"',
          'index "Tap X".m_index',
          'privileges of "Tap Clerk"', 'privileges of "Tap Reader"', format('privileges of %I', current_user),
          'privileges of public', 'statistics "Tap X".pairs', 'baseline'],
    'what is kept is named');
select is((select count(*)::integer from pg_class where relnamespace = '"Tap X"'::regnamespace and relkind = 'm'), 1,
    'nothing of the old one is left');
select is((select max(id) from tinydevcrm.matview_refresh_events), (select event_id from before), 'the edit is no event');
select is((select relation from tinydevcrm.embeds), '"The V"'::regclass, 'the widget follows');
select is((select rows from tinydevcrm.embeds), '[["2", "two", "20"], ["3", "three", "30"]]', 'with the new rows');
select ok(
    (select is_analyzed and is_tracked and seen_snapshot is null
       from tinydevcrm.matviews where relation = '"The V"'::regclass),
    'it is analyzed anew, its table is tracked, and the next round of its schedule refreshes it');
select results_eq(
    $$ select row_count, added_count, removed_count, is_notified, method from tinydevcrm.refresh_matview('"The V"') $$,
    $$ values (2::bigint, 1::bigint, 1::bigint, true, 'concurrently') $$,
    'the next refresh reports what the new query has added and removed, and is concurrent');
select is(
    (select count(*)::integer
       from tinydevcrm.deliveries join tinydevcrm.subscriptions s on s.id = subscription_id
      where s.name = 'mine' and event_id > (select event_id from before)),
    1, 'and the subscription gets it');

-- Other columns

select tinydevcrm.alter_matview_query('"The V"', 'select n, name, m::text as m from facts where n > 1');
select ok((select has_baseline and seen_snapshot is null from tinydevcrm.matviews where relation = '"The V"'::regclass),
    'the type of an ignored column does not matter to the baseline');
select is((select added_count + removed_count from tinydevcrm.refresh_matview('"The V"')), 0::bigint,
    'which finds no difference');
truncate altered;
insert into altered
select * from tinydevcrm.alter_matview_query('"The V"', 'select name, n + 0.5 as n from facts where n > 1');
select is(
    (select warnings from altered),
    array['index "Tap X".m_index is gone: column "m" does not exist',
          'the baseline is made anew: other columns are compared now',
          'column m, which comparisons ignore, is gone'],
    'what cannot be kept is named');
select is((select key from tinydevcrm.matviews where relation = '"The V"'::regclass), array['n'], 'the key stays with its column');
insert into facts values (4, 'four', 40);
select results_eq(
    $$ select added_count, removed_count, is_notified from tinydevcrm.refresh_matview('"The V"') $$,
    $$ values (1::bigint, 0::bigint, true) $$,
    'the new baseline holds the rows as of the edit: the next refresh reports only what has changed since');
truncate altered;
insert into altered
select * from tinydevcrm.alter_matview_query('"The V"', 'select name from facts');
select ok((select warnings @> array['key (n) is gone'] and key is null
             from altered, tinydevcrm.matviews where relation = '"The V"'::regclass), 'a key without its column goes');
select is((select count(*)::integer from pg_index where indrelid = '"The V"'::regclass), 0, 'and so do its indexes');
select is((select matview_id from tinydevcrm.subscriptions where name = 'mine'),
          (select id from tinydevcrm.matviews where relation = '"The V"'::regclass), 'the subscription stays');

-- Rows that share a key

select tinydevcrm.create_matview('keyed', 'select n, name from facts', key => array['n']);
truncate altered;
insert into altered select * from tinydevcrm.alter_matview_query('keyed', 'select n % 2 as n, name from facts');
select matches((select warnings[1] from altered), '^index "Tap X".keyed_n_idx is gone: could not create unique index',
    'a unique index that the rows do not allow goes');
select is((select key from tinydevcrm.matviews where relation = 'keyed'::regclass), array['n'],
    'the key waits for rows that do, as after a refresh');

-- What is built on it

select tinydevcrm.create_matview('base', 'select n, name from facts where n < 3', 'changed');
create view "Mid" with (security_barrier = true) as select n * 2 as twice, base.* from base;
comment on view "Mid" is 'middle';
grant select on "Mid" to "Tap Reader";
select tinydevcrm.create_matview('top', 'select * from "Mid" where twice > 2', 'changed', key => array['n']);
create materialized view highest as select max(top.n) as n from top join base using (n) with no data;
grant select on top to "Tap Clerk";
select tinydevcrm.refresh_matview('top');
create temporary table built as
select '"Mid"'::regclass::oid as mid, 'top'::regclass::oid as top, pg_temp.state('top') as state, pg_temp.state('"Mid"') as mid_state,
       (select id from tinydevcrm.matviews where relation = 'top'::regclass) as id;
truncate altered;
insert into altered
select * from tinydevcrm.alter_matview_query('base', 'select n, name, ''new'' as added from facts where n < 4');
select is((select rebuilt from altered), array['"Mid"', 'top', 'highest'], 'all that is built on it is built again, in order');
select results_eq('select twice, n, name from top order by n', $$ values (4, 2, 'two'), (6, 3, 'three') $$,
    'a materialized view on a view on it has the new rows');
select is(pg_temp.state('top'), (select state from built), 'and its grants and indexes');
select is('"Mid"'::regclass::oid, (select mid from built), 'a view is the same one');
select is(pg_temp.state('"Mid"'), (select mid_state from built), 'with its options, grants and comment');
select ok((select not relispopulated from pg_class where oid = 'highest'::regclass), 'what was not filled is not filled now');
select ok(
    (select m.id = built.id and has_baseline
            and exists (select from tinydevcrm.matview_sources r where r.matview_id = m.id and r.relation = 'base'::regclass)
       from tinydevcrm.matviews m, built where relation = 'top'::regclass),
    'a watched one stays registered, with its baseline, and reads the new one');
select results_eq(
    $$ select added_count, removed_count from tinydevcrm.refresh_matview('top') $$,
    $$ values (1::bigint, 0::bigint) $$, 'and reports at its next refresh what has come');

-- What is refused changes nothing

create temporary table refused as select 'base'::regclass::oid as oid, pg_get_viewdef('base'::regclass) as query;
-- Before Postgres 17 the column is base.name.
select throws_like($$ select tinydevcrm.alter_matview_query('base', 'select n from facts') $$,
    '"Mid", which is built on it, cannot be built again: column %name% does not exist',
    'a query without a column that a view on it reads');
select throws_ok($$ select tinydevcrm.alter_matview_query('base', 'select n, name, 1 / (n - 1) from facts') $$, '22012',
    'division by zero', 'a query that fails');
select throws_ok($$ select tinydevcrm.alter_matview_query('base', 'select 1; select 2') $$, 'TD002', null, 'two queries');
select throws_ok($$ select tinydevcrm.alter_matview_query('base', 'delete from facts returning n') $$, 'TD002', null, 'another statement');
select throws_ok($$ select tinydevcrm.alter_matview_query('base', 'select n, name from top') $$, 'TD002',
    'the query of "Tap X".base reads "Tap X".base itself', 'a query that reads the view itself, here through others');
create function takes(base) returns integer language sql as 'select 1';
select throws_ok($$ select tinydevcrm.alter_matview_query('base', 'select n, name from facts') $$, '2BP01',
    'objects other than views depend on it', 'a function depends on its row type');
drop function takes(base);
create materialized view unwatched as select 1 as n;
select throws_ok($$ select tinydevcrm.alter_matview_query('unwatched', 'select 2 as n') $$, 'TD001', null, 'a view that is not watched');
select throws_ok($$ update tinydevcrm.matviews set relation = 'facts'::regclass where relation = 'top'::regclass $$, '42501', null,
    'a registration moves to nothing but a materialized view');
select results_eq(
    $$ select 'base'::regclass::oid, pg_get_viewdef('base'::regclass) $$, 'table refused', 'after all that it is as it was');

select ok(
    (select position('query' in obj_description('tinydevcrm.alter_matview_query(regclass, text)'::regprocedure)) > 0),
    'the manual has it');

select * from finish();
rollback;
