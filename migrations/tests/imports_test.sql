-- Import: names, types, modes, and the two ways in.

begin;

select plan(67);

create schema "My Data";
set local search_path = "My Data", public;

-- Rank of a value on the ladder.
create function pg_temp.rank_of(value text)
    returns integer
    language sql
as $$
    select min(rank)
      from tinydevcrm.csv_types
     where accepts is null
        or octet_length(value) <= max_length and value ~ accepts
$$;

create function pg_temp.columns(relation text)
    returns text
    language sql
as $$
    select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum)
      from pg_attribute
     where attrelid = relation::regclass
       and attnum > 0
       and not attisdropped
$$;

create function pg_temp.detail(statement text)
    returns text
    language plpgsql
as $$
declare
    v_detail text;
begin
    execute statement;
    return null;
exception
    when others then
        get stacked diagnostics v_detail = pg_exception_detail;
        return v_detail;
end
$$;

-- Casts a text to a type of the ladder and restores the text.
create function pg_temp.through(example text)
    returns text
    language plpgsql
as $$
declare
    v_type tinydevcrm.csv_types;
    v_text text;
begin
    select csv_types.*
      into v_type
      from tinydevcrm.csv_types
     where csv_types.example = through.example;

    execute format(
        'select %s from (select $1::%s as value) as written', format(v_type.restores, 'value'), v_type.type_name)
       into v_text
      using through.example;
    return v_text;
end
$$;

-- names

select is(
    tinydevcrm._make_column_names(array['a', '', 'a', 'xmin', 'a_2', 'A', repeat('é', 40), repeat('é', 40)]),
    array['a', 'column_2', 'a_3', 'xmin_2', 'a_2', 'A', repeat('é', 31), repeat('é', 30) || '_2'],
    'names are kept as written, and made unique within 63 bytes');
select is(tinydevcrm._make_table_name('/tmp/Q3 Sales (final).CSV'), 'q3_sales_final', 'a table is named after its file');
select is(tinydevcrm._make_table_name('Q3 Sales.csv.gz'), 'q3_sales', 'the ending of a compressed file is left out too');
select is(
    array(select tinydevcrm._make_table_name(name)
            from unnest('{a.jsonl,a.ndjson,a.json.zst,a.csv.bz2,a.zip,a.parquet,a.xlsx,x.zip/b/a.csv,a.json.x}'::text[]) as name),
    '{a,a,a,a,a,a,a,a,a_json_x}'::text[], 'and that of any other format, and the zip around the file');
select is(tinydevcrm._make_table_name('.csv'), 'imported', 'a name with nothing in it is "imported"');

-- the import of a program

create temporary table begun as
select *
  from tinydevcrm.begin_import(
           'numbers.csv', array['AColumnOfNumbers', 'note', 'seen'],
           array[pg_temp.rank_of('1'), pg_temp.rank_of('2024-01-31 10:00:00+05:30'), null]);

select is(
    (select array[create_statement, copy_statement] from begun),
    array[
        'create table "My Data".numbers ("AColumnOfNumbers" integer, note text, seen text)',
        'copy "My Data".numbers ("AColumnOfNumbers", note, seen) from stdin with (encoding ''UTF8'')'],
    'begin_import() creates the table and returns the COPY to run');
select is(
    (select jsonb_agg(value->'rank') from begun, jsonb_array_elements(columns)),
    jsonb_build_array(pg_temp.rank_of('1'), null, null),
    'begin_import() returns which values each column accepts');

insert into numbers
values (7, '2024-01-31 10:00:00+05:30', null), (8, null, null);

select is(
    (select copy_statement
       from tinydevcrm.widen_import(
                (select import_id from begun),
                array[pg_temp.rank_of('3000000000'), pg_temp.rank_of('x'), null, pg_temp.rank_of('true')])),
    'copy "My Data".numbers ("AColumnOfNumbers", note, seen, column_4) from stdin with (encoding ''UTF8'')',
    'widen_import() continues with wider columns, and new ones');
select is(
    pg_temp.columns('numbers'), 'AColumnOfNumbers bigint, note text, seen text, column_4 boolean',
    'the wider types fit the values that come next');

insert into numbers
values (3000000000, '', 'later', true);

