-- A view that its schedule passes over, because nothing has changed, is not late.

begin;

select plan(14);

create schema "My Data";
set local search_path = "My Data", public;
create table numbers (n integer);
select tinydevcrm.create_matview('five', 'select n from numbers', 'never');
select tinydevcrm.create_matview('daily', 'select n from numbers', 'never');
select tinydevcrm.create_matview('clock', 'select now() as n', 'never');
select tinydevcrm.schedule_matview('five', '5 seconds');
-- Half a day away, so that it is not due again while this runs.
select tinydevcrm.schedule_matview('daily', to_char((now() + interval '12 hours') at time zone 'UTC', 'FMMI FMHH24 * * *'));
select tinydevcrm.schedule_matview('clock', '0 0 * * *');
select tinydevcrm.refresh_matview(relation) from tinydevcrm.matviews;

-- As if the last refreshes had been that long ago, and the last looks of the schedules too.
create function pg_temp.age(refreshed interval, looked interval) returns void language plpgsql as $$
begin
    update tinydevcrm.matviews
       set schedule_began_at = now() - interval '30 days',
           last_refreshed_at = now() - refreshed,
           last_scheduled_at = now() - refreshed,
           late_noted_at = null,
           -- This transaction's own changes never count as seen.
           seen_snapshot = tinydevcrm._current_snapshot();
    delete from tinydevcrm.table_changes;
    -- A trigger writes the time of the look.
    alter table tinydevcrm._locks disable trigger user;
    update tinydevcrm._locks set looked_at = now() - looked where what = 'schedule';
    alter table tinydevcrm._locks enable trigger user;
    delete from tinydevcrm.refresh_requests;
end
$$;

create function pg_temp.states() returns text language sql as $$
    select string_agg(relation::text || ' ' || status, ', ' order by relation::text) from tinydevcrm.matview_status
$$;

create function pg_temp.planned() returns text language sql as $$
    select coalesce(string_agg(matviews.relation::text, ', ' order by matviews.relation::text), '')
      from tinydevcrm.schedules
     cross join lateral tinydevcrm._plan_round(array[schedules.id], clock_timestamp()) as next_round
      join tinydevcrm.matviews
        on matviews.id = any (next_round.matview_ids)
$$;

select pg_temp.age('10 days', '10 days');
select is(pg_temp.states(), 'clock late, daily late, five late', 'schedules that do not run are late');
select is(pg_temp.planned(), 'clock', 'a round leaves out the two that have not changed');
select is(pg_temp.states(), 'clock late, daily ok, five ok', 'then only the one that is refreshed at each round is late');
select ok(
    last_checked_at between now() and clock_timestamp() and last_refreshed_at < now() - interval '9 days',
    format('the status of %s says when it was looked at', relation))
  from tinydevcrm.matview_status where relation <> 'clock'::regclass order by relation::text;
select is(
    (select next_due_at from tinydevcrm.matview_status where relation = 'daily'::regclass),
    date_trunc('minute', now() + interval '12 hours'), 'its next time is the next one');
select ok(
    (select next_due_at between now() and clock_timestamp() + interval '5 seconds'
       from tinydevcrm.matview_status where relation = 'five'::regclass),
    'that of 5 seconds too');

select tinydevcrm._note_late('0');
select is(
    (select string_agg(matview, ', ') from tinydevcrm.matview_refresh_events where outcome = 'late'),
    '"My Data".clock', 'no event says that they are late');
select pg_temp.age('10 days', '1 second');
insert into numbers values (1);
select is(pg_temp.planned(), 'clock, daily, five', 'after a change a round refreshes them');
select is(
    (select string_agg(relation::text, ', ' order by relation::text) from tinydevcrm.matviews
      where tinydevcrm._needs_refresh(matviews)), 'clock, daily, five', 'because they are stale');

-- a failure

select pg_temp.age('10 days', '1 second');
update tinydevcrm.matviews set last_outcome = 'failed', failing_since = now() where relation = 'daily'::regclass;
select ok(
    not tinydevcrm._is_stale(matviews) and tinydevcrm._needs_refresh(matviews),
    'a view whose refresh has failed is refreshed again, although nothing has changed')
  from tinydevcrm.matviews where relation = 'daily'::regclass;
select is(pg_temp.planned(), 'clock, daily', 'by its schedule');

-- the analysis that had to wait

insert into tinydevcrm._analysis_requests (matview_id) select id from tinydevcrm.matviews where relation = 'five'::regclass;
select is(pg_temp.planned(), 'clock, daily, five', 'a view that is to be analyzed again is stale');
select tinydevcrm._settle_tracking();
select is((select count(*) from tinydevcrm._analysis_requests), 0::bigint, 'until upkeep has done that');

select * from finish();

rollback;
