-- Imports of other columns or wider values than the table has, and the statistics of wide tables.

begin;

select plan(30);

create schema "Other Shapes";
set local search_path = "Other Shapes", public;

create table items (id integer primary key, "the name" text);
insert into items
values (1, 'x');
create view names as
select "the name"
  from items;

create temporary table staging (id text, price text);
insert into staging
values ('2', '1.50');

create function pg_temp.problem(options jsonb)
    returns text
    language plpgsql
as $$
declare
    v_detail text;
    v_hint   text;
begin
    perform tinydevcrm.import_staging('staging', 'items', 'append', options => problem.options);
    return 'none';
exception
    when others then
        get stacked diagnostics v_detail = pg_exception_detail, v_hint = pg_exception_hint;
        return concat_ws(' ', sqlstate, nullif(v_detail, ''), nullif(v_hint, ''));
end
$$;

select is(
    pg_temp.problem('{}'),
    E'TD006 price: only in the file\n"the name": only in the table Columns are matched by name. '
    'A column that only the file has can be added (--new-columns add) or ignored (--new-columns '
    'ignore). A column that only the table has can be NULL (--missing-columns null).',
    'other columns are refused, with the options');
select is(
    pg_temp.problem('{"new_columns": "ignore"}'),
    'TD006 "the name": only in the table Columns are matched by name. A column that only the table '
    'has can be NULL (--missing-columns null).',
    'each option is one');
select is(
    pg_temp.problem('{"new_columns": "drop"}'),
    'TD007 Options are new_columns (refuse, add, ignore), missing_columns (refuse, null), widen '
    '(no, yes), keep_table (no, yes) and bad (refuse, reject).',
    'an option has few values');
select is(
    pg_temp.problem('{"columns": "add"}'),
    'TD007 Options are new_columns (refuse, add, ignore), missing_columns (refuse, null), widen '
    '(no, yes), keep_table (no, yes) and bad (refuse, reject).',
    'there are no others');
select is(
    pg_temp.problem('{"new_columns": "ignore", "missing_columns": "null"}'), 'none',
    'a new column can be ignored');
select is(
    pg_temp.problem('{"new_columns": "add", "missing_columns": "null"}'),
    '23505 Key (id)=(2) already exists. To update rows that are there, choose mode upsert (--mode '
    'upsert --key id).',
    'and added');

update staging
   set id = '3';

select is(pg_temp.problem('{"new_columns": "add", "missing_columns": "null"}'), 'none', 'really');
select results_eq(
    'select id, "the name", price from items order by id',
    $$ values (1, 'x', null::numeric), (2, null, null), (3, null, 1.50) $$,
    'the rows have what both have');
select is((select count(*) from names), 3::bigint, 'the view stays');
select is(
    (select options from tinydevcrm.imports where schema_name = 'Other Shapes' order by id desc limit 1),
    '{"bad": "refuse", "widen": "no", "new_columns": "add", "missing_columns": "null", "keep_table": "no"}'::jsonb,
    'the log has the options');

update staging
   set id = '3000000000';

select is(
    pg_temp.problem('{"missing_columns": "null"}'),
    'TD006 row 1, column id: integer cannot be read from ''3000000000'' Correct them, or let the '
    'column have a wider type (--widen yes).',
    'a value that does not fit is refused, with the option');
select is(
    pg_temp.problem('{"missing_columns": "null", "widen": "yes"}'), 'none', 'it widens the column');

create table cafes (U&"Caf\00e9" integer);
create temporary table decomposed as
select '1' as U&"Cafe\0301";

select case tinydevcrm._compose(U&'e\0301')
           when U&'\00e9' then lives_ok(
               $$ select tinydevcrm.import_staging('decomposed', 'cafes', 'append') $$,
               'names that look the same are the same')
           -- PostgreSQL 12 without PL/Python composes no characters.
           else throws_ok(
               $$ select tinydevcrm.import_staging('decomposed', 'cafes', 'append') $$,
               'TD006', 'the columns differ from those of table "Other Shapes".cafes',
               'names that look the same are different where Postgres composes none')
       end;

-- Values that do not fit

create temporary table bad as
select *
  from (
    values ('1', '2026-01-31'), ('2', 'x'), ('3', '2026-02-30')
  ) as values (id, "d%");

select results_eq(
    $$ select row_count, reject_count
         from tinydevcrm.import_staging(
                  'bad', 'dated', types => '{"d%": "date"}', options => '{"bad": "reject"}') $$,
    'values (1::bigint, 2::bigint)', 'rows with values that do not fit are left out on request');
