-- Rows as text and as JSON, and whose code runs while they are read.

begin;

select plan(47);

create schema "My Data";
set local search_path = "My Data", public;

-- names

create schema "a.b";
create materialized view "Big ""ones"".csv" as select 1 as n;
create materialized view "a.b" as select 2 as n;
create materialized view "a.b"."c/d%" as select 3 as n;
create materialized view unwatched as select 4 as n;
select tinydevcrm.watch_matview(relation::regclass)
  from unnest(array['"Big ""ones"".csv"', '"a.b"', '"a.b"."c/d%"']) as relation;

select is(
    (select array[found.relation::text, found.place::text] from tinydevcrm._find_matview(names) as found),
    array[relation, place::text], format('%s is %s', names, relation))
  from (
    values
        ('{"\"My Data\".\"Big \"\"ones\"\".csv\""}'::text[], '"Big ""ones"".csv"', 1),
        ('{"My Data.Big \"ones\".csv", "My Data.Big \"ones\""}', '"Big ""ones"".csv"', 1),
        ('{"\"Big \"\"ones\"\".csv\""}', '"Big ""ones"".csv"', 1),
        ('{"Big \"ones\".csv"}', '"Big ""ones"".csv"', 1),
        ('{"a.b", "a"}', '"a.b"', 1),
        ('{"a.b.csv", "a.b"}', '"a.b"', 2),
        ('{"a.b.c/d%"}', '"a.b"."c/d%"', 1)
  ) as called (names, relation, place);

select throws_ok(
    format('select tinydevcrm._find_matview(%L)', names), 'TD001',
    format('materialized view %s is not watched', names[cardinality(names)]), why)
  from (
    values
        ('{unwatched}'::text[], 'a view that is not watched is not found'),
        ('{c/d%}', 'a view of another schema is not found without its schema'),
        ('{nope.csv,nope}', 'a view that does not exist is not found'),
        ('{"\"a.b\"; drop table x"}', 'a statement is not a name')
  ) as refusals (names, why);

-- types

create type mood as enum ('fine', 'not "so"');
create domain count as integer;
create domain moods as mood[];
create type pair as (a integer, b text);

create function read(relation regclass, is_json boolean, cell_limit integer default null)
    returns setof text[]
    language plpgsql
as $$
begin
    return query execute (tinydevcrm._build_rows_statement(relation, is_json, cell_limit)).statement;
end
$$;

create materialized view odd as
select null::text as "null",
       ''::text as empty,
       'NaN'::numeric as "not",
       '-Infinity'::float8 as low,
       9007199254740993 as big,
       1.50 as price,
       true as "yes %s",
       date '2024-01-31' as day,
       'not "so"'::mood as mood,
       array[1, 2]::count[] as counts,
       array['fine']::moods as moods,
       row(1, 'x')::pair as pair,
       '{"b": 1,
          "a": [null]}'::json as json,
       int4range(1, 5) as range,
       array[[1.0, null]] as nested;

select results_eq(
    $$ select read('odd', false) $$,
    $$ values (array[
           null, '', 'NaN', '-Infinity', '9007199254740993', '1.50', 'true', '2024-01-31', 'not "so"',
           '{1,2}', '{fine}', '(1,x)', E'{"b": 1,\n          "a": [null]}', '[1,5)', '{{1.0,NULL}}']) $$,
    'as text, values are what Postgres prints, and booleans what an import reads');
select results_eq(
    $$ select read('odd', true) $$,
    $$ values (array[
           null, '""', '"NaN"', '"-Infinity"', '9007199254740993', '1.50', 'true', '"2024-01-31"',
           '"not \"so\""', '[1,2]', '"{fine}"', '"(1,x)"', E'{"b": 1,\n          "a": [null]}',
           '"[1,5)"', '[[1.0,null]]']) $$,
    'as JSON, values of built-in types are as by to_json(), others are texts');
select lives_ok(
    $$ select value::json from read('odd', true) as row (values), unnest(row.values) as value $$,
    'the JSON is valid');
select results_eq(
    $$ select (read('odd', false, 3))[5:6] $$, $$ values (array['900', '1.5']) $$,
    'texts are cut on request');
select is(
    (select array[names[7], types[10], types[11], types[3]]
       from tinydevcrm._build_rows_statement('odd')),
    array['yes %s', '"My Data".count[]', '"My Data".moods', 'numeric'],
    'names and types of the columns come too');

create materialized view nothing as select from generate_series(1, 3);
select is((select count(*) from read('nothing', true)), 3::bigint, 'rows without columns are rows');

select is(tinydevcrm._is_built_in(type::regtype), wanted, format('%s: %s', type, wanted))
  from (
    values ('integer', true), ('text[]', true), ('count', true), ('count[]', true),
           ('mood', false), ('mood[]', false), ('moods', false), ('moods[]', false),
           ('pair', false), ('name', true), ('int2vector', true)
  ) as types (type, wanted);

-- code of another user

