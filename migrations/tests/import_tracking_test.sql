-- The changes of an imported table are tracked without being asked for.

begin;

select plan(9);

create schema "My Data";
set local search_path = "My Data", public;
create function pg_temp.import(mode text, rows text, columns text default 'id text, n text')
    returns void
    language plpgsql
as $$
begin
    drop table if exists staging;
    execute format('create temporary table staging (%s)', import.columns);
    execute 'insert into staging values ' || import.rows;
    perform tinydevcrm.import_staging('staging', 'Orders', import.mode, schema_name => 'My Data');
end
$$;

create function pg_temp.is_tracked() returns boolean language plpgsql as $$ begin
    return tinydevcrm._is_table_tracked('"My Data"."Orders"'::regclass);
end $$;

select pg_temp.import('create', $$ ('1', '10') $$);
select ok(pg_temp.is_tracked(), 'an import tracks the table that it creates');
select is(tinydevcrm._list_lost_properties('"Orders"'), null, 'which has nothing that a recreation would lose');

select pg_temp.import('replace', $$ ('1', '10', 'x') $$, 'id text, n text, note text');
select ok(pg_temp.is_tracked(), 'the table of other columns that takes its place is tracked too');
create trigger stamp before insert on "Orders" for each row execute function suppress_redundant_updates_trigger();
select is(tinydevcrm._list_lost_properties('"Orders"'), 'triggers', 'a trigger of the user''s would be lost');
drop trigger stamp on "Orders";

select tinydevcrm.create_matview('count', 'select count(*) as n from "Orders"');
select ok((select is_tracked from tinydevcrm.matviews), 'a view on it is tracked');

create function pg_temp.after(mode text, rows text) returns boolean language plpgsql as $$
begin
    update tinydevcrm.matviews set seen_snapshot = tinydevcrm._current_snapshot();
    delete from tinydevcrm.table_changes;
    perform pg_temp.import(mode, rows, 'id text, n text, note text');
    return (select tinydevcrm._is_stale(matviews) from tinydevcrm.matviews);
end
$$;
select ok(pg_temp.after('append', $$ ('2', '20', 'y') $$), 'an import that appends makes it stale');
select ok(pg_temp.after('replace', $$ ('3', '30', 'z') $$), 'and one that replaces the rows');

select tinydevcrm.untrack_table('"Orders"');
select pg_temp.import('append', $$ ('4', '40', 'x') $$, 'id text, n text, note text');
select ok(not pg_temp.is_tracked(), 'a table that is no longer tracked on request stays so');
select tinydevcrm.drop_matview('count');
select pg_temp.import('replace', $$ ('4', 'x') $$);
select ok(pg_temp.is_tracked(), 'until an import makes another one');

select * from finish();

rollback;
