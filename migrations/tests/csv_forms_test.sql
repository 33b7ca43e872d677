-- Forms: how dates and numbers are written, when a form is chosen, and what it reads.

begin;

select plan(27);

create schema "My Forms";
set local search_path = "My Forms", public;
set local timezone = 'Asia/Tokyo';

select is_empty(
    $$ select name
         from tinydevcrm.csv_forms
        where example !~ accepts
           or example !~ shape $$,
    'each form accepts its example');

-- The search for forms skips an expression by these signs.
select is_empty(
    $$ select name, sign
         from tinydevcrm.csv_forms
        cross join unnest(array[':', '%']) as sign
        where (strpos(replace(accepts, '(?:', '('), sign) > 0) <> (strpos(example, sign) > 0) $$,
    'a form accepts a colon or a percent sign if it has one in its example, and only then');

create function pg_temp.read_by(name text, value text)
    returns text
    language plpgsql
as $$
declare
    v_form tinydevcrm.csv_forms;
    v_read text;
begin
    select csv_forms.*
      into v_form
      from tinydevcrm.csv_forms
     where csv_forms.name = read_by.name;

    if v_form.name is null then
        return 'no such form';
    end if;

    if read_by.value ~ v_form.accepts then
        execute format('select (%s)::text', format(v_form.reads, quote_literal(read_by.value)))
           into v_read;
    end if;

    return v_read;
end
$$;

create temporary table samples (name text, value text, read text);

insert into samples
values
    ('date D/M/Y', '31/12/2024', '2024-12-31'), ('date D/M/Y', '1-2-2024', '2024-02-01'),
    ('date D/M/Y', '29/02/2023', null), ('date D/M/Y', '29/02/2024', '2024-02-29'),
    ('date D/M/Y', '31/04/2024', null), ('date D/M/Y', '12/31/2024', null),
    ('date M/D/Y', '12/31/2024', '2024-12-31'), ('date M/D/Y', '31/12/2024', null),
    ('date D.M.Y', '3.4.2026', '2026-04-03'), ('date D.M.YY', '03.04.69', '2069-04-03'),
    ('date D.M.YY', '03.04.70', '1970-04-03'), ('date Y/M/D', '2024.2.29', '2024-02-29'),
    ('date YY/M/D', '24/2/9', '2024-02-09'), ('date D Mon Y', '5 JAN 2024', '2024-01-05'),
    ('date D Mon Y', '05January2024', '2024-01-05'), ('date D Mon Y', '30 Feb 2024', null),
    ('date D Mon YY', '5-Sept-24', '2024-09-05'), ('date Mon D Y', 'May 1st, 2024', '2024-05-01'),
    ('date Mon D Y', 'Dec. 31 2024', '2024-12-31'),
    ('timestamp M/D/Y', '12/31/2024 12:05 AM', '2024-12-31 00:05:00'),
    ('timestamp D.M.Y', '31.12.2024, 9:05', '2024-12-31 09:05:00'),
    ('timestamp Y/M/D', '2024-12-31T09:05', '2024-12-31 09:05:00'),
    ('timestamp Y/M/D', '2024-12-31 25:05', null), ('timestamp D/M/Y', '1/2/2024 13:05 PM', null),
    ('timestamptz Y/M/D', '2024-12-31 09:05:00 UTC', '2024-12-31 18:05:00+09'),
    ('timestamptz D/M/Y', '31/12/2024 09:05 +0100', '2024-12-31 17:05:00+09'),
    ('timestamptz Mon D Y', 'Oct 5, 2024 9:05 PM Z', '2024-10-06 06:05:00+09'),
    ('time H:MM', '9:05', '09:05:00'), ('time H:MM', '12:00 am', '00:00:00'),
    ('time H:MM', '24:00', null),
    ('number 1,234.56', '1,234.50', '1234.50'), ('number 1,234.56', '12,34,567.8', '1234567.8'),
    ('number 1,234.56', '1,23', null), ('number 1,234.56', '(1,234)', '-1234'), ('number 1,234.56', '(0.0)', '0.0'),
    ('number 1,234.56', '5-', '-5'), ('number 1,234.56', '007', null),
    ('number 1,234.56', '+1,234', null), ('number 1,234.56', '-0.0', null),
    ('number 1.234,56', '-1.234,56', '-1234.56'), ('number 1.234,56', '1.23', null),
    ('number 1 234,56', e'1\u00a0234\u202f567,8', '1234567.8'),
    ('number 1''234.56', '1''234.50', '1234.50'),
    ('percent 1.234,56', '12,5 %', '12.5'), ('percent 1,234.56', '5', null),
    ('currency 1,234.56', '$1,234.50', '1234.50'), ('currency 1,234.56', '-$5', '-5'),
    ('currency 1,234.56', '($5)', '-5'), ('currency 1.234,56', '1.234,50 €', '1234.50'),
    ('currency 1.234,56', 'EUR 1,5', '1.5'), ('currency 1,234.56', '5', null),
    ('currency 1,234.56', 'ABC 5', null), ('date Excel', '45322', '2024-01-31'),
    ('timestamp Excel', '45322.25', '2024-01-31 06:00:00'),
    ('date YYYYMMDD', '20240229', '2024-02-29'), ('date YYYYMMDD', '20230229', null),
    ('boolean yes/no', 'No', 'false'), ('boolean 0/1', '1', 'true');

select is_empty(
    $$ select samples.*, pg_temp.read_by(name, value)
         from samples
        where pg_temp.read_by(name, value) is distinct from read $$,
    'a form reads each sample, or does not accept it');

select is_empty(
    $$ select samples.*, example
         from samples
         join tinydevcrm.csv_forms using (name)
        cross join unnest(array[':', '%']) as sign
        where samples.read is not null
          and (strpos(samples.value, sign) > 0) <> (strpos(example, sign) > 0) $$,
    'each sample that a form accepts has a colon or a percent sign if its example has');

