-- Import: names, types, modes, and the two ways in.

begin;

select plan(29);

create schema "My Data";
set local search_path = "My Data", public;

-- sniff_csv

select is(
    (tinydevcrm.sniff_csv(convert_to(E'a,b\n1,2\n', 'UTF8'))).delimiter, ',', 'a comma is found');
select is(
    (tinydevcrm.sniff_csv(convert_to(E'a;b\n"1,5";2\n"1,6";3\n', 'UTF8'))).delimiter, ';',
    'a semicolon is found beside commas');
select is(
    (tinydevcrm.sniff_csv(convert_to(E'a\tb\n1\t2\n', 'UTF8'))).delimiter, E'\t', 'a tab is found');
select is(
    (tinydevcrm.sniff_csv(convert_to(E'name\nSmith, John\nDoe, Jane\n', 'UTF8'))).header,
    array['name'], 'one column may hold commas');
select is(
    (tinydevcrm.sniff_csv('\xefbbbf' || convert_to(E'é,b\n', 'UTF8'))).header,
    array['é', 'b'], 'a byte order mark is not part of the first name');
select is(
    (tinydevcrm.sniff_csv(convert_to(E'caf\u00e9,b\n', 'WIN1252'))).encoding, 'WIN1252',
    'what is not UTF-8 is Windows-1252');
select is(
    (tinydevcrm.sniff_csv(convert_to(E'"two\nlines",b\n1,2\n', 'UTF8'))).header,
    array[E'two\nlines', 'b'], 'a quoted name may hold a line feed');
select throws_ok(
    $$ select tinydevcrm.sniff_csv('') $$, 'TD005', 'the file is empty', 'an empty file is refused');
select throws_ok(
    $$ select tinydevcrm.sniff_csv('\x89504e470d0a1a0a00000d') $$, 'TD005',
    'the file is not text: it has a byte of value 0', 'a binary file is refused');

-- names

select is(
    tinydevcrm._column_names(array['a', '', 'a', 'xmin', 'a_2', 'A', repeat('é', 40), repeat('é', 40)]),
    array['a', 'column_2', 'a_3', 'xmin_2', 'a_2', 'A', repeat('é', 31), repeat('é', 30) || '_2'],
    'names are kept as written, and made unique within 63 bytes');
select is(tinydevcrm._table_name('/tmp/Q3 Sales (final).CSV'), 'q3_sales_final', 'a file''s name makes a table''s');
select is(tinydevcrm._table_name('.csv'), 'imported', 'a name with nothing in it is "imported"');

-- the way of a program

create temporary table begun as
select *
  from tinydevcrm.begin_import('numbers.csv', convert_to(E'AColumnOfNumbers,note\n0,\n', 'UTF8'));

select is(
    (select copy_statement from begun),
    format(
        'copy pg_temp.%I from stdin with (format csv, header, delimiter '','', quote ''"'', encoding ''UTF8'')',
        '_import_' || (select import_id from begun)),
    'begin_import() gives the COPY to run');

do $$
begin
    execute format(
        'insert into pg_temp.%I values (''0'', null), (''9'', ''''), (null, ''x'')',
        '_import_' || (select import_id from begun));
end
$$;

select is(
    (select array[row_count, byte_count] from tinydevcrm.finish_import((select import_id from begun), 30)),
    array[3, 30]::bigint[],
    'finish_import() tells rows and bytes');
select col_type_is('My Data', 'numbers', 'AColumnOfNumbers', 'integer', 'numbers are integers, NULLs aside');
select results_eq(
    $$ select coalesce('<' || note || '>', 'NULL') from numbers order by "AColumnOfNumbers" nulls last $$,
    $$ values ('NULL'), ('<>'), ('<x>') $$,
    'NULL and the empty text stay apart');
select is(
    (select columns->0->>'header' from tinydevcrm.imports where table_name = 'numbers'),
    'AColumnOfNumbers',
    'the import''s row tells what the file called a column');
select throws_ok(
    $$ select tinydevcrm.begin_import('numbers.csv', 'a') $$, 'TD004',
    'table "My Data".numbers is there already', 'a name in use is refused');
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', 'a', mode => 'merge') $$, 'TD007',
    'there is no import mode ''merge''', 'an unknown mode is refused');
select throws_ok(
    $$ select tinydevcrm.finish_import(0) $$, 'TD001', 'import 0 is not under way',
    'an import that did not begin cannot finish');

-- the way of psql

create temporary table staging (id text, "when" text, "say ""hi""" text);
insert into staging
values ('1', '2024-01-31', '007'), ('2', '2024-02-29', null);

select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers') $$,
    'import_staging() takes any name');
select results_eq(
    $$ select attname::text collate "default", format_type(atttypid, atttypmod)
         from pg_attribute
        where attrelid = '"My Data"."by hand; drop table numbers"'::regclass
          and attnum > 0
        order by attnum $$,
    $$ values ('id', 'integer'), ('when', 'date'), ('say "hi"', 'text') $$,
    'each column has the type of all its values');

-- modes

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
select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'append') $$,
    'append adds rows');
select results_eq(
    'select id from dependent order by id', array[1, 1, 3, 3], 'beside the old ones');

alter table staging drop column "when";

select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'append') $$,
    'TD006', null, 'append refuses other columns');
select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'by hand; drop table numbers', 'replace') $$,
    '2BP01', null, 'replace with other columns is refused while a view depends on the table');

create temporary table typed (id integer);

select throws_ok(
    $$ select tinydevcrm.import_staging('typed', 'x') $$, 'TD007', null,
    'a staging table of other types is refused');

select * from finish();

rollback;
