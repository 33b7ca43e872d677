-- Where nobody may create event triggers, as on a rented server, upkeep follows what is done by hand.

begin;

select plan(30);

do $$
declare
    v_trigger name;
begin
    for v_trigger in select evtname from pg_event_trigger where evtname like 'tinydevcrm\_follow\_%' loop
        execute format('alter event trigger %I disable', v_trigger);
    end loop;
end
$$;

select ok(not tinydevcrm._follows_at_once(), 'there are no event triggers');

create role "Tap Owner" login in role tinydevcrm_user;
create role "Tap Landlord" login in role tinydevcrm_user;
create schema "My Data" authorization "Tap Owner";
grant create, usage on schema "My Data" to "Tap Landlord";
set local search_path = "My Data", public;

set local session authorization "Tap Owner";
create type mood as enum ('glad', 'sad');
create table numbers (n integer, mood mood);
insert into numbers values (1, 'glad'), (2, 'sad');
create table parts (n integer) partition by range (n);
create table parts_1 partition of parts for values from (0) to (10);
create function twice(n integer) returns integer language sql immutable as 'select 2 * n';
select tinydevcrm.create_matview('plain', 'select n from numbers');
select tinydevcrm.create_matview('doubled', 'select twice(n) as n from numbers');
select tinydevcrm.create_matview('glad', $$ select n from numbers where mood = 'glad' $$);
select tinydevcrm.create_matview('of_parts', 'select n from parts');
select tinydevcrm.create_subscription('all');
reset session authorization;

-- Which views are stale, by name.
create function pg_temp.stale() returns text language sql as $$
    select coalesce(string_agg(pg_class.relname, ' ' order by pg_class.relname), '')
      from tinydevcrm.matviews
      join pg_class
        on pg_class.oid = matviews.relation
     where tinydevcrm._is_stale(matviews)
       and matviews.owner = '"Tap Owner"'::regrole
$$;

create function pg_temp.refresh_all() returns void language plpgsql as $$
begin
    set local session authorization "Tap Owner";
    perform tinydevcrm.refresh_matview(matviews.relation) from tinydevcrm.matviews;
    reset session authorization;
end
$$;

-- What upkeep finds stale after a command of the owner.
create function pg_temp.after(command text) returns text language plpgsql as $$
declare
    v_stale text;
begin
    set local session authorization "Tap Owner";
    execute after.command;
    reset session authorization;
    call tinydevcrm.settle_jobs();
    v_stale := pg_temp.stale();
    perform pg_temp.refresh_all();
    return v_stale;
end
$$;

call tinydevcrm.settle_jobs();
select pg_temp.refresh_all();

select is(pg_temp.stale(), '', 'upkeep makes nothing stale that has not changed');
select is(pg_temp.after('analyze numbers'), '', 'nor do statistics');
select is(pg_temp.after('create index on numbers (n)'), '', 'nor an index');
select is(pg_temp.after('select'), '', 'nor a refresh');
select is(
    pg_temp.after('create or replace function twice(n integer) returns integer language sql immutable as ''select 3 * n'''),
    'doubled', 'another body of a function');
select is(
    pg_temp.after('alter type mood add value ''calm'''), 'doubled glad plain',
    'another label of a type of a column');
select is(
    pg_temp.after('create table parts_2 partition of parts for values from (10) to (20)'), 'of_parts',
    'another partition');
select ok(tinydevcrm._is_table_tracked('parts_2'::regclass), 'which is tracked from then on');
select is(pg_temp.after('insert into parts_2 values (11)'), 'of_parts', 'so a row of it counts');
select is(pg_temp.after('alter table parts detach partition parts_2'), 'of_parts', 'a partition that is detached');
select is(
    pg_temp.after('alter table numbers enable row level security'), 'doubled glad plain',
    'row-level security');
select is(
    (select bool_or(is_tracked) from tinydevcrm.matviews where relation = 'plain'::regclass), false,
    'with which a table cannot be tracked');
select is(
    pg_temp.after('alter table numbers disable row level security'), 'doubled glad plain',
    'and its end');
