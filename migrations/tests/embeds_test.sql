-- Widgets: who may make rows public, on which sites, and what a refresh copies.

begin;

select plan(69);

create schema "My Data";
set local search_path = "My Data", public;

-- origins

select is(tinydevcrm._are_origins(origins), wanted, format('%s: %s', origins, wanted))
  from (
    values
        ('{https://example.com}'::text[], true),
        ('{http://localhost:8000,https://*.a-b.example.com:443,http://127.0.0.1:1}', true),
        ('{*}', true),
        ('{*,https://example.com}', false),
        ('{}', false),
        (null, false),
        (array[null::text], false),
        ('{{https://example.com}}', false),
        ('{https://example.com/}', false),
        ('{https://EXAMPLE.com}', false),
        ('{example.com}', false),
        ('{https:}', false),
        ('{https://}', false),
        ('{https://*}', false),
        ('{https://*.*.com}', false),
        ('{https://a..b}', false),
        ('{https://-a}', false),
        ('{https://user@example.com}', false),
        ('{https://example.com:}', false),
        ('{https://example.com:123456}', false),
        ('{"https://example.com; script-src *"}', false),
        ('{"https://example.com ''unsafe-inline''"}', false),
        ('{"https://example.com,https://other.com"}', false),
        (array[E'https://example.com\nX-Injected: 1'], false),
        (array[E'https://example.com\n'], false),
        ('{javascript:alert(1)}', false),
        ('{data:text}', false),
        (array_fill('https://example.com'::text, array[50]), true),
        (array_fill('https://example.com'::text, array[51]), false)
  ) as given (origins, wanted);

-- the copy

create table numbers (n integer, name text);
insert into numbers
values (5, null);
select tinydevcrm.create_matview('v', 'select * from numbers');
create materialized view unwatched as select 1 as n;

select is(tinydevcrm._find_embed('My Data.v'), null, 'a view is not public before allow_embedding()');
select is(
    (select array[origins::text, columns::text, rows::text, row_count::text]
       from tinydevcrm.allow_embedding('v', '{https://Example.com/, https://*.example.com}')),
    array[
        '{https://example.com,https://*.example.com}',
        '[{"name": "n", "type": "integer"}, {"name": "name", "type": "text"}]',
        '[["5", null]]', '1'],
    'allow_embedding() copies the rows at once, and corrects case and slash of origins');
select is(
    (select refreshed_at from tinydevcrm.embeds),
    (select created_at from tinydevcrm.matviews where relation = 'v'::regclass),
    'before the first refresh, the rows have the time of registration');
select is(
    tinydevcrm._find_embed(name), (select id from tinydevcrm.matviews where relation = 'v'::regclass),
    format('it is found as %s', name))
  from unnest(array['My Data.v', '"My Data".v']) as name;
select is(tinydevcrm._find_embed(name), null, format('and not as %s', name))
  from unnest(array['v', 'public.v', '"My Data"."v"', 'My Data.v; x', '']) as name;

insert into numbers
select 6,
       repeat('x', 1000)
  from generate_series(1, 200);
select is((tinydevcrm.refresh_matview('v')).outcome, 'refreshed', 'a refresh');
select is(
    (select array[row_count, jsonb_array_length(rows), length(rows -> 1 ->> 1)] from tinydevcrm.embeds),
    array[201, 100, 201]::bigint[], 'a refresh copies up to 100 rows and 201 characters of each value');
select is(
    (select refreshed_at from tinydevcrm.embeds),
    (select max(started_at) from tinydevcrm.matview_refresh_events), 'a refresh sets the time of the rows');

update tinydevcrm.settings
   set embed_byte_limit = 2000;
select tinydevcrm.refresh_matview('v');
select is((select jsonb_array_length(rows) from tinydevcrm.embeds), 10, 'embed_byte_limit limits the copy');
update tinydevcrm.settings
   set embed_byte_limit = 5;
select tinydevcrm.refresh_matview('v');
select is(
    (select array[row_count::text, rows::text] from tinydevcrm.embeds), array['201', '[]'],
    'no row is copied if the first is too long');
update tinydevcrm.settings
   set embed_byte_limit = default;

truncate numbers;
select tinydevcrm.refresh_matview('v');
select is(
    (select array[row_count::text, rows::text] from tinydevcrm.embeds), array['0', '[]'],
    'the widget of an empty view has no rows');

create materialized view failing as
select 1 / count(*) as n
  from numbers
  with no data;
select tinydevcrm.watch_matview('failing');
select is(
    (select array[rows::text, refreshed_at::text] from tinydevcrm.allow_embedding('failing', '{*}')),
    array['[]', null], 'the widget of a view that is not populated has no rows and no time');