create role "Tap One" in role tinydevcrm_user;
create schema planted authorization "Tap One";
set local session authorization "Tap One";
create type planted.mood as enum ('fine');
create function planted.spring() returns text language plpgsql
as $body$ begin raise exception 'ran as %', current_user; end $body$;
create function planted.spring(planted.mood) returns json language sql as 'select to_json(planted.spring())';
create cast (planted.mood as json) with function planted.spring(planted.mood) as implicit;
create function planted.print(planted.mood) returns text language sql as 'select planted.spring()';
create cast (planted.mood as pg_catalog.text) with function planted.print(planted.mood);
create function planted.format(text, planted.mood) returns text language sql as 'select planted.spring()';
create function planted.spring(integer, integer) returns boolean language sql
as 'select planted.spring() is null';
create function planted.spring(bigint, bigint) returns bigint language sql as 'select planted.spring()::bigint';
create operator planted./ (leftarg = bigint, rightarg = bigint, function = planted.spring);
create operator planted.= (leftarg = integer, rightarg = integer, function = planted.spring);
create domain planted.text as pg_catalog.text check (planted.spring() is null);
create domain planted.amount as integer;
create materialized view planted.v as select 'fine'::planted.mood as mood, 1 as n;
reset session authorization;

select throws_ok(
    $$ select read('planted.v', true) $$, '42501', null, 'a relation of another user is not read in this session');
create materialized view planted.w as table planted.v;
create materialized view planted.x as select mood, n, 1::planted.amount as amount, 'fine'::varchar as word from planted.v;
set local session authorization "Tap One";
alter domain planted.amount add check (planted.spring() is null) not valid;
reset session authorization;

set local search_path = planted, pg_catalog;
create temporary table seen as
select "My Data".read('planted.w', false) as texts,
       "My Data".read('planted.w', true) as jsons;
create temporary table summed as
select name, lowest, highest, frequent from tinydevcrm._summarize_columns('planted.x');
select statement as filtered
  from tinydevcrm._build_page_statement(
           'planted.x', 200, 'mood', false, '{"mood": "= fine", "n": "= 1", "amount": "> 0", "word": "= fine"}') \gset
prepare filtered as :filtered;
create temporary table found as execute filtered;
set local search_path = "My Data", public;

select results_eq(
    'table seen', $$ values (array['fine', '1'], array['"fine"', '1']) $$,
    'a reader runs no code of another user');
select results_eq(
    'table summed',
    $$ values ('mood', 'fine', 'fine', '{fine}'::text[]), ('n', '1', '1', '{1}'),
              ('amount', '1', '1', '{1}'), ('word', 'fine', 'fine', '{fine}') $$,
    'nor does who looks at the columns');
select results_eq(
    'table found', $$ values (array['fine', '1', '1', 'fine']) $$,
    'nor does who filters and sorts');

-- pages

create table stock (
    id integer, "The Name" text, price numeric, seen date, data json, cost numeric(10, 2), code varchar(3), is_sold boolean
);
insert into stock
values (1, 'Pear', 2.5, '2026-01-01', '{}', 9.99, 'abc', false), (2, 'apple', 10, '2026-02-01', '{"a": 1}', 10, 'abc', true),
       (3, '100%', null, null, null, null, null, null),
       (4, 'pineapple', 2.5, '2026-03-01', null, null, null, null);

create function page(filters jsonb, sort_by text default '', is_descending boolean default false)
    returns text
    language plpgsql
as $$
declare
    v_ids   text[];
    v_count bigint;
    v_row   text[];
    v_built record;
begin
    select built.*
      into v_built
      from tinydevcrm._build_page_statement('stock', 200, sort_by, is_descending, filters, 0, 100) as built;
    for v_row in execute v_built.statement loop
        v_ids := v_ids || v_row[1];
    end loop;
    execute v_built.counting into v_count;
    return concat_ws(':', v_count, array_to_string(v_ids, ' '));
end
$$;

select is(page(filters, sort_by, is_descending), wanted, why)
  from (
    values
        ('{}'::jsonb, '', false, '4:1 2 3 4', 'all rows come as they stand'),
        ('{"The Name": "APPLE"}', '', false, '2:2 4', 'a part of a text fits in any case'),
        ('{"The Name": "%"}', '', false, '1:3', 'a per cent sign is no wildcard'),
        ('{"The Name": "= apple"}', '', false, '1:2', 'a text can be compared whole'),
        ('{"price": "<= 2.5"}', '', false, '2:1 4', 'numbers are compared as numbers'),
        ('{"price": "is null"}', '', false, '1:3', 'null is found'),
        ('{"price": "is not null", "seen": "> 2026-01-15"}', '', false, '2:2 4', 'all filters must fit'),
        ('{"data": "a"}', '', false, '1:2', 'a part of a JSON value is found'),
        ('{"cost": "> 9.999"}', '', false, '1:2', 'what a number is compared with is not rounded'),
        ('{"code": "= abcd"}', '', false, '0', 'nor is a text cut'),
        ('{"is_sold": "TRUE"}', '', false, '1:2', 'a boolean is found as it is shown'),
        ('{}', 'price', true, '4:2 1 4 3', 'equal values keep their order, nulls come last'),
        ('{"The Name": "x''; drop table stock; --"}', 'The Name', false, '0', 'a statement is only a text')
  ) as asked (filters, sort_by, is_descending, wanted, why);

select throws_ok(
    $$select page('{"nope": "1"}')$$, '42703', '"My Data".stock has no column nope', 'an unknown column is refused');
select throws_ok(
    $$select page('{"price": "> much"}')$$, '22P02', null, 'a value that is none of the type is refused');

select * from finish();

rollback;
