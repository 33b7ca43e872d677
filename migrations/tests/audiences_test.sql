-- Several audiences of one view: rules of their own, a delivery for each row, and recipients from a column.

begin;

select plan(52);

set local track_functions = 'all';

create schema "My Data";
set local search_path = "My Data", public;

create table orders (id integer primary key, owner_email text);
create table divisors as select 1 as divisor;
select tinydevcrm.create_matview(
    'late', 'select id, owner_email, 1 / divisor as one from orders, divisors', notify_when => 'never', key => '{id}');
select tinydevcrm.create_matview('other', 'select 1 as one', notify_when => 'never');

-- What of an event each subscription has received since the last call: outcome, and the ids of its rows.
create function pg_temp.get(subscription text)
    returns text[]
    language sql
as $$
    with received as materialized (
        select * from tinydevcrm.receive_events(subscription)
    ),
    done as materialized (
        select tinydevcrm.acknowledge_events(array(select delivery_id from received)) as count
    )
    select array(
               select concat_ws(
                          ' ', (event).outcome,
                          (select string_agg(value ->> 'id', ',' order by value ->> 'id')
                             from jsonb_array_elements((event).rows)))
                 from received, done
                order by delivery_id)
$$;

-- rules of their own

select tinydevcrm.create_subscription('plain', 'late');
select tinydevcrm.create_subscription('grown', 'late', notify_when => 'rows_added');
select tinydevcrm.create_subscription('gone', 'late', notify_when => ' Rows_Removed ');
select tinydevcrm.create_subscription('trouble', 'late', notify_when => 'failed');
select tinydevcrm.create_subscription('both', 'late', notify_when => 'rows_added, failed');
select tinydevcrm.create_subscription('trouble of all', notify_when => 'failed,dropped');
select tinydevcrm.create_subscription('always', 'late', notify_when => 'always');

select is(
    (select array[notify_when, asked_rules::text] from tinydevcrm.matviews where relation = 'late'::regclass),
    '{never,"{always,rows_added,rows_removed}"}',
    'a view knows the rules about rows that its subscriptions have, and keeps its own');
select is(
    (select asked_rules::text from tinydevcrm.matviews where relation = 'other'::regclass), '{}',
    'nothing is asked of other views');

select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{}', 'the first refresh has nothing to compare with');
select is(pg_temp.get('always'), '{refreshed}', 'a rule that does not compare holds for it');

insert into orders values (1, 'a@x.example'), (2, 'b@x.example');
select tinydevcrm.refresh_matview('late');
select is(
    (select array[is_notified::text, suppressed_by, held_rules::text, added_count::text]
       from tinydevcrm.matview_refresh_events order by id desc limit 1),
    '{false,rule,"{always,rows_added}",2}',
    'the event records the rules of subscriptions that hold, and does not notify by that of the view');
select is(pg_temp.get('plain'), '{}', 'a subscription without a rule gets what the view notifies of');
select is(pg_temp.get('grown'), '{"refreshed 1,2"}', 'the rule rows_added of a subscription gets the added rows');
select is(pg_temp.get('both'), '{"refreshed 1,2"}', 'so does one of several rules');
select is(pg_temp.get('gone'), '{}', 'the rule rows_removed does not hold');
select is(pg_temp.get('trouble'), '{}', 'the rule failed does not hold');

insert into orders values (3, 'a@x.example');
delete from orders where id = 1;
select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{"refreshed 3"}', 'only the added rows, of a view whose rule does not compare');
select is(pg_temp.get('always'), '{"refreshed 1,2","refreshed 2,3"}', 'and all rows for a rule that does not compare');

create temporary table received as
select (event).*
  from tinydevcrm.receive_events('gone');
select is(
    (select array[is_notified::text, suppressed_by, rows::text, removed_rows::json -> 0 ->> 'id', removed_count::text] from received),
    array['true', null, null, '1', '1'],
    'the rule rows_removed carries the removed rows alone, and its event notifies');

select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{}', 'what has been compared is not found again');
select is(
    (select jsonb_array_length(rows) from tinydevcrm.matview_refresh_events order by id desc limit 1), 2,
    'an event carries rows when a rule of a subscription holds');

select is(
    coalesce(pg_stat_get_xact_function_calls('tinydevcrm._split_event'::regproc), 0), 0::bigint,
    'no event is split for subscriptions that get it whole');

select pg_temp.get('always'), pg_temp.get('both');
select tinydevcrm.set_audience('always', 'became_empty');
select tinydevcrm.refresh_matview('late');
select is(
    (select rows from tinydevcrm.matview_refresh_events order by id desc limit 1), null,
    'and carries none when nobody gets it');

-- failures

