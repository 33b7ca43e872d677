-- The ladder: what each type accepts, and that accepted values load and can be restored.

begin;

select plan(6);

-- One expression after another, because Postgres keeps no more than 32 of them compiled.
create temporary table chosen (value text primary key, type_name text);

create function pg_temp.narrowest(given text[])
    returns table (value text, type_name text)
    language plpgsql
as $$
declare
    v_type tinydevcrm.csv_types;
begin
    delete from chosen;
    insert into chosen
    select distinct unnest(given);

    for v_type in
        select csv_types.*
          from tinydevcrm.csv_types
         order by rank
    loop
        update chosen
           set type_name = v_type.type_name
         where chosen.type_name is null
           and (v_type.accepts is null
                or octet_length(chosen.value) <= v_type.max_length and chosen.value ~ v_type.accepts);
    end loop;

    return query
        select chosen.value, chosen.type_name
          from chosen;
end
$$;

create temporary table samples (value text, type_name text);

insert into samples
values
    ('true', 'boolean'), ('FALSE', 'boolean'), ('t', 'text'), ('yes', 'text'), ('tRUE', 'text'),
    ('0', 'integer'), ('-1', 'integer'), ('2147483647', 'integer'), ('-2147483648', 'integer'),
    ('2147483648', 'bigint'), ('-2147483649', 'bigint'), ('9223372036854775807', 'bigint'),
    ('-9223372036854775808', 'bigint'), ('9223372036854775808', 'numeric'),
    ('-9223372036854775809', 'numeric'), ('0.5', 'numeric'), ('-0.5', 'numeric'),
    ('1.50', 'numeric'), ('123456789012345678901234567890', 'numeric'),
    (repeat('9', 1000), 'numeric'), (repeat('9', 1001), 'text'), ('-0.05', 'numeric'),
    ('007', 'text'), ('+15551234567', 'text'), (' 5', 'text'), ('5 ', 'text'), ('1e3', 'text'),
    ('-0', 'text'), ('-0.0', 'text'), ('.5', 'text'), ('5.', 'text'), ('1,5', 'text'), ('', 'text'),
    ('1e-07', 'double precision'), ('-1.2345678901234567e+20', 'double precision'),
    ('1.5E+02', 'double precision'), ('1.5e5', 'text'), ('15e-07', 'text'), ('1e-400', 'text'),
    ('1.23456789012345678e-07', 'text'), ('0.0e+00', 'double precision'), ('-0e+00', 'text'),
    ('NaN', 'text'), ('1_000', 'text'), ('0x10', 'text'), (E'1\n', 'text'), (E'1\n2', 'text'),
    ('2024-01-31', 'date'), ('2024-02-29', 'date'), ('2000-02-29', 'date'), ('2023-02-29', 'text'),
    ('1900-02-29', 'text'), ('2024-04-31', 'text'), ('2024-13-01', 'text'), ('0999-01-01', 'text'),
    ('31.01.2024', 'text'), ('01/02/2024', 'text'), ('2024-1-31', 'text'),
    ('2024-01-31 10:00:00', 'timestamp without time zone'),
    ('2024-01-31T10:00:00.123456', 'timestamp without time zone'),
    ('2024-01-31T10:00:00.1234567', 'text'), ('2024-01-31 24:00:00', 'text'),
    ('2024-01-31T10:00:00Z', 'timestamp with time zone'),
    ('2024-01-31 10:00:00.5+05:30', 'timestamp with time zone'),
    ('2024-01-31 10:00:00-08', 'timestamp with time zone'), ('2024-01-31 10:00:00 CET', 'text'),
    ('10:00:00', 'time without time zone'), ('23:59:59.999999', 'time without time zone'),
    ('10:00', 'text'), ('24:00:00', 'text'),
    ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'uuid'),
    ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'uuid'),
    ('{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', 'text'), ('a0eebc999c0b4ef8bb6d6bb9bd380a11', 'text');

select is_empty(
    $$ select value, samples.type_name, narrowest.type_name
         from samples
         join pg_temp.narrowest(array(select value from samples)) as narrowest
        using (value)
        where narrowest.type_name is distinct from samples.type_name $$,
    'each sample gets the narrowest type that loses none of its text');

create function pg_temp.printed(value text, type_name text)
    returns text
    language plpgsql
as $$
declare
    v_printed text;
begin
    execute format('select %L::%s::text', value, type_name)
       into v_printed;
    return v_printed;
end
$$;

select is_empty(
    $$ select value, type_name, pg_temp.printed(value, type_name)
         from samples
        where type_name in ('integer', 'bigint', 'numeric', 'date', 'text')
          and pg_temp.printed(value, type_name) is distinct from value $$,
    'a value of a type that loses nothing is printed as it was written');

select lives_ok(
    $$ select pg_temp.printed(value, type_name) from samples $$,
    'every value that a type accepts loads');

-- Edges of the integer patterns, digit by digit.
select is_empty(
    $$ with edges (bound, type_name) as (
           values (2147483647::numeric, 'integer'), (9223372036854775807, 'bigint')
       ),
       near (value, fits, type_name) as (
           select sign * trunc(bound + direction * 10::numeric ^ place),
                  direction < 0,
                  type_name
             from edges
            cross join generate_series(0, 18) as place
            cross join (values (1), (-1)) as directions (direction)
            cross join (values (1), (-1)) as signs (sign)
            where 10::numeric ^ place < bound
       )
       select near.value, near.fits, near.type_name
         from near
         join tinydevcrm.csv_types
        using (type_name)
        where (near.value::text ~ csv_types.accepts) <> near.fits
          and abs(near.value) not in (2147483648, 9223372036854775808) $$,
    'the patterns of integer and bigint end where the types do');

select is_empty(
    $$ select value, type_name
         from pg_temp.narrowest(array(
                  select to_char(day, 'YYYY-MM-DD')
                    from generate_series(timestamp '1896-01-01', '2104-12-31', '1 day') as day))
        where type_name <> 'date' $$,
    'every day of two centuries is a date');

select is(
    (select count(*)::integer
       from pg_temp.narrowest(array(
                select format('%s-%s-%s', year, lpad(month::text, 2, '0'), lpad(day::text, 2, '0'))
                  from generate_series(1896, 2104) as year
                 cross join generate_series(1, 12) as month
                 cross join generate_series(1, 31) as day))
      where type_name = 'date'),
    (date '2104-12-31' - date '1896-01-01') + 1,
    'a day that does not exist is not a date');

select * from finish();

rollback;
