-- What the event of a refresh records, and whether it notifies.

begin;

select plan(39);

create schema "My Data";
set local search_path = "My Data", public;

create table numbers (n integer);

select tinydevcrm.create_matview('v', 'select 10 / n as tenth from numbers');

create temporary table event as
select *
  from tinydevcrm.refresh_matview('v');

select is((select matview from event), '"My Data".v', 'an event names the view in full');
select is((select outcome from event), 'refreshed', 'a refresh that succeeds has the outcome refreshed');
select is((select row_count from event), 0::bigint, 'the event has the number of rows');
select is((select is_notified from event), false, 'an empty view does not notify by the rule not_empty');
select is((select rows from event), null, 'the event of an empty view carries no rows');

insert into numbers
values (5);

select is(
    (select array[outcome, row_count::text, is_notified::text, rows::text, method]
       from tinydevcrm.refresh_matview('v')),
    array['refreshed', '1', 'true', '[{"tenth": 2}]', 'plain'],
    'a view with rows notifies, and the event carries them');

insert into numbers
select 1
  from generate_series(1, 100);

select is(
    (select array[row_count, jsonb_array_length(rows)] from tinydevcrm.refresh_matview('v')),
    array[101, 10]::bigint[],
    'an event carries at most event_row_limit rows');

select tinydevcrm.create_matview(
    'large', 'select repeat(''x'', 30000) as text from generate_series(1, 5)');

select is(
    (select array[row_count, jsonb_array_length(rows)] from tinydevcrm.refresh_matview('large')),
    array[5, 2]::bigint[],
    'an event carries at most event_byte_limit bytes of rows');

insert into numbers
values (0);

select is(
    (select array[outcome, row_count::text, is_notified::text, error_code, error_message]
       from tinydevcrm.refresh_matview('v')),
    array['failed', null, 'true', '22012', 'division by zero'],
    'a refresh that fails notifies, with its SQLSTATE and message');
select results_eq('select count(*)::integer from v', array[101], 'the old rows stay after a failure');
select is(
    (select is_notified from tinydevcrm.refresh_matview('v')), false,
    'the second failure of a streak does not notify');
select is(
    (select array_agg(last_outcome) from tinydevcrm.matviews where relation = 'v'::regclass),
    array['failed'], 'the registry has the last outcome');

truncate numbers;

select is(
    (select array[outcome, row_count::text, is_notified::text] from tinydevcrm.refresh_matview('v')),
    array['recovered', '0', 'true'],
    'the first success after it is a recovery, and notifies even when the view is empty');
select is(
    (select array[outcome, is_notified::text] from tinydevcrm.refresh_matview('v')),
    array['refreshed', 'false'], 'the refresh after a recovery is like any other');

-- concurrently

select is((select method from tinydevcrm.matviews, tinydevcrm._begin_refresh(matviews) where relation = 'v'::regclass), 'plain', 'without a unique index a refresh is plain');

create unique index v_tenth_key on v (tenth)
 where tenth > 0;

select is((select method from tinydevcrm.matviews, tinydevcrm._begin_refresh(matviews) where relation = 'v'::regclass), 'plain', 'with a partial unique index it is plain');

drop index v_tenth_key;
create unique index v_tenth_key on v (tenth);

select is(
    (select array[outcome, method] from tinydevcrm.refresh_matview('v')),
    array['refreshed', 'concurrently'], 'with a full unique index it is concurrent');

-- the search_path of the caller reaches functions in the query

create function ten()
    returns integer
    language plpgsql
as $$
begin
    return (select count(*) from numbers) + 10;
end
$$;

-- From 17 on Postgres itself sets the search_path while a materialized view is filled.
select case
           when current_setting('server_version_num')::integer >= 170000 then
               throws_ok(
                   $$ select tinydevcrm.create_matview('uses_function', 'select ten()') $$,
                   '42P01', null, 'a function in the query must qualify its names')
           else
               lives_ok(
                   $$ select tinydevcrm.create_matview('uses_function', 'select ten()') $$,
                   'a function in the query sees the caller''s search_path')
       end;