update divisors set divisor = 0;
select is(
    (tinydevcrm.refresh_matview('late')).outcome, 'failed', 'a refresh fails');
select is(pg_temp.get('trouble'), '{failed}', 'the rule failed gets the failure');
select is(pg_temp.get('both'), '{failed}', 'with another rule too');
select is(pg_temp.get('trouble of all'), '{failed}', 'and in a subscription to all views');
select is(pg_temp.get('grown'), '{}', 'the rule rows_added does not get it');
select is(pg_temp.get('plain'), '{failed}', 'a subscription without a rule gets it');
select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('trouble'), '{}', 'not the next failure of the streak');

update divisors set divisor = 1;
select is((tinydevcrm.refresh_matview('late')).outcome, 'recovered', 'it succeeds again');
select is(pg_temp.get('trouble'), '{"recovered 2,3"}', 'the rule failed gets the recovery');

-- A failure that does not notify, and a recovery that does by the rule of the view.
select tinydevcrm.watch_matview('late', 'always', notify_after => 2);
select tinydevcrm.refresh_matview('late');
select tinydevcrm.refresh_matview('late');
update divisors set divisor = 0;
select is(
    (select outcome || ' ' || is_notified from tinydevcrm.refresh_matview('late')), 'failed false',
    'a first failure may not notify');
update divisors set divisor = 1;
select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('trouble'), '{}', 'the rule failed gets neither that failure nor its recovery');
select tinydevcrm.watch_matview('late', 'never', notify_after => 1);

-- quiet times

select pg_temp.get('grown'), pg_temp.get('gone');
select tinydevcrm.refresh_matview('late');
select tinydevcrm.mute_matview('late', now() + interval '1 hour');
insert into orders values (11, null);
select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{}', 'the mute of a view holds for rules of subscriptions');
select tinydevcrm.unmute_matview('late');
select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{"refreshed 11"}', 'and what was added meanwhile follows');

-- notify_after of a rule that does not compare keeps the differences until it is over.
select tinydevcrm.watch_matview('late', 'not_empty', notify_after => 3);
insert into orders values (12, null);
select tinydevcrm.refresh_matview('late'), tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{}', 'a rule of a subscription waits for notify_after too');
select tinydevcrm.refresh_matview('late');
select is(pg_temp.get('grown'), '{"refreshed 12"}', 'and then gets what was added, once');
select tinydevcrm.refresh_matview('late');
select is(
    (select is_notified from tinydevcrm.matview_refresh_events order by id desc limit 1), true,
    'the comparison for a subscription leaves the rule of the view as it is');
select tinydevcrm.watch_matview('late', 'never', notify_after => 1);

-- what is asked of a view ends

select tinydevcrm.drop_subscription('grown');
select tinydevcrm.drop_subscription('both');
select tinydevcrm.set_audience('gone', 'failed');
select is(
    (select array[asked_rules::text, has_baseline::text, (select count(*)::text from tinydevcrm.matview_baselines)]
       from tinydevcrm.matviews where relation = 'late'::regclass),
    array['{became_empty}', 'false', '0'],
    'without a rule that compares there is no baseline');

-- a delivery for each row

select tinydevcrm.create_subscription('each', 'late', notify_when => 'changed', each_row => true);
select tinydevcrm.refresh_matview('late');
insert into orders values (21, 'a@x.example'), (22, 'B@X.example');
update orders set owner_email = 'a@x.example' where id = 12;
delete from orders where id = 11;
select tinydevcrm.refresh_matview('late');

create temporary table each_row as
select *
  from tinydevcrm.receive_events('each', 3);
select results_eq(
    $$ select (event).added_rows::json -> 0 ->> 'id', (event).updated_rows::json -> 0 -> 'new' ->> 'id',
              (event).added_count, (event).removed_count, jsonb_array_length((event).rows), row_number > 0
         from each_row order by 2 nulls first, 1 $$,
    $$ values ('21', null, 1::bigint, 0::bigint, 1, true), ('22', null, 1, 0, 1, true), (null, '12', 1, 1, 1, true) $$,
    'each added and each updated row is a delivery of its own, with its counts');
select is(
    (select count(distinct (event).id) from each_row), 1::bigint, 'all of one event');
select is(
    (select count(*) from tinydevcrm.receive_events('each')), 0::bigint,
    'the next row waits for those before it: the order is kept');
select tinydevcrm.acknowledge_events(array(select delivery_id from each_row));
create temporary table last_row as
select *
  from tinydevcrm.receive_events('each');
select is(
    (select (event).removed_rows::json -> 0 ->> 'id' from last_row), '11',
    'the removed row comes last');
