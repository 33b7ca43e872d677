-- What is dropped by hand leaves nothing behind, and nothing of ours stops the drop.

begin;

select plan(9);

create role "Tap Owner" in role tinydevcrm_user;
create role "Tap Landlord" in role tinydevcrm_user;
create schema "My Data" authorization "Tap Owner";
set local search_path = "My Data", public;
set local role "Tap Owner";

create table numbers as
select 1 as n;

create function pg_temp.make(name text)
    returns void
    language plpgsql
as $$
begin
    perform tinydevcrm.create_matview(make.name, 'select * from numbers');
    perform tinydevcrm.schedule_matview(to_regclass(make.name), '5 seconds');
    perform tinydevcrm.create_subscription('only ' || make.name, to_regclass(make.name));
end
$$;

-- Registrations, schedules, jobs and subscriptions.
create function pg_temp.left_over()
    returns text
    language sql
as $$
    select format(
        '%s %s %s %s',
        (select count(*) from tinydevcrm.matviews),
        (select count(*) from tinydevcrm.schedules),
        (select count(*) from cron.job where command like 'call tinydevcrm.refresh_scheduled(%'),
        (select count(*) from tinydevcrm.subscriptions))
$$;

select pg_temp.make('v');
select pg_temp.make('w');

select is(pg_temp.left_over(), '2 1 1 2', 'two views share a schedule and its job');

drop materialized view v;

select is(pg_temp.left_over(), '1 1 1 1', 'a view that is dropped is forgotten');

set local client_min_messages = warning;
drop table numbers cascade;

select is(
    pg_temp.left_over(), '0 0 0 0', 'one that goes by cascade too, and the job goes with the last');

create table numbers as
select 1 as n;

select pg_temp.make('v');

alter materialized view v rename to renamed;

select is(
    (select relation::text from tinydevcrm.matviews), 'renamed', 'a new name is followed by itself');
select is(
    (select matview from tinydevcrm.refresh_matview('renamed')), '"My Data".renamed',
    'and told from then on');

reset role;
alter schema "My Data" owner to "Tap Landlord";
set local role "Tap Landlord";

select is(pg_temp.left_over(), '0 0 0 0', 'the owner of the schema does not see what is in it');

drop materialized view renamed;

reset role;

select is(pg_temp.left_over(), '0 0 0 0', 'and what they drop is forgotten all the same');

-- A registry in ruins.

create materialized view unwatched as
select 1 as one;

alter table tinydevcrm.matviews rename to ruins;
set local client_min_messages = error;

select lives_ok('drop materialized view unwatched', 'a drop goes through even when ours fails');
select is(to_regclass('unwatched'), null, 'and drops');

select * from finish();

rollback;