select lives_ok(
    $$ select tinydevcrm.record_import_problems(
           (select import_id from begun), '{3,5}', '{short,long}', '{"a,b","c,d"}') $$,
    'lines that were repaired are recorded');
select is(
    (select array[row_count, byte_count, problem_count, rewrite_count]
       from tinydevcrm.finish_import(
                (select import_id from begun),
                array[pg_temp.rank_of('3000000000'), pg_temp.rank_of('x'), pg_temp.rank_of('x'), pg_temp.rank_of('true')],
                3, 30)),
    array[3, 30, 2, 1]::bigint[],
    'finish_import() reports rows, bytes, problems and rewrites');
select results_eq(
    $$ select line, reason, line_text from tinydevcrm.import_problems order by id $$,
    $$ values (3::bigint, 'short', 'a,b'), (5::bigint, 'long', 'c,d') $$,
    'a repaired line has its number and text');
select results_eq(
    $$ select "AColumnOfNumbers", coalesce('<' || note || '>', 'NULL') from numbers order by 1 $$,
    $$ values (7::bigint, '<2024-01-31 10:00:00+05:30>'), (8, 'NULL'), (3000000000, '<>') $$,
    'NULL and the empty text stay apart');
select is(
    (select columns from tinydevcrm.imports where table_name = 'numbers'),
    '[{"name": "AColumnOfNumbers", "type": "bigint", "header": "AColumnOfNumbers"},
      {"name": "note", "type": "text", "header": "note"},
      {"name": "seen", "type": "text", "header": "seen"},
      {"name": "column_4", "type": "boolean", "header": ""}]'::jsonb,
    'the row of an import has the columns, their types and their names in the file');

-- columns that later records name, and JSON

create temporary table names as
select *
  from tinydevcrm.begin_import(
           'named.jsonl', array['a', rpad('long', 70, 'g')], array[pg_temp.rank_of('1'), pg_temp.rank_of('x')]);

create temporary table widened as
select *
  from tinydevcrm.widen_import(
           (select import_id from names), array[pg_temp.rank_of('1'), pg_temp.rank_of('x'), null, null, null],
           array['a', rpad('long', 70, 'g'), rpad('long', 63, 'g'), 'a', 'j']);

select is(
    array(select value->>'name' from widened, jsonb_array_elements(columns)),
    array['a', rpad('long', 63, 'g'), rpad('long', 61, 'g') || '_2', 'a_2', 'j'],
    'columns that come later have the names of the header, and those that are there keep theirs');
select is(
    array(select value->>'header' from widened, jsonb_array_elements(columns)),
    array['a', rpad('long', 70, 'g'), rpad('long', 63, 'g'), 'a', 'j'],
    'with their names in the file');

insert into named (a, j) values (1, '{"b": [1]}'), (2, '[]'), (3, null);

select is(
    (select columns->4
       from tinydevcrm.finish_import(
                (select import_id from names),
                array[
                    pg_temp.rank_of('1'), pg_temp.rank_of('x'), null, null,
                    (select rank from tinydevcrm.csv_types where type_name = 'jsonb')],
                3)),
    '{"name": "j", "type": "jsonb", "header": "j"}'::jsonb, 'a column of nested values becomes jsonb');
select is(
    pg_temp.rank_of('{"a": [1]}'), pg_temp.rank_of('any text'), 'a text that looks like JSON stays text');

-- widening restores the text, whatever the type

select is_empty(
    $$ select example, pg_temp.through(example)
         from tinydevcrm.csv_types
        where restores is not null
          and accepts is not null
          and pg_temp.through(example) <> example $$,
    'every way of writing comes back from its type as it was written');
select is_empty(
    $$ select rank, example
         from tinydevcrm.csv_types
        where restores is not null
          and pg_temp.rank_of(example) <> rank $$,
    'each way of writing has the rank of its example');

-- refusals

