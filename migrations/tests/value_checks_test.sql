-- Values that a table would change without an error are refused in the modes that fill it.

begin;

select plan(16);

create schema "My Data";
set local search_path = "My Data", public;

create domain short as varchar(3);
create table strict_log (
    d date,
    t timestamp,
    n numeric(5, 1),
    r real,
    c char(3),
    v varchar(3),
    s short,
    b bit(3)
);

create function pg_temp.append(column_name text, value text)
    returns text
    language plpgsql
as $$
declare
    v_detail text;
begin
    create temporary table one (value text);
    insert into one
    values (value);
    execute format('alter table one rename value to %I', column_name);
    execute format('create table target_of_one as select %I from strict_log limit 0', column_name);
    perform tinydevcrm.import_staging('one', 'target_of_one', 'append');
    execute format('select %I::text from target_of_one', column_name)
       into v_detail;
    drop table one, target_of_one;
    return v_detail;
exception
    when others then
        get stacked diagnostics v_detail = pg_exception_detail;
        return sqlstate || ' ' || v_detail;
end
$$;

select is(
    pg_temp.append(given.name, given.value), given.wanted,
    format('%s into %s', given.value, given.name))
  from (
    values
        ('d', '2024-01-31', '2024-01-31'),
        ('d', '2024-01-31 10:00:00', 'TD006 row 1, column d: date would change ''2024-01-31 10:00:00'''),
        ('t', '2024-01-31T10:00:00', '2024-01-31 10:00:00'),
        ('t', '2024-01-31 10:00:00+05',
            'TD006 row 1, column t: timestamp without time zone would change ''2024-01-31 10:00:00+05'''),
        ('n', '1.5', '1.5'),
        ('n', '1.25', 'TD006 row 1, column n: numeric(5,1) would change ''1.25'''),
        ('r', '16777217', 'TD006 row 1, column r: real would change ''16777217'''),
        ('c', 'abc', 'abc'),
        ('c', 'ab', 'ab'),
        ('v', 'abcd', 'TD006 row 1, column v: character varying(3) would change ''abcd'''),
        ('s', 'abcd', 'TD006 row 1, column s: "My Data".short would change ''abcd'''),
        ('r', '20000000', '2e+07'),
        ('b', '101', '101'),
        -- Whatever the DateStyle is.
        ('d', '25.04.2026', '2026-04-25'),
        ('d', '03/04/2026', 'TD006 row 1, column d: date cannot be read from ''03/04/2026'''),
        ('n', '1.234,5', '1234.5')
  ) as given (name, value, wanted);

select * from finish();

rollback;
