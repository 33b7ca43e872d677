-- What a refresh leaves behind, and whether it is told.

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
select is((select outcome from event), 'refreshed', 'a refresh that succeeds is refreshed');
select is((select row_count from event), 0::bigint, 'with its rows counted');
select is((select is_notified from event), false, 'an empty view is not told by the rule not_empty');
select is((select rows from event), null, 'and carries no rows');

insert into numbers
values (5);

select is(
    (select array[outcome, row_count::text, is_notified::text, rows::text, method]
       from tinydevcrm.refresh_matview('v')),
    array['refreshed', '1', 'true', '[{"tenth": 2}]', 'plain'],
    'a view with rows is told, with them');

insert into numbers
select 1
  from generate_series(1, 100);

select is(
    (select array[row_count, jsonb_array_length(rows)] from tinydevcrm.refresh_matview('v')),
    array[101, 10]::bigint[],
    'at most event_row_limit of them are carried');

select tinydevcrm.create_matview(
    'large', 'select repeat(''x'', 30000) as text from generate_series(1, 5)');

select is(
    (select array[row_count, jsonb_array_length(rows)] from tinydevcrm.refresh_matview('large')),
    array[5, 2]::bigint[],
    'and at most event_byte_limit bytes of them');

insert into numbers
values (0);

select is(
    (select array[outcome, row_count::text, is_notified::text, error_code, error_message]
       from tinydevcrm.refresh_matview('v')),
    array['failed', null, 'true', '22012', 'division by zero'],
    'a refresh that fails is told, with its SQLSTATE and message');
select results_eq('select count(*)::integer from v', array[101], 'and the old rows stay');
select is(
    (select is_notified from tinydevcrm.refresh_matview('v')), false,
    'the second failure of a streak is not told again');
select is(
    (select array_agg(last_outcome) from tinydevcrm.matviews where relation = 'v'::regclass),
    array['failed'], 'the registry remembers');

truncate numbers;

select is(
    (select array[outcome, row_count::text, is_notified::text] from tinydevcrm.refresh_matview('v')),
    array['recovered', '0', 'true'],
    'the first success after it is a recovery, told even when the view is empty');
select is(
    (select array[outcome, is_notified::text] from tinydevcrm.refresh_matview('v')),
    array['refreshed', 'false'], 'and the next one is like any other');

-- concurrently

select is((select method from tinydevcrm.matviews, tinydevcrm._begin_refresh(matviews) where relation = 'v'::regclass), 'plain', 'without a unique index a refresh is plain');

create unique index v_tenth_key on v (tenth)
 where tenth > 0;

select is((select method from tinydevcrm.matviews, tinydevcrm._begin_refresh(matviews) where relation = 'v'::regclass), 'plain', 'a partial one does not do');

drop index v_tenth_key;
create unique index v_tenth_key on v (tenth);

select is(
    (select array[outcome, method] from tinydevcrm.refresh_matview('v')),
    array['refreshed', 'concurrently'], 'with a full one it is concurrent');

-- the search_path of the caller reaches functions in the query

create function ten()
    returns integer
    language plpgsql
as $$
begin
    return (select count(*) from numbers) + 10;
end
$$;

-- From 17 on Postgres itself takes the search_path away while a materialized view is filled.
select case
           when current_setting('server_version_num')::integer >= 170000 then
               throws_ok(
                   $$ select tinydevcrm.create_matview('uses_function', 'select ten()') $$,
                   '42P01', null, 'a function in the query has to qualify its names')
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
    'when it is refreshed too');

select tinydevcrm.drop_matview('v');

select is(
    (select count(*)::integer
       from tinydevcrm.matview_refresh_events
      where matview = '"My Data".v'
        and matview_id is null),
    8, 'events outlive their view');

select tinydevcrm.create_matview('odd', $$ select '{"a": "\u0000"}'::json as value $$);
select is(
    (select array[refreshed.outcome, refreshed.row_count::text, refreshed.rows::text]
       from tinydevcrm.refresh_matview('odd') as refreshed),
    array['refreshed', '1', null], 'a value that jsonb cannot hold is no fault of the refresh');

create function cancel() returns integer
    language plpgsql
as $$
begin
    raise query_canceled;
end
$$;
create materialized view cancelled as select cancel() with no data;
select tinydevcrm.watch_matview('cancelled');

-- throws_ok() lets a cancel through.
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
    'who cancels a refresh of their own is told, and no failure is recorded');

-- as the page asks for them

delete from tinydevcrm.matview_refresh_events;
create role "Tap Reader" login in role tinydevcrm_user;
create role "Tap Stranger" login in role tinydevcrm_user;
grant create, usage on schema "My Data" to "Tap Reader";
set local session authorization "Tap Reader";

