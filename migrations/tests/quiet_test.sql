-- What keeps a refresh from notifying: a mute, a streak that is too short. And why, as a column.

begin;

select plan(55);

create schema "My Data";
set local search_path = "My Data", public;

create table numbers (n integer);

create function pg_temp.refreshed(relation regclass)
    returns text
    language sql
as $$
    select concat_ws(
               ' ',
               outcome,
               case when is_notified then 'notified' else suppressed_by end,
               row_count,
               case when added_count is not null then format('+%s-%s', added_count, removed_count) end)
      from tinydevcrm.refresh_matview(refreshed.relation)
$$;

-- A mute ends: the time is in the past now.
create function pg_temp.end_mute(relation regclass)
    returns void
    language sql
as $$
    update tinydevcrm.matviews
       set muted_until = now()
     where matviews.relation = end_mute.relation
$$;

-- why an event did not notify

select tinydevcrm.create_matview('not Empty', 'select n from numbers', 'not_empty');
select is(pg_temp.refreshed('"not Empty"'), 'refreshed rule 0', 'the rule does not hold');
select tinydevcrm.create_matview('often', 'select n from numbers', 'always', notify_interval => '1 hour');
select is(pg_temp.refreshed('often'), 'refreshed notified 0', 'an event that notifies is not suppressed');
select is(pg_temp.refreshed('often'), 'refreshed interval 0', 'it came within the interval');
select is(
    (select array[event ->> 'is_notified', event ->> 'suppressed_by']
       from tinydevcrm.matviews
      cross join lateral (
          select tinydevcrm.event_json(events) as event
            from tinydevcrm.matview_refresh_events as events
           where events.matview_id = matviews.id
           order by events.id desc
           limit 1
      ) as last
      where relation = 'often'::regclass),
    array['false', 'interval'], 'programs read the reason in the event''s JSON');
select is(
    (select suppressed_by from tinydevcrm.matview_status where relation = 'often'::regclass),
    'interval', 'the status has the reason of the last refresh');
select is(
    (tinydevcrm._record_refresh(matviews, null, now(), null)).suppressed_by, 'rule',
    'no rule notifies of a skipped refresh')
  from tinydevcrm.matviews
 where relation = 'often'::regclass;
select throws_ok(
    format(
        $$ insert into tinydevcrm.matview_refresh_events
                  (matview_id, outcome, is_notified, suppressed_by, row_count, duration)
           values (%s, 'refreshed', true, 'mute', 0, '0') $$,
        (select id from tinydevcrm.matviews where relation = 'often'::regclass)),
    '23514', null, 'an event that notifies gives no reason');
insert into tinydevcrm.matview_refresh_events (matview_id, outcome, is_notified, row_count, duration)
select id, 'refreshed', false, 0, '0'
  from tinydevcrm.matviews
 where relation = 'often'::regclass;
select is(
    (select suppressed_by from tinydevcrm.matview_refresh_events order by id desc limit 1),
    'rule', 'one that gives none was suppressed by the rule');

-- a muted view

select tinydevcrm.create_matview('added', 'select n from numbers', 'rows_added');
select pg_temp.refreshed('added');

select is(
    (select muted_until from tinydevcrm.matview_status where relation = 'added'::regclass), null,
    'a view is not muted at first');
select tinydevcrm.mute_matview('added', now() + interval '1 hour');
select is(
    (select muted_until from tinydevcrm.matview_status where relation = 'added'::regclass),
    now() + interval '1 hour', 'the status says until when it is muted');
set local timezone = 'Europe/Berlin';
select tinydevcrm.mute_matview('added', now() + interval '1 year' + interval '3 hours');
reset timezone;
select is(
    (select muted_until - now() from tinydevcrm.matviews where relation = 'added'::regclass),
    (now() at time zone 'Europe/Berlin' + interval '1 year 3 hours') at time zone 'Europe/Berlin' - now(),
    'the mute ends at the time given, though clocks change in between');