select results_eq(
    $$ select line, reason, line_text
         from tinydevcrm.import_problems
        where is_rejected
          and import_id = (select max(id) from tinydevcrm.imports where table_name = 'dated')
        order by import_problems.id $$,
    $$ values (2::bigint, 'column "d%": date cannot be read from ''x''', '2,x'),
              (3, 'column "d%": date cannot be read from ''2026-02-30''', '3,2026-02-30') $$,
    'and noted');

-- A table that is replaced and keeps its columns and types

create table exported (id integer, amount numeric, note text);
insert into exported
values (1, 1.5, 'old');
create view exported_amounts as
select amount
  from exported;

create function pg_temp.replace_by(rows text, options jsonb)
    returns text
    language plpgsql
as $$
begin
    execute 'create temporary table export as ' || replace_by.rows;
    perform tinydevcrm.import_staging('export', 'exported', 'replace', options => replace_by.options);
    drop table export;
    return (select string_agg(concat_ws('|', id, amount, note), ',' order by id) from exported);
exception
    when others then
        return concat_ws(' ', sqlstate, sqlerrm);
end
$$;

select is(
    pg_temp.replace_by(rows, options::jsonb), result, what)
  from (
    values
        ('select ''1'' as id, ''2'' as amount, ''x'' as note', '{}',
         '2BP01 table "Other Shapes".exported cannot be replaced by one with other columns: other objects depend on it',
         'whole numbers alone are another type, for which a view stands in the way'),
        ('select ''1'' as id, ''2'' as amount, ''x'' as note', '{"keep_table": "yes"}', '1|2|x', 'the table keeps its type'),
        ('select ''1'' as id, null::text as amount, ''7'' as note', '{"keep_table": "yes"}', '1|7',
         'also when there are no values, and text stays text'),
        ('select ''1'' as id, ''x'' as amount, ''x'' as note', '{"keep_table": "yes"}',
         'TD006 values do not fit the columns of table "Other Shapes".exported', 'what does not fit is refused'),
        ('select ''1'' as id, ''2'' as amount', '{"keep_table": "yes"}',
         'TD006 the columns differ from those of table "Other Shapes".exported', 'so is a column that is missing'),
        ('select ''1'' as id, ''2'' as amount', '{"keep_table": "yes", "missing_columns": "null"}', '1|2', 'which may be NULL'),
        ('select ''1'' as id, ''2'' as amount, ''x'' as note, ''y'' as new', '{"keep_table": "yes"}',
         'TD006 the columns differ from those of table "Other Shapes".exported', 'and a new one'),
        ('select ''1'' as id, ''2'' as amount, ''x'' as note, ''y'' as new', '{"keep_table": "yes", "new_columns": "ignore"}',
         '1|2|x', 'which may be ignored'),
        ('select ''1'' as id, ''2'' as amount, ''x'' as note, ''y'' as new', '{"keep_table": "yes", "new_columns": "add"}',
         '1|2|x', 'or added'),
        ('select ''3000000000'' as id, ''2'' as amount, ''x'' as note', '{"keep_table": "yes", "missing_columns": "null", "widen": "yes"}',
         '3000000000|2|x', 'a type may become wider')
  ) as export (rows, options, result, what);
select is((select amount from exported_amounts), 2::numeric, 'the view on it stays through all of these');
select throws_ok(
    $$ select tinydevcrm.begin_import(
                  'export.json', '{id}', '{1}', 'exported', 'replace', options => '{"keep_table": "yes"}',
                  dialect => row('UTF8', null, null, null, null, null, null, null, null, 'csv', null, null)) $$,
    'TD006', null, 'a CSV file that lacks a column is refused before it is read; one of JSON may lack it');
select lives_ok(
    $$ select tinydevcrm.begin_import(
                  'export.json', '{id}', '{1}', 'exported', 'replace', options => '{"keep_table": "yes"}',
                  dialect => row('UTF8', null, null, null, null, null, null, null, null, 'json', null, null)) $$,
    'by default, which one function knows');

-- Statistics

do $$
begin
    execute (
        select format(
                   'create temporary table wide as select %s from generate_series(1, 5000) as n',
                   string_agg(format('n::text as c%s', number), ', '))
          from generate_series(1, 300) as number
    );
    execute 'create temporary table narrow as select c1, c2 from wide';
end
$$;

select count(*)
  from tinydevcrm.import_staging('wide', 'wide_items') as wide
 cross join tinydevcrm.import_staging('narrow', 'narrow_items') as narrow;

select is(
    array(
        select cardinality(histogram_bounds::text::text[])
          from pg_stats
         where schemaname = 'Other Shapes'
           and attname = 'c1'
         order by tablename::text
    ),
    array[31, 4], 'a wide table has smaller statistics than a narrow one');
select is(current_setting('default_statistics_target'), '100', 'the setting stays as it was');

select * from finish();

rollback;
