-- The modes of an import are rows: what they allow and what an error lists is read from them.

begin;

select plan(13);

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

select results_eq(
    $$ select name, takes_key from tinydevcrm.import_modes order by rank $$,
    $$ values ('create', false), ('replace', false), ('append', false), ('upsert', true) $$,
    'there are four modes');
select lives_ok(
    format(
        $$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', table_name => %1$L, mode => %1$L, key => %2$L) $$,
        name, case when takes_key then '{n}' end),
    'an import begins in mode ' || name)
  from tinydevcrm.import_modes;
select bag_eq(
    $$ select mode from tinydevcrm.imports where schema_name = 'My Data' $$,
    $$ select name from tinydevcrm.import_modes $$,
    'and the log shows the mode');
select throws_ok(
    $$ insert into tinydevcrm.imports (source, mode, schema_name, table_name) values ('x', 'nope', 's', 't') $$,
    '23503', null, 'the log has no other mode');

insert into tinydevcrm.import_modes (rank, name, label, description, takes_key)
values (0, 'merge', 'merge its rows', 'Merges.', true);

select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'merge') $$, 'TD007',
    'mode merge needs a key', 'the row decides that a mode needs a key');
select is(
    pg_temp.hint($$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'merge') $$),
    'The key names the columns by which mode merge or upsert finds the row to update (--key id).',
    'the hint names the modes with a key');
update tinydevcrm.import_modes
   set takes_key = false
 where name = 'merge';
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'merge', key => '{n}') $$, 'TD007',
    'mode merge takes no key', 'or takes none');
select is(
    pg_temp.hint($$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => 'nope') $$),
    'The modes are merge, create, replace, append, upsert.', 'the hint lists the rows by rank');
select is(
    pg_temp.hint($$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', mode => null) $$),
    'The modes are merge, create, replace, append, upsert.', 'also without a mode');
select is(
    pg_temp.hint($$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', table_name => 'append') $$),
    'Import under another name, or in another mode: merge, replace, append, upsert.',
    'so does the hint for a name in use');

select * from finish();
rollback;