insert into numbers values (1);
select is(pg_temp.refreshed('added'), 'refreshed mute 1', 'a muted view is refreshed and does not notify');
select is(pg_temp.refreshed('"not Empty"'), 'refreshed notified 1', 'another view notifies');
delete from numbers;
insert into numbers values (2), (3);
select pg_temp.end_mute('added');
select is(
    (select muted_until from tinydevcrm.matview_status where relation = 'added'::regclass), null,
    'the status shows no mute that is over');
select is(
    pg_temp.refreshed('added'), 'refreshed notified 2 +2-0',
    'the first refresh after the mute compares with the last one before it');

select tinydevcrm.mute_matview('added', now() + interval '1 hour');
select tinydevcrm.unmute_matview('added');
insert into numbers values (4);
select is(pg_temp.refreshed('added'), 'refreshed notified 3 +1-0', 'unmute_matview() ends a mute at once');
select is(
    (select array[muted_until::text, muted_for::text] from tinydevcrm.matviews where relation = 'added'::regclass),
    array[null, '00:00:00'], 'and forgets it');

select throws_ok(
    format('select tinydevcrm.mute_matview(%L, %s)', 'added', until), 'TD007', null,
    format('nobody mutes until %s', until))
  from unnest(array[
           'null', 'now()', 'now() - interval ''1 second''', '''infinity''', '''-infinity''',
           'now() + interval ''11 years'''
       ]) as until;
select throws_ok(
    $$ select tinydevcrm.mute_matview('numbers', now() + interval '1 hour') $$, 'TD001', null,
    'only a watched view is muted');

-- failures during a mute

select tinydevcrm.create_matview('division', 'select 1 / (n - 5) as n from numbers', 'never');
select is(pg_temp.refreshed('division'), 'refreshed rule 3', 'it does not fail yet');
insert into numbers values (5);
select tinydevcrm.mute_matview('division', now() + interval '1 hour');
select is(pg_temp.refreshed('division'), 'failed mute', 'a failure during a mute does not notify');
select is(
    (select status from tinydevcrm.matview_status where relation = 'division'::regclass), 'failing',
    'the status shows it all the same');
select pg_temp.end_mute('division');
select is(pg_temp.refreshed('division'), 'failed notified', 'it notifies when it lasts longer than the mute');
select is(pg_temp.refreshed('division'), 'failed repeat', 'and once');

delete from numbers where n = 5;
select tinydevcrm.mute_matview('division', now() + interval '1 hour');
select is(pg_temp.refreshed('division'), 'recovered mute 3', 'a recovery during a mute does not notify');
select is(pg_temp.refreshed('division'), 'refreshed rule 3', 'nor does what follows');
select pg_temp.end_mute('division');
select is(
    pg_temp.refreshed('division'), 'recovered notified 3',
    'after the mute the recovery notifies, because the failure did');
select is(pg_temp.refreshed('division'), 'refreshed rule 3', 'and once');

insert into numbers values (5);
select tinydevcrm.mute_matview('division', now() + interval '1 hour');
select pg_temp.refreshed('division');
delete from numbers where n = 5;
select pg_temp.refreshed('division');
select pg_temp.end_mute('division');
select is(
    pg_temp.refreshed('division'), 'refreshed rule 3',
    'a failure that came and went during the mute leaves nothing to notify of');

-- a rule that must hold for a number of refreshes in a row

truncate numbers;
select tinydevcrm.create_matview('three', 'select n from numbers', 'not_empty', notify_after => 3);
insert into numbers values (1);
select is(
    array(select pg_temp.refreshed('three') from generate_series(1, 4)),
    array['refreshed streak 1', 'refreshed streak 1', 'refreshed notified 1', 'refreshed notified 1'],
    'from the third refresh in a row on, not_empty notifies at each');
truncate numbers;
select is(pg_temp.refreshed('three'), 'refreshed rule 0', 'then the rule stops holding');
insert into numbers values (1);
select is(pg_temp.refreshed('three'), 'refreshed streak 1', 'and is counted anew');
select is(
    (select rule_count from tinydevcrm.matviews where relation = 'three'::regclass), 1,
    'the registry has the count');