insert into numbers
values (1);
select tinydevcrm.refresh_matview('failing');
truncate numbers;
select is((tinydevcrm.refresh_matview('failing')).outcome, 'failed', 'a refresh fails');
select is(
    (select rows::text from tinydevcrm.embeds where relation = 'failing'::regclass), '[["1"]]',
    'a failed refresh leaves the rows of the widget');

create materialized view odd as
select '{"a": "\u0000"}'::json as json,
       'NaN'::numeric as number,
       '{"\"", null}'::text[] as list;
select tinydevcrm.watch_matview('odd');
select is(
    (select rows -> 0 from tinydevcrm.allow_embedding('odd', '{*}')),
    jsonb_build_array('{"a": "\u0000"}', 'NaN', '{"\"",NULL}'),
    'values are copied as text, as Postgres prints them');

-- errors

select throws_ok(statement, sqlstate, message, message)
  from (
    values
        ($$ select tinydevcrm.allow_embedding('unwatched', '{*}') $$, 'TD001',
            'materialized view "My Data".unwatched is not watched'),
        ($$ select tinydevcrm.forbid_embedding('unwatched') $$, 'TD001',
            'materialized view "My Data".unwatched is not watched'),
        ($$ select tinydevcrm.allow_embedding('v', '{example.com, null}') $$, 'TD007',
            'these are not origins: example.com, null'),
        ($$ select tinydevcrm.allow_embedding('v', '{}') $$, 'TD007', 'these are not origins: none'),
        ($$ select tinydevcrm.allow_embedding('v', null) $$, 'TD007', 'these are not origins: none')
  ) as refusals (statement, sqlstate, message);

-- the end

select tinydevcrm.forbid_embedding('v');
select is(tinydevcrm._find_embed('My Data.v'), null, 'forbid_embedding() makes a view private');
select lives_ok($$ select tinydevcrm.forbid_embedding('v') $$, 'forbid_embedding() may be called twice');
select tinydevcrm.drop_matview('odd');
select is((select count(*) from tinydevcrm.embeds), 1::bigint, 'dropping a view removes its widget');

-- users

create role "Tap One" in role tinydevcrm_user;
create role "Tap Two" in role tinydevcrm_user;
create role "Tap Admin" in role tinydevcrm_admin;
create role "Tap Runner" in role tinydevcrm_orchestrator;
grant usage on schema "My Data" to "Tap One", "Tap Two", "Tap Admin", "Tap Runner";
alter materialized view failing owner to "Tap One";
select is(
    (select count(*) from tinydevcrm.embeds), 0::bigint,
    'a new owner makes a view private');
select is_empty(
    $$ select from tinydevcrm.matviews where relation = 'failing'::regclass and owner <> '"Tap One"'::regrole $$,
    'the registration has the new owner');

set local session authorization "Tap One";
select lives_ok(
    $$ select tinydevcrm.allow_embedding('failing', '{https://example.com}') $$,
    'a user makes a view of their own public');

set local session authorization "Tap Two";
select is_empty('select from tinydevcrm.embeds', 'another user does not see the widget');
select throws_ok(
    $$ select tinydevcrm.allow_embedding('failing', '{*}') $$, 'TD001', null,
    'another user cannot change the widget');

set local session authorization "Tap Admin";
select is((select count(*) from tinydevcrm.embeds), 1::bigint, 'an administrator sees the widget');
select throws_ok(
    format('select tinydevcrm.%s', call), '42501', 'must be owner of materialized view "My Data".failing',
    call || ' is not for an administrator')
  from unnest(array[$$allow_embedding('failing', '{*}')$$, $$forbid_embedding('failing')$$]) as call;

set local session authorization "Tap Runner";
select is(
    tinydevcrm._find_embed('My Data.failing') is not null, true, 'the orchestrator finds the widget');

reset session authorization;
create table failing_id as
select matview_id
  from tinydevcrm.embeds;
grant select on failing_id to "Tap Two";
create materialized view theirs as select 1 as n;
alter materialized view theirs owner to "Tap Two";
set local session authorization "Tap Two";
select tinydevcrm.watch_matview('theirs');
select tinydevcrm.allow_embedding('theirs', '{*}');
select throws_ok(statement, '42501', null, statement)
  from (
    values
        ($$ update tinydevcrm.embeds set relation = 'failing' where relation = 'theirs'::regclass $$),
        ($$ update tinydevcrm.embeds set matview_id = (select matview_id from failing_id) $$),
        ($$ update tinydevcrm.embeds set owner = '"Tap One"' $$)
  ) as forgeries (statement);

select * from finish();

rollback;