select is(
    (select refreshed.outcome
       from tinydevcrm.matviews
      cross join lateral tinydevcrm.refresh_matview(matviews.relation) as refreshed
      where matviews.relation = to_regclass('uses_function')),
    case
        when current_setting('server_version_num')::integer >= 170000 then null
        else 'refreshed'
    end,
    'it does so in a refresh too');

select tinydevcrm.drop_matview('v');

select is(
    (select count(*)::integer
       from tinydevcrm.matview_refresh_events
      where matview = '"My Data".v'
        and matview_id is null),
    9, 'events outlive their view, that of its drop included');

select tinydevcrm.create_matview('odd', $$ select '{"a": "\u0000"}'::json as value $$);
select is(
    (select array[refreshed.outcome, refreshed.row_count::text, refreshed.rows::text]
       from tinydevcrm.refresh_matview('odd') as refreshed),
    array['refreshed', '1', null], 'a value that jsonb cannot hold does not make a refresh fail');

create function cancel() returns integer
    language plpgsql
as $$
begin
    raise query_canceled;
end
$$;
create materialized view cancelled as select cancel() with no data;
select tinydevcrm.watch_matview('cancelled');

-- throws_ok() does not catch a cancel.
create function refresh_cancelled() returns text
    language plpgsql
as $$
begin
    return (tinydevcrm.refresh_matview('cancelled')).outcome;
exception
    when query_canceled then
        return 'raised';
end
$$;
select is(
    refresh_cancelled(), 'raised',
    'a cancel of one''s own refresh is raised, and no failure is recorded');

-- as the page reads them

delete from tinydevcrm.matview_refresh_events;
create role "Tap Reader" login in role tinydevcrm_user;
create role "Tap Stranger" login in role tinydevcrm_user;
grant create, usage on schema "My Data" to "Tap Reader";
set local session authorization "Tap Reader";

create table answers (n integer);
insert into answers
values (1);
select tinydevcrm.create_matview('loud', 'select 1 / n as n from answers');
select tinydevcrm.create_matview('rare', 'select n from answers', 'never');

-- refreshed, failed, failed without a notification, recovered
select tinydevcrm.refresh_matview('loud');
update answers
   set n = 0;
select tinydevcrm.refresh_matview('loud')
  from generate_series(1, 2);
select tinydevcrm.refresh_matview('rare');
update answers
   set n = 1;
select tinydevcrm.refresh_matview('loud');
select tinydevcrm.watch_matview('rare', 'always');
select tinydevcrm.refresh_matview('rare');

reset session authorization;

create temporary table numbered as
select id,
       row_number() over (order by id) as number
  from tinydevcrm.matview_refresh_events;

-- The numbers of events, in the order of their ids in the array.
create function pg_temp.numbers(ids bigint[])
    returns integer[]
    language sql
as $$
    select array_agg(number::integer order by place)
      from unnest(numbers.ids) with ordinality as given (id, place)
      join numbered
     using (id)
$$;

create function pg_temp.latest(
    reader    text,
    row_limit integer default 10,
    matview   text default null,
    outcome   text default null,
    before    integer default null
)
    returns integer[]
    language sql
as $$
    select pg_temp.numbers(array(
        select id
          from tinydevcrm._list_latest_events(
                   latest.reader,
                   0,
                   latest.row_limit,
                   latest.matview,
                   latest.outcome,
                   (select id from numbered where number = latest.before))
    ))
$$;

select is(pg_temp.latest('Tap Reader'), array[6, 5, 2, 1], 'the latest events are those that notify');
select is(pg_temp.latest('Tap Reader', 2), array[6, 5], 'the newest come first');
select is(pg_temp.latest('Tap Stranger'), null, 'a reader does not see events of another user');
select is(
    pg_temp.latest('Tap Reader', matview => '"My Data".loud'), array[5, 2, 1], 'a filter leaves those of one view');
select is(
    pg_temp.latest('Tap Stranger', matview => '"My Data".loud'), null, 'with the filter too, no events of another user');
select is(pg_temp.latest('Tap Reader', outcome => 'failed'), array[2], 'another leaves those of one outcome');
select is(
    pg_temp.latest('Tap Reader', matview => '"My Data".rare', outcome => 'refreshed'), array[6],
    'both filters work together');
select is(
    pg_temp.latest('Tap Reader', 2, before => 5), array[2, 1], 'events older than a known one');
