-- The registry follows drops and new owners, and no error of ours stops the user's statement.

begin;

select plan(21);

create role "Tap Owner" in role tinydevcrm_user;
create role "Tap Landlord" in role tinydevcrm_user;
create schema "My Data" authorization "Tap Owner";
set local search_path = "My Data", public;

-- Users do not see pg_cron's table.
create function pg_temp.jobs()
    returns bigint
    language sql
    security definer
as $$
    select count(*)
      from cron.job
     where command ~ '^call tinydevcrm.refresh_(scheduled|by_seconds)'
$$;

-- Registrations, schedules and subscriptions.
create function pg_temp.left_over()
    returns text
    language sql
as $$
    select format(
        '%s %s %s',
        (select count(*) from tinydevcrm.matviews),
        (select count(*) from tinydevcrm.schedules),
        (select count(*) from tinydevcrm.subscriptions))
$$;

set local session authorization "Tap Owner";

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

select pg_temp.make('v');
select pg_temp.make('w');

select is(concat_ws(' ', pg_temp.left_over(), pg_temp.jobs()), '2 1 2 1', 'two views share a schedule and its job');

drop materialized view v;

select is(
    concat_ws(' ', pg_temp.left_over(), pg_temp.jobs()), '1 1 2 1',
    'a dropped view loses its registration, and its subscriptions stay');

set local client_min_messages = warning;
drop table numbers cascade;

select is(
    concat_ws(' ', pg_temp.left_over(), pg_temp.jobs()), '0 0 2 0',
    'a drop by cascade does the same, and the last view takes the job along');

create table numbers as
select 1 as n;

select pg_temp.make('v');

alter materialized view v rename to renamed;

select is(
    (select relation::text from tinydevcrm.matviews), 'renamed', 'a renamed view stays registered');
select is(
    (select matview from tinydevcrm.refresh_matview('renamed')), '"My Data".renamed',
    'events have the new name');

reset session authorization;
alter schema "My Data" owner to "Tap Landlord";
set local session authorization "Tap Landlord";

select is(pg_temp.left_over(), '0 0 0', 'the owner of the schema does not see the registration');

drop materialized view renamed;

reset session authorization;

select is(
    concat_ws(' ', pg_temp.left_over(), pg_temp.jobs()), '0 0 2 0',
    'a view that they drop loses its registration all the same');

-- owners

create role "Tap Heir" in role tinydevcrm_user;
create schema given;
grant all on schema given to "Tap Owner", "Tap Heir";
set local search_path = given, public;
set local session authorization "Tap Owner";
select tinydevcrm.create_matview('given', 'select 1 as n');
select tinydevcrm.schedule_matview('given', '5 seconds');
reset session authorization;

create function pg_temp.whose()
    returns text
    language sql
as $$
    select string_agg(format('%s %s %s', matviews.owner, schedules.owner, job.username), ', ')
      from tinydevcrm.matviews
      join tinydevcrm.schedules
        on schedules.id = matviews.schedule_id
      join cron.job
        on job.jobid = schedules.job_id
     where matviews.relation = 'given.given'::regclass
$$;

select is(
    pg_temp.whose(), '"Tap Owner" "Tap Owner" Tap Owner',
    'registration, schedule and job belong to the owner');

alter materialized view given owner to "Tap Heir";

select is(
    pg_temp.whose(), '"Tap Heir" "Tap Heir" Tap Heir',
    'a new owner gets registration, schedule and job with the view');
select is(
    (select count(*) from cron.job where username = 'Tap Owner'), 0::bigint, 'the old owner has no job left');

reassign owned by "Tap Heir" to "Tap Owner";
call tinydevcrm.settle_jobs();

select is(
    (select array_agg(schedule) from cron.job where command = 'call tinydevcrm.settle_jobs()'),
    array['* * * * *'], 'upkeep is one job of every minute, however often it has run');
select is(
    pg_temp.whose(), '"Tap Owner" "Tap Owner" Tap Owner', 'upkeep follows reassign owned');
select is(
    (select count(*) from cron.job where username = 'Tap Heir'), 0::bigint,
    'upkeep leaves no job of the old owner');

drop owned by "Tap Owner";

select is(
    (select count(*) from cron.job where username = 'Tap Owner'), 0::bigint,
    'drop owned leaves no job');

-- A table that has been renamed, and imported again under its old name

reset role;
create schema "Tap Imports";
set local search_path = "Tap Imports", public;
create temporary table staging as
select '1' as n;
select tinydevcrm.import_staging('staging', 'orders');
create view chosen as
select * from orders;
select tinydevcrm.create_matview('orders_view', 'select * from chosen');
select is(
    (select notices from tinydevcrm.import_staging('staging', 'orders', 'append')), '{}'::text[],
    'an append adds no notice');
alter table orders rename to orders_2025;
select is(
    (select notices from tinydevcrm.import_staging('staging', 'others')), '{}'::text[],
    'a new table that no view has read adds no notice');
select is(
    (select notices from tinydevcrm.import_staging('staging', 'orders')),
    array['view "Tap Imports".orders_view reads "Tap Imports".orders_2025, which was called '
          '"Tap Imports".orders before, and not this table'],
    'an import under the old name of a table says which views still read the renamed one');
select is(
    (select notices from tinydevcrm.import_staging('staging', 'orders', 'append')), '{}'::text[],
    'the next import does not repeat the notice');
select is(
    (select row_count from tinydevcrm.refresh_matview('orders_view')), 2::bigint,
    'the view reads the renamed table');

set local search_path = "My Data", public;

-- With a broken registry.

create materialized view unwatched as
select 1 as one;

set local client_min_messages = error;
alter table tinydevcrm.matviews rename to ruins;
set local client_min_messages = error;

select lives_ok('drop materialized view unwatched', 'a drop succeeds even when the trigger of ours fails');
select is(to_regclass('unwatched'), null, 'the view is gone');

select * from finish();

rollback;