select is(
    (select notify_when || ' ' || notify_after from tinydevcrm.watch_matview('three', 'always')), 'always 3',
    'watch_matview() keeps what is not given');
select is(
    (select rule_count from tinydevcrm.matviews where relation = 'three'::regclass), 0,
    'another rule is counted anew');
select throws_ok(
    format($$ select tinydevcrm.watch_matview('three', notify_after => %s) $$, bad), 'TD007', null,
    format('%s refreshes in a row are refused', bad))
  from unnest(array[0, 1001]) as bad;

truncate numbers;
select tinydevcrm.create_matview('once', 'select n from numbers', 'became_not_empty', notify_after => 2);
select pg_temp.refreshed('once');
insert into numbers values (1);
select is(
    array(select pg_temp.refreshed('once') from generate_series(1, 3)),
    array['refreshed streak 1', 'refreshed notified 1', 'refreshed rule 1'],
    'became_not_empty notifies once, when the rows have stayed for two refreshes');

select tinydevcrm.create_matview('stays', 'select n from numbers', 'rows_added', notify_after => 2);
select tinydevcrm.create_matview('moves', 'select n from numbers', 'changed', notify_after => 2);
select pg_temp.refreshed('stays'), pg_temp.refreshed('moves');
insert into numbers values (2);
select is(pg_temp.refreshed('stays'), 'refreshed streak 2 +1-0', 'an added row is counted once');
delete from numbers where n = 2;
select is(pg_temp.refreshed('stays'), 'refreshed rule 1 +0-0', 'when it goes again, the count ends');
insert into numbers values (3);
select is(
    array(select pg_temp.refreshed('stays') from generate_series(1, 3)),
    array['refreshed streak 2 +1-0', 'refreshed notified 2 +1-0', 'refreshed rule 2 +0-0'],
    'an added row that stays notifies once');
delete from numbers where n = 3;
select is(pg_temp.refreshed('stays'), 'refreshed rule 1 +0-1', 'rows_added does not notify of a removed row');
insert into numbers values (3);
select is(
    array(select pg_temp.refreshed('stays') from generate_series(1, 2)),
    array['refreshed streak 2 +1-0', 'refreshed notified 2 +1-0'],
    'a row that comes back is added again');
delete from numbers;
select is(
    array(select pg_temp.refreshed('moves') from generate_series(1, 3)),
    array['refreshed streak 0 +0-1', 'refreshed notified 0 +0-1', 'refreshed rule 0 +0-0'],
    'changed notifies once of what has changed for two refreshes');

-- failures in a row

insert into numbers values (1);
select tinydevcrm.create_matview('fails', 'select 1 / n as n from numbers', 'never', notify_after => 3);
update numbers set n = 0;
select is(
    array(select pg_temp.refreshed('fails') from generate_series(1, 2)), array['failed streak', 'failed streak'],
    'the first two failures do not notify');
update numbers set n = 1;
select is(
    pg_temp.refreshed('fails'), 'recovered rule 1',
    'and then the recovery does not either');
update numbers set n = 0;
select is(
    array(select pg_temp.refreshed('fails') from generate_series(1, 4)),
    array['failed streak', 'failed streak', 'failed notified', 'failed repeat'],
    'the third failure in a row notifies, and once');
update numbers set n = 1;
select is(pg_temp.refreshed('fails'), 'recovered notified 1', 'and then so does the recovery');

-- a view that reads one whose change does not last

truncate numbers;
select tinydevcrm.create_matview('below', 'select n from numbers', 'changed', notify_after => 2);
select tinydevcrm.create_matview('above', 'select n from below');
select tinydevcrm.refresh_matview('below');
insert into numbers values (1);
select is((tinydevcrm.refresh_matview('below')).is_changed, true, 'a change that is not notified yet is a change');
delete from numbers;
select is(
    (tinydevcrm.refresh_matview('below')).is_changed, true,
    'and so is the way back to the baseline, for those that have read it meanwhile');

select * from finish();

rollback;