select is(
    pg_temp.numbers(array(
        select events.id
          from tinydevcrm._list_latest_events('Tap Reader', (select id from numbered where number = 2), 10)
                   as events)),
    array[6, 5], 'events newer than a known one');

create function pg_temp.by_number(
    reader    text,
    matview   text default null,
    outcome   text default null,
    notified_only boolean default false
)
    returns integer[]
    language sql
as $$
    select pg_temp.numbers(array(
        select events.id
          from tinydevcrm._list_events_by_id(
                   by_number.reader,
                   array(select id from numbered where number > 1),
                   by_number.matview,
                   by_number.outcome,
                   by_number.notified_only) as events
    ))
$$;

select is(
    array[pg_temp.by_number('Tap Reader')::text, pg_temp.by_number('Tap Stranger')::text],
    array['{6,5,4,3,2}', null], 'all events are found by their ids, except those of another user');
select is(
    pg_temp.by_number('Tap Reader', '"My Data".loud', notified_only => true), array[5, 2],
    'by their ids, those of one view that notify');
select is(pg_temp.by_number('Tap Reader', outcome => 'failed'), array[3, 2], 'by their ids, those of one outcome');

set local session authorization "Tap Reader";

select is(
    array(
        select tinydevcrm._may_read(reader, owner)
          from (values (null, '"Tap Reader"'), ('Tap Reader', '"Tap Reader"'), (null, '"Tap Stranger"'),
                       (pg_get_userbyid(10)::text, '"Tap Reader"'), ('Tap Nobody', '"Tap Reader"'))
                 as asked (reader, owner_name)
         cross join lateral (select owner_name::regrole as owner) as of),
    array[true, true, false, false, false],
    'without a log-in, events of the session''s role; a superuser sees only their own');

reset session authorization;

select results_eq(
    $$ select recent.matview_id = matviews.id, pg_temp.numbers(array[event_id]), outcome, row_count,
              duration_ms between 0 and 60000, started_at <= clock_timestamp()
         from tinydevcrm.matviews
        cross join lateral tinydevcrm._list_recent_refreshes(array[matviews.id], 2) as recent
        where relation = 'loud'::regclass $$,
    $$ values (true, array[3], 'failed', null::bigint, true, true), (true, array[5], 'recovered', 1, true, true) $$,
    'recent refreshes of a view, whether they notify or not, oldest first');

-- the order of columns

reset role;
create table wide as
select 1 as n;
select tinydevcrm.create_matview(
    'wide_view',
    $$ select n as "zz", null::text as "b", '{"k": [1, 2]}'::jsonb as "Größe", 'x "y"' as "a ""b""", 1.50 as "10", 2 as "9"
         from wide $$,
    name)
  from unnest(array['rows_added']) as name;
select tinydevcrm.refresh_matview('wide_view');
insert into wide
values (2);
select is(
    (select tinydevcrm.event_json(event)->>'rows' from tinydevcrm.refresh_matview('wide_view') as event),
    '[{"zz": 2, "b": null, "Größe": {"k": [1, 2]}, "a \"b\"": "x \"y\"", "10": 1.50, "9": 2}]',
    'added rows of an event have their columns in the order of the view');
select tinydevcrm.watch_matview('wide_view', 'always');
select results_eq(
    $$ select tinydevcrm.event_json(event)->>'columns', json_array_length(tinydevcrm.event_json(event)->'rows'),
              array(select json_object_keys(tinydevcrm.event_json(event)->'rows'->1)) = (event).columns
         from tinydevcrm.refresh_matview('wide_view') as event $$,
    $$ values ('["zz","b","Größe","a \"b\"","10","9"]', 2, true) $$, 'the first rows of an event too');
insert into tinydevcrm.matview_refresh_events (
           owner, matview_id, matview, outcome, is_notified, row_count, columns, rows, started_at, duration)
select owner, id, relation::text, 'refreshed', true, 1, '{x}', '[1, ["x"], {"y": 2}]', now(), interval '0'
  from tinydevcrm.matviews
 where relation = 'wide_view'::regclass;
select lives_ok(
    $$ select tinydevcrm.event_json(events) from tinydevcrm.matview_refresh_events as events $$,
    'an event that a user has written with other rows does no harm');

select * from finish();

rollback;