select throws_ok(
    $$ select tinydevcrm.begin_import('numbers.csv', '{a}', '{1}') $$, 'TD004',
    'table "My Data".numbers is there already', 'a name in use is refused');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', mode => 'merge') $$, 'TD007',
    'there is no import mode ''merge''', 'an unknown mode is refused');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', mode => 'upsert') $$, 'TD007',
    'mode upsert needs a key', 'so is an upsert without a key');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', key => '{a}') $$, 'TD007',
    'mode create takes no key', 'a key without an upsert');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', mode => 'upsert', key => '{b}') $$, 'TD006',
    'the file has no column ''b'' for the key', 'and a key that is no column');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', schema_name => 'tinydevcrm') $$, 'TD007',
    'schema tinydevcrm is not for your tables and views', 'our own schema is not for imports');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', types => '{"b": "text"}') $$, 'TD007',
    'there is no column ''b'' to give a type to', 'a type needs a column');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', types => '{"a": "integer); drop table numbers; --"}') $$,
    'TD007', null, 'and is the name of a type, and nothing else');
select throws_ok(
    $$ select tinydevcrm.finish_import(0, '{}', 0) $$, 'TD001', 'import 0 is not running',
    'an import that did not begin cannot finish');

-- the import by psql

create temporary table staging (id text, "when" text, "say ""hi""" text, "none" text);
insert into staging
values ('1', '2024-01-31', '007', null), ('2', '2024-02-29', null, null);

select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers') $$,
    'import_staging() accepts any name');
select is(
    pg_temp.columns('"by hand; drop table numbers"'),
    'id integer, when date, say "hi" text, none text',
    'each column has the type of all its values');
select is(
    (select columns->1->>'type'
       from tinydevcrm.import_staging(
                'staging', 'overridden', types => '{"when": "timestamptz", "id": "numeric(10,2)"}')),
    'timestamp with time zone', 'a type can be given');
select is((select id::text from overridden limit 1), '1.00', 'a given type keeps its modifiers');
select is(
    (select columns->0->>'type' from tinydevcrm.import_staging('staging', 'nulled', nulls => '{007}')),
    'integer', 'a text can mean NULL');
select is((select count("say ""hi""") from nulled), 0::bigint, 'nulls become NULL');

create temporary table late (n text);
insert into late
select number::text
  from generate_series(1, 2000) as number
union all
values ('1.5'), ('007');

select is(
    (select columns->0->>'type' from tinydevcrm.import_staging('late', 'late')), 'text',
    'a value in a late row counts as any other');

create temporary table typed (id integer);

select throws_ok(
    $$ select tinydevcrm.import_staging('typed', 'x') $$, 'TD007', null,
    'a staging table of other types is refused');

-- replace

create view dependent as
select id
  from "by hand; drop table numbers";

update staging
   set id = '3'
 where id = '2';

select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'replace') $$,
    'replace with the same columns keeps the table and the views on it');
select results_eq(
    'select id from dependent order by id', array[1, 3], 'which then show the new rows');

-- append

select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'append') $$,
    'append adds rows');
select results_eq(
    'select id from dependent order by id', array[1, 1, 3, 3], 'beside the old ones');

create table log (
    number integer generated always as identity,
    id     bigint,
    "when" timestamp,
    "say ""hi""" varchar(3),
    "none" integer,
    noted_at timestamptz default now()
);

select is(
    (select row_count from tinydevcrm.import_staging('staging', 'log', 'append')), 2::bigint,
    'columns are matched by name; those that the table fills itself may be missing');
select results_eq(
    'select number, id, "when", "say ""hi""", noted_at is null from log order by number',
    $$ values (1, 1::bigint, timestamp '2024-01-31', '007'::varchar, false), (2, 3, '2024-02-29', null, false) $$,
    'values get the types of the table');

update staging
   set "say ""hi""" = 'four', "none" = 'x'
 where id = '3';

select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'log', 'append') $$, 'TD006',
    'values do not fit the columns of table "My Data".log', 'values that do not fit are refused');
select is(
    pg_temp.detail($$ select tinydevcrm.import_staging('staging', 'log', 'append') $$),
    E'row 2, column "none": integer cannot be read from ''x''\n'
    'row 2, column "say ""hi""": character varying(3) would change ''four''',
    'the error names each column');

update staging
   set "none" = null;

select is(
    pg_temp.detail($$ select tinydevcrm.import_staging('staging', 'log', 'append') $$),
    'row 2, column "say ""hi""": character varying(3) would change ''four''',
    'a value that would be cut off is refused');
select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'x', types => '{"say \"hi\"": "varchar(3)"}') $$, '22001', null,
    'so is one in a column whose type was given');

alter table staging drop column "when";