create table answers (n integer);
insert into answers
values (1);
select tinydevcrm.create_matview('told', 'select 1 / n as n from answers');
select tinydevcrm.create_matview('rare', 'select n from answers', 'never');

-- refreshed, failed, failed but not told, recovered
select tinydevcrm.refresh_matview('told');
update answers
   set n = 0;
select tinydevcrm.refresh_matview('told')
  from generate_series(1, 2);
select tinydevcrm.refresh_matview('rare');
update answers
   set n = 1;
select tinydevcrm.refresh_matview('told');
select tinydevcrm.watch_matview('rare', 'always');
select tinydevcrm.refresh_matview('rare');

reset session authorization;

create temporary table numbered as
select id,
       row_number() over (order by id) as number
  from tinydevcrm.matview_refresh_events;

-- The numbers of events in the order in which they come.
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

select is(pg_temp.latest('Tap Reader'), array[6, 5, 2, 1], 'the latest events are those that were told');
select is(pg_temp.latest('Tap Reader', 2), array[6, 5], 'the newest first');
select is(pg_temp.latest('Tap Stranger'), null, 'and not another''s');
select is(
    pg_temp.latest('Tap Reader', matview => '"My Data".told'), array[5, 2, 1], 'those of one view');
select is(
    pg_temp.latest('Tap Stranger', matview => '"My Data".told'), null, 'which are not another''s either');
select is(pg_temp.latest('Tap Reader', outcome => 'failed'), array[2], 'or of one outcome');
select is(
    pg_temp.latest('Tap Reader', matview => '"My Data".rare', outcome => 'refreshed'), array[6],
    'or both');
select is(
    pg_temp.latest('Tap Reader', 2, before => 5), array[2, 1], 'or older than one that is known');
select is(
    pg_temp.numbers(array(
        select events.id
          from tinydevcrm._list_latest_events('Tap Reader', (select id from numbered where number = 2), 10)
                   as events)),
    array[6, 5], 'or newer');

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
    array['{6,5,4,3,2}', null], 'by their ids all are found, but another''s');
select is(
    pg_temp.by_number('Tap Reader', '"My Data".told', notified_only => true), array[5, 2],
    'or those of one view, or that were told');
select is(pg_temp.by_number('Tap Reader', outcome => 'failed'), array[3, 2], 'or of one outcome');

set local session authorization "Tap Reader";

select is(
    array(
        select tinydevcrm._may_read(reader, owner)
          from (values (null, '"Tap Reader"'), ('Tap Reader', '"Tap Reader"'), (null, '"Tap Stranger"'),
                       (pg_get_userbyid(10)::text, '"Tap Reader"'), ('Tap Nobody', '"Tap Reader"'))
                 as asked (reader, owner_name)
         cross join lateral (select owner_name::regrole as owner) as of),
    array[true, true, false, false, false],
    'where nobody logs in those of the session''s role; a superuser is shown only what is theirs');

reset session authorization;

select results_eq(
    $$ select recent.matview_id = matviews.id, pg_temp.numbers(array[event_id]), outcome, row_count,
              duration_ms between 0 and 60000, started_at <= clock_timestamp()
         from tinydevcrm.matviews
        cross join lateral tinydevcrm._list_recent_refreshes(array[matviews.id], 2) as recent
        where relation = 'told'::regclass $$,
    $$ values (true, array[3], 'failed', null::bigint, true, true), (true, array[5], 'recovered', 1, true, true) $$,
    'the recent refreshes of a view are told or not, oldest first');

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
    'the columns of an event come in the order of the view, among added rows');
select tinydevcrm.watch_matview('wide_view', 'always');
select results_eq(
    $$ select tinydevcrm.event_json(event)->>'columns', json_array_length(tinydevcrm.event_json(event)->'rows'),
              array(select json_object_keys(tinydevcrm.event_json(event)->'rows'->1)) = (event).columns
         from tinydevcrm.refresh_matview('wide_view') as event $$,
    $$ values ('["zz","b","Größe","a \"b\"","10","9"]', 2, true) $$, 'and among the first ones');
insert into tinydevcrm.matview_refresh_events (
           owner, matview_id, matview, outcome, is_notified, row_count, columns, rows, started_at, duration)
select owner, id, relation::text, 'refreshed', true, 1, '{x}', '[1, ["x"], {"y": 2}]', now(), interval '0'
  from tinydevcrm.matviews
 where relation = 'wide_view'::regclass;
select lives_ok(
    $$ select tinydevcrm.event_json(events) from tinydevcrm.matview_refresh_events as events $$,
    'one that a user has written with other rows does no harm');

select * from finish();

rollback;
