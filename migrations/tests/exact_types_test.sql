-- The types of columns in a Parquet file.

begin;

select plan(21);

create schema "My Data";
set local search_path = "My Data", public;

create domain amount as numeric(10, 2);
create domain "Paid" as amount;
create domain long as numeric;
create type "date" as enum ('a');

select is(tinydevcrm._choose_decimal(largest, scale), wanted, format('%s and %s digits are %s', largest, scale, wanted))
  from (
    values
        (null::numeric, null::integer, 'numeric(18,0)'), (0.5, 1, 'numeric(18,1)'), (99999999, 10, 'numeric(18,10)'),
        (100000000, 10, 'numeric(38,10)'), (1e37, 0, 'numeric(38,0)'), (1e37, 1, 'text'), (0, 37, 'numeric(38,37)'), (0, 38, 'text')
  ) as numbers (largest, scale, wanted);

create function types(type text, variadic "values" text[])
    returns text[]
    language plpgsql
as $$
begin
    drop table if exists "The ""table""";
    execute format('create table "The ""table""" ("a %%I" %s)', type);
    execute format('insert into "The ""table""" select value::%s from unnest($1) as value', type) using "values";
    return tinydevcrm._choose_exact_types('"The ""table"""');
end
$$;

select is(types(type, variadic "values"), array[wanted], format('%s with %s is %s', type, "values", wanted))
  from (
    values
        ('numeric', '{1.5,-20.25,null}'::text[], 'numeric(18,2)'),
        ('numeric', '{}', 'numeric(18,0)'),
        ('numeric', '{1,NaN}', 'text'),
        ('numeric(10, 2)', '{1,null}', 'numeric(10,2)'),
        ('amount', '{NaN}', 'text'),
        ('"Paid"', '{1}', 'numeric(10,2)'),
        ('long', '{1.25}', 'numeric(18,2)'),
        ('pg_catalog.date', '{2026-01-01,infinity}', 'text'),
        ('timestamptz(3)', '{2026-01-01,0044-03-15 BC}', 'timestamp(3) with time zone'),
        ('timestamp', '{294247-01-01}', 'text'),
        ('"My Data"."date"', '{a}', '"My Data".date')
  ) as columns (type, "values", wanted);

create table several (a time, dropped text, b time, c integer[], d jsonb);
alter table several drop column dropped;
insert into several values ('10:00', '24:00', '{1}', '{}');
select is(
    tinydevcrm._choose_exact_types('several'),
    '{time without time zone,text,integer[],jsonb}'::text[],
    'columns keep their order, and dropped ones are left out');

create role "Tap Other" login;
grant tinydevcrm_user to "Tap Other";
set local session authorization "Tap Other";
select throws_ok(
    $$ select tinydevcrm._choose_exact_types('"My Data".several'::regclass) $$, '42501', null,
    'a relation of another user is not read');
reset session authorization;

select * from finish();
rollback;
