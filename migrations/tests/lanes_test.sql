-- A view that reads a slow one of its schedule is in the job for slow ones too.

begin;

select plan(9);

create schema "My Data";
set local search_path = "My Data", public;
create table numbers (n integer);
select tinydevcrm.create_matview('below', 'select n from numbers');
select tinydevcrm.create_matview('Slow one', 'select n from below');
select tinydevcrm.create_matview('reader', 'select n from "Slow one"');
select tinydevcrm.create_matview('above', 'select n from reader');
select tinydevcrm.create_matview('other', 'select n from "Slow one"');
select tinydevcrm.create_matview('beside', 'select n from numbers');
select tinydevcrm.schedule_matview(relation, case relation when 'other'::regclass then '1 hour' else '10 seconds' end)
  from tinydevcrm.matviews;

create function pg_temp.slow() returns text language sql as $$
    select coalesce(string_agg(relation::text, ', ' order by matviews.id), '')
      from tinydevcrm.matviews
      join tinydevcrm.schedules on schedules.id = matviews.schedule_id and schedules.is_slow
     where matviews.is_slow
$$;

create function pg_temp.took(name text, took interval) returns text language plpgsql as $$
begin
    perform tinydevcrm._assign_lane(matviews.id, took.took)
       from tinydevcrm.matviews where relation = took.name::regclass;
    return pg_temp.slow();
end
$$;

select is(pg_temp.slow(), '', 'no view is slow');
select is(
    pg_temp.took('"Slow one"', '6 seconds'), '"Slow one", reader, above',
    'with a view that becomes slow go those of its schedule that read it, through others too');
select is(pg_temp.took('reader', '1 ms'), '"Slow one", reader, above', 'a fast one does not go back while it reads a slow one');
select is(pg_temp.took('above', '1 ms'), '"Slow one", reader, above', 'nor does one that reads that');
update tinydevcrm.matviews set is_slow = false where relation = 'reader'::regclass;
select is(pg_temp.slow(), '"Slow one", reader, above', 'nor when somebody sets it');

select tinydevcrm.create_matview('late', 'select n from above');
select tinydevcrm.schedule_matview('late', '10 seconds');
select is(pg_temp.slow(), '"Slow one", reader, above, late', 'a new view that reads a slow one is slow');
select tinydevcrm.schedule_matview('late', '1 hour');
select is(pg_temp.slow(), '"Slow one", reader, above', 'on another schedule it is not');

select is(pg_temp.took('"Slow one"', '1 ms'), 'reader, above', 'once the view itself is fast it goes back');
select pg_temp.took('reader', '1 ms');
select is(pg_temp.took('above', '1 ms'), '', 'and the others after it');

select * from finish();

rollback;