select is(
    pg_temp.detail($$ select tinydevcrm.import_staging('staging', 'log', 'append') $$),
    '"when": only in the table', 'so are other columns');
select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'replace') $$,
    '2BP01', null, 'replace with other columns is refused while a view depends on the table');
select matches(
    pg_temp.detail($$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'replace') $$),
    'dependent depends', 'which is named');

drop view dependent;

select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'replace') $$,
    'replace recreates the table when no view depends on it');
select is(
    pg_temp.columns('"by hand; drop table numbers"'), 'id integer, say "hi" text, none text',
    'the recreated table has the columns of the file');

-- what replace keeps

create table kept (n integer not null, id integer generated always as identity primary key);
insert into kept
values (1);
create temporary table news (n text);
insert into news
values ('2');

select lives_ok(
    $$ select tinydevcrm.import_staging('news', 'kept', 'replace') $$,
    'replace accepts a file without the columns that the table fills itself');
select results_eq('select n, id > 1 from kept', $$ values (2, true) $$, 'the table fills them');

update news
   set n = '2.5';

select throws_ok(
    $$ select tinydevcrm.import_staging('news', 'kept', 'replace') $$, 'TD006', null,
    'replace does not recreate a table that would lose indexes or rights');
select is(
    pg_temp.detail($$ select tinydevcrm.import_staging('news', 'kept', 'replace') $$),
    'n: integer in the table, numeric in the file', 'and says what differs');

-- upsert

create temporary table people (id text, name text);
insert into people
values ('1', 'Ann'), ('2', 'Bob');

select is(
    (select row_count from tinydevcrm.import_staging('people', 'people', 'upsert', key => '{id}')),
    2::bigint, 'upsert creates a table that does not exist');
select col_is_pk('My Data', 'people', 'id', 'the new table has the key that the next upsert needs');

update people
   set id = '3', name = 'Cid'
 where id = '1';
update people
   set name = 'Bea'
 where id = '2';

select lives_ok(
    $$ select tinydevcrm.import_staging('people', 'people', 'upsert', key => '{id}') $$,
    'upsert updates the rows of the same key');
select results_eq(
    'select id, name from "My Data".people order by id',
    $$ values (1, 'Ann'), (2, 'Bea'), (3, 'Cid') $$, 'upsert adds the other rows');

insert into people
values ('3', 'Dan');

select throws_ok(
    $$ select tinydevcrm.import_staging('people', 'people', 'upsert', key => '{id}') $$, 'TD009',
    'two rows of the file have the same key', 'a key that two rows share is refused');

update people
   set id = null
 where name = 'Dan';

select throws_ok(
    $$ select tinydevcrm.import_staging('people', 'people', 'upsert', key => '{id}') $$, 'TD009',
    'a row of the file has no value for the key', 'and one that is missing');
select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'log2', 'upsert', key => '{id,none}') $$, 'TD009',
    null, 'so is one in a new table');

-- what an import reports

create temporary table pairs as
select '1' as a, '2024-01-31' as b;
create table texts (a text primary key, b text);
select is(
    (select columns from tinydevcrm.import_staging('pairs', 'texts', 'append')),
    '[{"name": "a", "type": "text", "header": "a"}, {"name": "b", "type": "text", "header": "b"}]'::jsonb,
    'the columns are reported with the types of the table');
select is(
    (select jsonb_path_query_array(columns, '$[*].type')
       from tinydevcrm.import_staging('pairs', 'texts', 'upsert', '{a}')),
    '["text", "text"]'::jsonb, 'by mode upsert too');
select is(
    (select jsonb_path_query_array(columns, '$[*].type')
       from tinydevcrm.import_staging('pairs', 'cut', types => '{"a": "numeric(10,2)"}')),
    '["numeric(10,2)", "date"]'::jsonb, 'and those that were given');

-- Names of tables

select is(
    array[
        tinydevcrm._make_table_name('Q3 Sales.csv.gz'), tinydevcrm._make_table_name('C:\x\Q3 Sales.TSV'),
        tinydevcrm._make_table_name('/tmp/a.b.txt'), tinydevcrm._make_table_name('.csv.gz')],
    array['q3_sales', 'q3_sales', 'a_b', 'imported'],
    'a table is named after its file, without the endings of text and of gzip');

select * from finish();

rollback;
