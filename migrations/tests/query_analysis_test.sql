-- What a query depends on: see create_query_analysis.
begin;

select plan(32);

create table orders (id integer, name text, at timestamptz, day date);
create table parts (id integer) partition by range (id);
create table parts_1 partition of parts for values from (0) to (10);
create table base (id integer);
create table child (extra text) inherits (base);
create unlogged table scratch (id integer);
create sequence numbers;
create view late_orders as select * from orders where id > 1;
create materialized view inner_matview as select * from orders;
create foreign data wrapper nothing;
create server nowhere foreign data wrapper nothing;
create foreign table far (id integer) server nowhere;
create table guarded (id integer);
alter table guarded enable row level security;

create function own_stable(integer) returns integer language sql stable as 'select 1';
create function own_immutable(integer) returns integer language sql immutable as 'select 1';
create function own_step(integer, integer) returns integer language plpgsql volatile
    as 'begin return 1; end';
create aggregate own_aggregate(integer) (sfunc = own_step, stype = integer);

create function reason_of(query text) returns text language plpgsql as $$
declare
    v_reason text;
begin
    execute 'create materialized view analyzed as ' || query || ' with no data';
    v_reason := coalesce(
        tinydevcrm._find_call_reason('analyzed'), tinydevcrm._find_read_reason('analyzed'));
    drop materialized view analyzed;
    return v_reason;
end
$$;

create function reads_of(query text) returns text language plpgsql as $$
declare
    v_reads text;
begin
    execute 'create materialized view analyzed as ' || query || ' with no data';
    select string_agg(oid::regclass::text, ', ' order by oid::regclass::text)
      into v_reads
      from tinydevcrm._list_reads('analyzed');
    drop materialized view analyzed;
    return v_reads;
end
$$;

select is(reads_of('select * from orders'), 'orders', 'a table is read');
select is(reads_of('select * from late_orders'), 'late_orders, orders', 'a view and its table');
select is(reads_of('select * from parts'), 'parts, parts_1', 'a table and its partitions');
select is(reads_of('select * from base'), 'base, child', 'a table and what inherits from it');
select is(
    reads_of('select * from inner_matview'), 'inner_matview',
    'a materialized view, but not what that reads');
select is(
    reads_of('select (select count(*) from orders) as n where exists (select from base)'),
    'base, child, orders', 'tables of subqueries');
select is(
    reads_of('with o as (select * from orders) select * from o union all select * from orders'),
    'orders', 'tables of common table expressions and of union');
select is(reads_of('select 1 as "x :relid 1259"'), null, 'a name that looks like a reference is none');

select is(reason_of('select * from orders'), null, 'a plain query depends on its table alone');
select is(reason_of('select 1 as x'), null, 'a constant depends on nothing');
select is(
    reason_of(
        'select day, to_char(at, ''YYYY'') as y, age(at, at) as a, at::date as d, name::date as n,
                string_agg(name, '','' order by id) as names, json_agg(name) as j,
                row_number() over (order by day) as place
           from orders
          where at > ''2020-01-01'' and at > day and name ~ ''x''
          group by day, at, name'),
    null, 'functions that depend on settings alone do no harm');
select is(reason_of('select own_immutable(id) from orders'), null, 'an immutable function is trusted');
select matches(reason_of('select * from orders where at > now()'), 'now\(\)', 'now()');
select matches(reason_of('select clock_timestamp()'), 'clock_timestamp\(\)', 'clock_timestamp()');
select matches(reason_of('select random() from orders'), 'random\(\)', 'random()');
select matches(reason_of('select age(at) from orders'), 'age\(', 'age() of one argument');
select matches(reason_of('select * from orders where day = current_date'), 'current_date', 'current_date');
select matches(reason_of('select current_user::text as u'), 'current_user', 'current_user');
select matches(reason_of('select current_setting(''work_mem'')'), 'current_setting', 'a setting');
select matches(reason_of('select nextval(''numbers'')'), 'nextval', 'nextval()');
select matches(reason_of('select last_value from numbers'), 'the sequence', 'a sequence');
select matches(
    reason_of('select own_stable(id) from orders'), 'own_stable\(integer\), which is stable',
    'a stable function of a user');
select matches(
    reason_of('select own_aggregate(id) from orders'), 'own_step\(integer,integer\), which is volatile',
    'an aggregate that is made of a volatile function');
select matches(
    reason_of('select * from orders tablesample system (10)'), 'random sample', 'tablesample');
select matches(reason_of('select relname from pg_class'), 'the catalog pg_class', 'a catalog');
select matches(
    reason_of('select * from pg_get_keywords()'), 'pg_get_keywords', 'a function that reads a catalog');
select matches(reason_of('select * from far'), 'the foreign table', 'a foreign table');
select matches(reason_of('select * from scratch'), 'the unlogged table', 'an unlogged table');
select matches(reason_of('select * from guarded'), 'row-level security', 'row-level security');
select matches(
    reason_of('select * from late_orders where exists (select from far)'), 'the foreign table',
    'a foreign table in a subquery');

create role analysis_other;
alter table base owner to analysis_other;
select matches(
    reason_of('select * from base'), 'base, which belongs to analysis_other', 'a table of another role');

create view clock as select now() as at;
select matches(reason_of('select * from clock'), 'now\(\)', 'a function that a view calls');

select * from finish();
rollback;
