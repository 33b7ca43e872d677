-- How often an import reads its rows, and that the quick checks of psql's import accept what the ladder does.

begin;

select plan(19);

create schema "Read Once";
set local search_path = "Read Once", public;

-- Scans of a table, and rows that they read, in this transaction.
create function pg_temp.scans(relation regclass, out scans bigint, out tuples bigint)
    language sql
as $$
    select seq_scan, seq_tup_read
      from pg_stat_xact_all_tables
     where relid = scans.relation
$$;

-- A file whose last value is another, as the program loads it.
create function pg_temp.import(name text, last_value text)
    returns tinydevcrm.imports
    language plpgsql
as $$
declare
    v_step tinydevcrm.import_step;
begin
    v_step := tinydevcrm.begin_import(name, '{n}', '{5}');
    execute format('insert into %I select generate_series(1, 2000)', name);
    v_step := tinydevcrm.widen_import(v_step.import_id, '{43}');
    execute format('insert into %I values (%L)', name, last_value);
    return tinydevcrm.finish_import(v_step.import_id, '{43}', 2001);
end
$$;

-- Whether a text passes checks; one that cannot be cast does not.
create function pg_temp.passes(checks text, given text, type_name text)
    returns boolean
    language plpgsql
    set datestyle = 'ISO, YMD'
as $$
declare
    v_passes boolean;
begin
    execute format(
        'select (%s) is true', format(checks, '$1', format('($1)::%s', type_name)))
       into v_passes
      using given;
    return v_passes;
exception
    when data_exception then
        return false;
end
$$;

create temporary table written (value text) on commit drop;

insert into written
select distinct value
  from (
    select unnest(array[
               '', ' ', '0', '-0', '+1', '1', '-1', '007', ' 5', '5 ', '1e3', '1.', '.5', '1.50', '-0.0', '-0.50',
               '0x1F', '1_000', '2147483647', '2147483648', '-2147483648', '-2147483649', '9223372036854775808',
               'NaN', 'nan', 'Infinity', '-Infinity', 'infinity', '-infinity', 'inf', repeat('9', 1000),
               repeat('9', 1001), '0.' || repeat('9', 998), '0.' || repeat('9', 999), 'true', 'TRUE', 'True', 't',
               'tRUE', 'yes', 'now', 'today', 'epoch', 'allballs', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
               'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'a0eebc99-9c0b-4ef8-bb6d-6BB9BD380A11',
               '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', 'a0eebc999c0b4ef8bb6d6bb9bd380a11'])
    union all
    select day || separator || time || fraction || zone
      from unnest(array['2024-02-29', '2023-02-29', '1000-01-01', '0999-12-31', '9999-12-31', '10000-01-01',
                        '31.01.2024']) as day
     cross join unnest(array[' ', 'T']) as separator
     cross join unnest(array['10:00:00', '24:00:00', '10:00:60', '9:00:00']) as time
     cross join unnest(array['', '.5', '.120', '.120000']) as fraction
     cross join unnest(array['', 'Z', '+00', '+00:00', ' BC', '-05:30']) as zone
    union all
    select unnest(array['2024-01-31', '2024-02-29', '2023-02-29', '1000-01-01', '0999-12-31', '0001-01-01',
                        '9999-12-31', '10000-01-01', '2024-1-31', '31.01.2024', '20240131', '2024-01-31 BC',
                        '1044-03-15 BC', '1044-03-15 10:00:00 BC', '2024-01-31 '])
    union all
    select time || fraction
      from unnest(array['10:00:00', '23:59:59', '24:00:00', '10:00:60', '10:00', '9:00:00']) as time
     cross join unnest(array['', '.5', '.120', '.120000', '.1200001', '.']) as fraction
  ) as texts (value);

select is_empty(
    $$ select rank, value, accepted
         from tinydevcrm.csv_types
        cross join written
        cross join lateral (
            select octet_length(value) <= max_length and value ~ accepts
        ) as expression (accepted)
        where checks is not null
          and accepted <> pg_temp.passes(checks, value, type_name) $$,
    'the checks of each rank pass the texts that its expression accepts, and no others');
