-- Distribution without Citus: clear errors, and nothing else differs. What needs Citus is tested by
-- orchestrator/citus_*_test.go.

begin;

select plan(21);

create schema "My Data";
set local search_path = "My Data", public;

create function pg_temp.hint(statement text)
    returns text
    language plpgsql
as $$
declare
    v_hint text;
begin
    execute statement;
    return null;
exception
    when others then
        get stacked diagnostics v_hint = pg_exception_hint;
        return v_hint;
end
$$;

create table "My Table" ("Id" integer, name text);
create temporary table staging (id text, name text);
insert into staging values ('1', 'a');

-- distribute_table()

select throws_ok(
    $$ select tinydevcrm.distribute_table('"My Table"', 'Id') $$, 'TD010',
    'this database is not a Citus coordinator: there is nothing to distribute to',
    'without Citus a table is not distributed');
select matches(
    pg_temp.hint($$ select tinydevcrm.distribute_table('"My Table"', 'Id') $$),
    'shared_preload_libraries = ''citus,pg_cron''.*create extension citus.*citus_add_node',
    'the hint says what to type');
select throws_ok(
    $$ select tinydevcrm.distribute_table('"My Table"', as_reference => true) $$, 'TD010', null,
    'without Citus no reference table is made');
select throws_ok(
    $$ select tinydevcrm.list_distributions() $$, 'TD010', null, 'without Citus no distributions are listed');
select is(tinydevcrm._find_distribution('"My Table"'), null, 'without Citus a table has no distribution');
select is(tinydevcrm._find_distribution(null), null, 'null has no distribution');
select is(
    tinydevcrm._find_distribution_column('"My Table"'), null,
    'without Citus a table has no distribution column');

-- what is checked before Citus is called

select throws_ok(
    $$ select tinydevcrm._check_table('"My Table"', 'id') $$, 'TD006',
    'table "My Data"."My Table" has no column ''id'' to distribute by',
    'a column that does not exist is refused, in its exact spelling');
select lives_ok($$ select tinydevcrm._check_table('"My Table"', 'Id') $$, 'a column that exists passes');
select throws_ok(
    $$ select tinydevcrm._check_table('tinydevcrm.imports', 'id') $$, 'TD007', null,
    'our own tables are not distributed');
create view v as select 1 as one;
select throws_ok(
    $$ select tinydevcrm._check_table('v', null) $$, 'TD011', '"My Data".v is not a table',
    'a view is not distributed');
select throws_ok(
    $$ select tinydevcrm._check_table(null, null) $$, 'TD011', 'null is not a table',
    'null is not distributed');

insert into "My Table" values (1, 'a'), (null, 'b');
select throws_ok(
    $$ select tinydevcrm._check_distributable('"My Table"', 'Id') $$, 'TD011',
    'column "Id", by which table "My Data"."My Table" would be distributed, is null in 1 of its rows',
    'a null in the distribution column is refused');
create unique index on "My Table" ("Id");
select throws_ok(
    $$ select tinydevcrm._check_distributable('"My Table"', 'name') $$, 'TD011',
    'the unique index "My Table_Id_idx" ("Id") of table "My Data"."My Table" lacks name, by which it would be distributed',
    'a unique index without the distribution column is refused');

-- imports

select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{a}', '{1}', distribute_by => 'a') $$, 'TD010', null,
    'an import is refused before the file is read');
select throws_ok(
    $$ select tinydevcrm.import_staging('staging', 'x', distribute_by => 'id') $$, 'TD010', null,
    'import_staging() is refused too');
select is(to_regclass('x'), null, 'a refused import leaves no table');
select results_eq(
    $$ select distribute_by, distribution
         from tinydevcrm.import_staging('staging', 'plain', distribute_by => '') $$,
    $$ values (null::text, null::text) $$,
    'an empty distribute_by leaves a local table');
select lives_ok(
    $$ select tinydevcrm.import_staging('staging', 'plain', 'append') $$,
    'rows are appended to a local table as before');

-- others

select is_empty(
    $$ select finding from tinydevcrm._check_workers() $$,
    'without Citus there are no workers to check');

create role tap_other;
grant tinydevcrm_user to tap_other;
grant usage on schema "My Data" to tap_other;
set local role tap_other;
select throws_ok(
    $$ select tinydevcrm._check_table('"My Table"', 'Id') $$, '42501',
    '"My Data"."My Table" belongs to postgres, and this session has not logged in as that role',
    'only the owner can distribute a table');
reset role;

select * from finish();
rollback;