set local datestyle = 'SQL, DMY';

select is_empty(
    $$ select name, reads
         from tinydevcrm.csv_forms
        where type_name = 'date'
          and pg_temp.read_by(name, example)::date is distinct from date '2024-01-31' $$,
    'what a form reads depends on no DateStyle');

-- Which form is chosen

create function pg_temp.import(types jsonb, variadic cells text[])
    returns text
    language plpgsql
as $$
declare
    v_column jsonb;
    v_values text;
    v_hint   text;
begin
    create temporary table staging (v text);
    insert into staging
    select unnest(import.cells);
    select columns->0
      into v_column
      from tinydevcrm.import_staging('staging', 'imported', 'replace', types => import.types);
    set local datestyle = 'ISO';
    select string_agg(v::text, ' ' order by ctid)
      into v_values
      from imported;
    drop table staging, imported;
    return concat_ws('|', v_column->>'type', v_column->>'form', v_values);
exception
    when others then
        get stacked diagnostics v_hint = pg_exception_hint, v_values = pg_exception_detail;
        return concat_ws('|', sqlstate, v_values, v_hint);
end
$$;

select is(
    pg_temp.import('{}', '31/12/2024', '01/02/2024'), 'date|date D/M/Y|2024-12-31 2024-02-01',
    'one value that has only one reading decides for all');
select is(
    pg_temp.import('{}', '03/04/2024', '01/02/2024'), 'text|03/04/2024 01/02/2024',
    'values of two readings stay text');
select is(
    pg_temp.import('{}', '03/03/2024'), 'date|date D/M/Y|2024-03-03',
    'two forms that read the same are one');
select is(
    pg_temp.import('{}', '31.12.2024', '12/31/2024'), 'text|31.12.2024 12/31/2024',
    'values of two forms stay text');
select is(pg_temp.import('{}', '1,234'), 'text|1,234', 'a comma may be of thousands or decimal');
select is(
    pg_temp.import('{}', '1,234', '5,678.90'), 'numeric|number 1,234.56|1234 5678.90',
    'until one value settles it');
select is(
    pg_temp.import('{}', '1,5', '20', null), 'numeric|number 1.234,56|1.5 20',
    'numbers without thousands');
select is(pg_temp.import('{}', '1.50', '20'), 'numeric|1.50 20', 'the ladder comes first');
select is(
    pg_temp.import('{}', '+15551234567', '007'), 'text|+15551234567 007',
    'what is no number stays text');
select is(pg_temp.import('{}', 'yes', 'no'), 'text|yes no', 'yes and no must be asked for');
select is(
    pg_temp.import('{"v": "boolean yes/no"}', 'yes', 'no'), 'boolean|boolean yes/no|true false',
    'a form can be given');
select is(
    pg_temp.import('{"v": "Date m/d/y"}', '03/04/2024'), 'date|date M/D/Y|2024-03-04',
    'in letters of any case');
select is(
    pg_temp.import('{"v": "date D/M/Y"}', '03/04/2024', '04/13/2024'),
    'TD006|row 2, column v: ''04/13/2024''|Correct the value, name another form, or give the type '
    'text.',
    'and names the value that it does not accept');
select is(
    pg_temp.import('{"v": "date"}', '03.04.2026'), 'date|date D.M.Y|2026-04-03',
    'a given type is read by the form of the values');
select is(
    pg_temp.import('{"v": "date"}', '03/04/2026'),
    'TD006|row 1, column v: ''03/04/2026''|Column v could be date D/M/Y or date M/D/Y: choose with '
    '--type ''v=date D/M/Y''.',
    'never by the DateStyle of the session');
select is(
    pg_temp.import('{"v": "date"}', '2026-04-03', '2026-13-03'),
    'TD006|row 2, column v: ''2026-13-03''|Correct the value, or name a form of '
    'tinydevcrm.csv_forms, such as date D/M/Y.',
    'and names the value that it does not fit');
select is(
    pg_temp.import('{"v": "integer"}', '5', '007', 'x'),
    'TD006|row 3, column v: ''x''|Correct the value, or give the column another type, or none.',
    'so does a number');

-- Units

create temporary table priced as
select *
  from (
    values ('5 %', '€ 1.50', '$1'), ('6 %', '€ 2.50', '€1')
  ) as values (share, price, total);

select tinydevcrm.import_staging('priced', 'priced_items');

select results_eq(
    'select * from priced_items',
    $$ values (5::numeric, 1.50, 1::numeric, '$'), (6, 2.50, 1, '€') $$,
    'amounts in several currencies get a column of them');
select tinydevcrm.import_staging('priced', 'priced_items', 'append');

select is(
    (select string_agg(total_currency, '' order by ctid) from priced_items), '$€$€',
    'so do those that are appended');
select is(
    array(
        select col_description('priced_items'::regclass, number)
          from generate_series(1, 4) as number
    ),
    array['percent', 'currency: €', null, null],
    'a unit of all values is in the comment on the column');

-- The next file

create temporary table staging as
select '31/12/2024' as d,
       '$1.50' as p;

select tinydevcrm.import_staging('staging', 'kept');

update staging
   set d = '03/04/2024';

select tinydevcrm.import_staging('staging', 'kept', 'append');

select results_eq(
    'select d, p from kept order by d',
    $$ values (date '2024-04-03', 1.50), ('2024-12-31', 1.50) $$,
    'a file of two readings is read like the one before it');

update staging
   set p = '€1.50';

select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'kept', 'append') $$, 'TD006',
    'column p holds amounts in $, and the file has €', 'amounts in another currency are refused');

select * from finish();

rollback;