select is(
    (select count(distinct rank)::integer
       from tinydevcrm.csv_types
      where exists (
        select
          from written
         where octet_length(value) <= max_length
           and value ~ accepts
      )),
    (select count(*)::integer from tinydevcrm.csv_types where accepts is not null),
    'there is a text for each rank');
select is_empty(
    $$ select rank from tinydevcrm.csv_types where (checks is null) <> (restores is null or accepts is null) $$,
    'each rank whose text can be restored has checks');

-- import_staging()

create table staging (id text, share text, day text, at text, empty text);

insert into staging
select n, n / 8.0, date '2001-01-01' + n, timestamp '2001-01-01' + n * interval '1 minute', null
  from generate_series(1, 50000) as n;
update staging set share = null where id = '40000';

create temporary table before as select * from pg_temp.scans('staging');

select results_eq(
    $$ select row_count, array(select value->>'type' from jsonb_array_elements(columns))
         from tinydevcrm.import_staging('staging', 'items') $$,
    $$ values (50000::bigint, '{integer,numeric,date,timestamp without time zone,text}'::text[]) $$,
    'import_staging() finds the types');
select cmp_ok(
    (select scans.tuples - before.tuples
       from pg_temp.scans('staging')
      cross join before),
    '<', 100000::bigint, 'and reads the staging table once, beside its first rows');
select is_empty(
    $$ select id::text, share::text, day::text, at::text, empty from items
       except
       select id, share, day, at, empty from staging $$,
    'the values are those of the staging table');

-- Rows after the first thousand, on which the types depend.
create function pg_temp.late(given text, late_value text, type_name text)
    returns text
    language plpgsql
as $$
declare
    v_type text;
begin
    drop table if exists late, late_items;
    create table late (value text);
    insert into late
    select case when n <= 1000 then given else late_value end
      from generate_series(1, 1001) as n;

    select columns->0->>'type'
      into v_type
      from tinydevcrm.import_staging('late', 'late_items');
    return v_type;
end
$$;

select is(pg_temp.late(given, late_value, type_name), type_name, format('%L after %L', late_value, given))
  from (
    values ('1', '3000000000', 'bigint'),
           ('1', '007', 'text'),
           ('1.5', 'NaN', 'text'),
           ('2024-01-31', '0999-12-31', 'text'),
           ('10:00:00', '24:00:00', 'text'),
           (null, '5', 'integer')
  ) as late (given, late_value, type_name);

-- A value at the end of the file that fits no form

select is(
    (select columns->0->>'type' from pg_temp.import('late_letters', 'n/a')), 'text', 'a late n/a makes text');
select cmp_ok(
    (select scans from pg_temp.scans('late_letters')), '<=', 5::bigint, 'and is looked for once, not once per form');
select is(
    (select columns->0->>'type' from pg_temp.import('late_form', '2,000.5')), 'numeric',
    'a late 2,000.5 is a number, as of its form');

-- Modes

create table people (id integer primary key, name text);

insert into people
select n, 'old' from generate_series(1, 1000) as n;

analyze people;

create table changes (id text, name text);

insert into changes
select n, 'new' from generate_series(991, 1010) as n;

select is(
    (select row_count from tinydevcrm.import_staging('changes', 'people', 'upsert', '{id}')), 20::bigint,
    'an upsert of few rows');
select is(
    (select reltuples from pg_class where oid = 'people'::regclass), 1000::real,
    'leaves the statistics as they are');
select cmp_ok(
    (select tuples from pg_temp.scans(format('pg_temp._import_%s', (select max(id) from tinydevcrm.imports))::regclass)),
    '<=', 40::bigint, 'and reads the loaded rows once, beside its first rows');

insert into changes
select n, 'new' from generate_series(2001, 3000) as n;

select is(
    (select reltuples
       from tinydevcrm.import_staging('changes', 'people', 'upsert', '{id}')
       join pg_class
         on pg_class.oid = relation),
    2010::real, 'one of many rows does not');

select * from finish();

rollback;