select is(
    (select bool_and(is_tracked) from tinydevcrm.matviews where relation = 'plain'::regclass), true,
    'with which it is tracked again');

-- Names

select is(pg_temp.after('alter table numbers rename to renamed'), 'doubled glad plain', 'a new name');
select matches(
    (select query from tinydevcrm.matview_definitions where name = 'plain'), '"My Data".renamed',
    'with which the query is printed again');
select pg_temp.after('alter materialized view plain rename to "Plain One"');
select is(
    (select count(*) from tinydevcrm.matview_definitions where name = 'Plain One'), 1::bigint,
    'the new name of a view');

-- Owners

select is(
    pg_temp.after($$ select tinydevcrm.schedule_matview('of_parts', '1 minute') $$), '', 'a schedule');
alter materialized view of_parts owner to "Tap Landlord";
call tinydevcrm.settle_jobs();
select is(
    (select array[matviews.owner::text, schedules.owner::text]
       from tinydevcrm.matviews
       join tinydevcrm.schedules
         on schedules.id = matviews.schedule_id
      where matviews.relation = 'of_parts'::regclass),
    array['"Tap Landlord"', '"Tap Landlord"'], 'upkeep follows a new owner');
select is(
    (select count(*) from cron.job where username = 'Tap Landlord'), 1::bigint,
    'who has the job now');

-- Drops

create temporary table plain as
select matviews.id
  from tinydevcrm.matviews
 where matviews.relation = '"Plain One"'::regclass;
set local session authorization "Tap Owner";
drop materialized view "Plain One";
reset session authorization;
call tinydevcrm.settle_jobs();
select is(
    (select array[matview, outcome, reason, is_notified::text]
       from tinydevcrm.matview_refresh_events
      where matview = '"My Data"."Plain One"'
      order by id desc
      limit 1),
    array['"My Data"."Plain One"', 'dropped', 'somebody dropped it', 'true'],
    'upkeep finds that a view was dropped, under its last name, and notifies');
select is(
    (select array[name, dropped_by] from tinydevcrm.dropped_matviews where id = (select id from plain)),
    array['Plain One', null], 'nobody saw who it was');

set local session authorization "Tap Owner";
select tinydevcrm.drop_matview('doubled');
reset session authorization;
select is(
    (select array[matview, reason] from tinydevcrm.matview_refresh_events order by id desc limit 1),
    array['"My Data".doubled', 'Tap Owner dropped it'], 'drop_matview() notifies at once');

select is(
    (select array_agg(name::text order by name) from tinydevcrm.dropped_matviews where owner = '"Tap Owner"'::regrole),
    array['Plain One', 'doubled'], 'what was dropped can be restored');
set local session authorization "Tap Owner";
select tinydevcrm.restore_matview('Plain One');
reset session authorization;
select is(
    (select relation::text from tinydevcrm.matviews where id = (select id from plain)), '"Plain One"',
    'and has its number again');

set local session authorization "Tap Owner";
drop materialized view glad;
select tinydevcrm.create_matview('glad', 'select n from renamed');
reset session authorization;
select is(
    (select count(*) from tinydevcrm.dropped_matviews where name = 'glad'), 0::bigint,
    'a view that takes the place of one that was just dropped takes its number');

set local session authorization "Tap Owner";
select tinydevcrm._drop_table('renamed', true);
reset session authorization;
select is(
    (select array_agg(matview order by matview)
       from tinydevcrm.matview_refresh_events
      where outcome = 'dropped'
        and reason = 'Tap Owner dropped it'),
    array['"My Data"."Plain One"', '"My Data".doubled', '"My Data".glad'],
    'a table that is dropped on the page takes its views along, with an event for each');

select is(
    (select count(*) from tinydevcrm.matview_refresh_events where outcome = 'dropped' and reason = 'somebody dropped it'),
    2::bigint, 'each drop by hand is an event');
select is(
    (select count(*) from tinydevcrm.check_installation() where finding like 'drops, %' and is_ok),
    0::bigint, 'check_installation() does not say that all is followed at once');

select * from finish();

rollback;
