-- Imports of other columns or wider values than the table has, and the statistics of wide tables.

begin;

select plan(17);

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
    '(no, yes) and bad (refuse, reject).',
    'an option has few values');
select is(
    pg_temp.problem('{"columns": "add"}'),
    'TD007 Options are new_columns (refuse, add, ignore), missing_columns (refuse, null), widen '
    '(no, yes) and bad (refuse, reject).',
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
    '{"bad": "refuse", "widen": "no", "new_columns": "add", "missing_columns": "null"}'::jsonb,
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
           else skip('PostgreSQL 12 without PL/Python composes no characters')
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