select tinydevcrm.acknowledge_events(array(select delivery_id from last_row));
select tinydevcrm.redeliver_event(delivery_id) from each_row where row_number = (select min(row_number) from each_row);
select is(
    (select array[(event).added_rows::json -> 0 ->> 'id', row_number::text] from tinydevcrm.receive_events('each')),
    (select array[(event).added_rows::json -> 0 ->> 'id', row_number::text] from each_row order by row_number limit 1),
    'a row is redelivered alone');
select tinydevcrm.acknowledge_events(array(select id from tinydevcrm.deliveries));
select is(
    tinydevcrm.replay_events('each', '-infinity'), 4::bigint, 'a replay has each row again, and no row twice');
select is(
    (select carries_all from tinydevcrm.matviews where relation = 'late'::regclass), true,
    'the events of the view carry up to 1,000 rows');
select tinydevcrm.acknowledge_events(array(select id from tinydevcrm.deliveries));

insert into orders select 100 + i, null from generate_series(1, 1200) as i;
select tinydevcrm.refresh_matview('late');
select is(
    (select array[count(*), count(*) filter (where row_number = 0), count(*) filter (where array_length(row_numbers, 1) = 1)]
       from tinydevcrm.deliveries
      where event_id = (select max(id) from tinydevcrm.matview_refresh_events)
        and subscription_id = (select id from tinydevcrm.subscriptions where name = 'each')),
    '{1001,1,1000}',
    'of 1,200 rows 1,000 are delivered, and before them the whole event, which is cut');
select is(
    (select array[row_number::text, (event).is_cut::text, (event).added_count::text] from tinydevcrm.receive_events('each', 1)),
    '{0,true,1200}', 'the whole event says how many there are');
delete from orders where id > 100;
select tinydevcrm.refresh_matview('late');
select tinydevcrm.drop_subscription('each');

-- recipients from a column

select tinydevcrm.create_subscription('to', 'late', notify_when => 'rows_added');
select tinydevcrm.set_audience('to', 'rows_added', to_column => 'owner_email', allowed_domains => '{X.example}');
select tinydevcrm.refresh_matview('late');
insert into orders values
    (31, 'a@x.example'), (32, 'b@evil.example'), (33, ' A@x.example'), (34, 'c@x.example'),
    (35, e'd@x.example\r\nBcc: e@evil.example'), (36, 'f@x.example,g@evil.example'), (37, null);
select tinydevcrm.refresh_matview('late');
select set_eq(
    $$ select lower(recipient), array(select (value ->> 'id')::integer from jsonb_array_elements((event).rows) order by 1)
         from tinydevcrm.receive_events('to') $$,
    $$ values ('a@x.example', '{31,33}'::integer[]), (null, '{32}'), ('c@x.example', '{34}'), (null, '{35}'), (null, '{36}'), (null, '{37}') $$,
    'rows of one address are one delivery, to that address if its domain is allowed; others have no recipient');

select throws_ok(
    $$ select tinydevcrm.set_audience('to', 'rows_added', to_column => 'nobody', allowed_domains => '{x.example}') $$,
    'TD007', 'the view has no column ''nobody''', 'a column that is none is refused');
select throws_ok(
    $$ select tinydevcrm.set_audience('to', 'rows_added', to_column => 'owner_email') $$,
    'TD007', 'addresses from a column need the domains to which messages may go', 'so is a column without domains');
select throws_ok(
    $$ select tinydevcrm.set_audience('to', to_column => 'owner_email', allowed_domains => '{*}') $$,
    'TD007', '''*'' is no domain', 'and a domain that is none');

-- what is refused

select throws_ok(
    $$ select tinydevcrm.create_subscription('x', 'late', notify_when => 'rows_added,often') $$,
    'TD007', 'there is no rule ''often'' for a subscription', 'an unknown rule is refused');
select throws_ok(
    $$ select tinydevcrm.create_subscription('x', notify_when => 'rows_added') $$,
    'TD007', 'the rule rows_added needs a subscription to one view', 'a rule about rows needs a view');
select throws_ok(
    $$ select tinydevcrm.create_subscription('x', each_row => true) $$,
    'TD007', 'rows are delivered apart only by a subscription to one view', 'and so do rows apart');

-- drops

select pg_temp.get('trouble of all');
drop materialized view late;
select is(pg_temp.get('trouble of all'), '{dropped}', 'the rule dropped gets the drop');
select tinydevcrm.create_matview('late', 'select * from orders', notify_when => 'never');
select is(
    (select asked_rules::text from tinydevcrm.matviews where relation = 'late'::regclass), '{became_empty,rows_added}',
    'a view that takes the place of a dropped one has what its subscriptions ask');

select * from finish();
rollback;
