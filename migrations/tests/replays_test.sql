-- When a rule would have notified, and which rule fits a new view.

begin;

select plan(43);

create role "Tap One" login in role tinydevcrm_user;
create role "Tap Two" login in role tinydevcrm_user;
create schema tap authorization "Tap One";
grant usage on schema tap to "Tap Two";
set local search_path = tap, public;
set local session authorization "Tap One";

create table numbers (n integer);
create table divisors as
select 1 as d;

-- The same rows by each rule, and what really notified

create function pg_temp.query()
    returns text
    language sql
as $$ select 'select n, 1 / d as one from numbers cross join divisors'::text $$;

create temporary table rules as
select notify_rules.name as rule,
       after,
       format('%s after %s', notify_rules.name, after) as view
  from tinydevcrm.notify_rules
 cross join generate_series(1, 2) as after;
select count(tinydevcrm.create_matview(view, pg_temp.query(), rule, notify_after => after)) from rules;

-- A third of the refreshes finds what the one before found; some fail.
create function pg_temp.change(chance double precision)
    returns void
    language plpgsql
as $$
begin
    update divisors set d = 1;
    case floor(change.chance * 9)
        when 0 then delete from numbers;
        when 1 then update divisors set d = 0;
        when 2, 3 then insert into numbers values (floor(random() * 4));
        when 4 then delete from numbers where n = floor(random() * 4);
        when 5 then update numbers set n = floor(random() * 4);
        else null;
    end case;
end
$$;
insert into numbers values (1);
do $$
begin
    perform setseed(0.5);
    for v_number in 1 .. 40 loop
        perform pg_temp.change(random());
        perform tinydevcrm.refresh_matview(format('%I', view)::regclass) from rules;
    end loop;
end
$$;
select cmp_ok(
    (select count(distinct (outcome, suppressed_by)) from tinydevcrm.matview_refresh_events
      where matview = 'tap."changed after 2"'),
    '>=', 5::bigint, 'refreshes of many kinds are recorded');

create temporary table happened as
select rules.*,
       events.is_notified,
       row_number() over (partition by rules.view order by events.id) as number
  from rules
  join tinydevcrm.matview_refresh_events as events
    on events.matview = format('tap.%I', view);

create function pg_temp.replayed(of_view text, rule text, after integer)
    returns table (number bigint, is_known boolean)
    language sql
as $$
    select numbered.number,
           replayed.is_known
      from (
        select id,
               row_number() over (order by id) as number
          from tinydevcrm.matview_refresh_events
         where matview = format('tap.%I', replayed.of_view)
      ) as numbered
      join tinydevcrm.replay_rule(format('%I', of_view)::regclass, rule, '-infinity', after) as replayed
        on replayed.event_id = numbered.id
$$;

select results_eq(
    format('select number, true from happened where view = %L and is_notified order by 1', view),
    format('select number, is_known from pg_temp.replayed(%L, null, null) order by 1', view),
    format('the replay of its own rule is what has happened: %s', view))
  from rules;
select results_eq(
    format('select number, true from happened where rule = %L and after = 1 and is_notified order by 1', rule),
    format('select number, is_known from pg_temp.replayed(%L, %L, 1) order by 1', 'changed after 1', rule),
    format('from counts the rule %s is known', rule))
  from rules
 where after = 1;
create temporary table replays as
select recorded.view as by,
       rules.view,
       replayed.number,
       replayed.is_known
  from rules
 cross join rules as recorded
 cross join lateral pg_temp.replayed(recorded.view, rules.rule, rules.after) as replayed
 where recorded.view in ('not_empty after 1', 'changed after 2', 'rows_added after 1', 'never after 1');
select is_empty(
    $$ with judged as (
           select rules.view, numbered.number, replays.number is not null as would, recorded.view as by,
                  min(replays.number) filter (where not replays.is_known) over (partition by recorded.view, rules.view) as first_unknown
             from rules
            cross join (select distinct replays.by as view from replays) as recorded
            cross join generate_series(1, 40) as numbered (number)
             left join replays
               on replays.by = recorded.view
              and replays.view = rules.view
              and replays.number = numbered.number
       )
       select judged.*, happened.is_notified
         from judged
         join happened
           on happened.view = judged.view
          and happened.number = judged.number
        where judged.number < coalesce(first_unknown, 1000)
          and judged.would <> happened.is_notified $$,
    'what is known from other recordings is true');
select ok(
    (select count(*) filter (where is_known) > 5 and count(*) filter (where not is_known) between 1 and 30
       from pg_temp.replayed('not_empty after 1', 'changed', 1)),
    'without counts most changes are known by the number of rows, and the others are said not to be known');

-- By hand

create table things (n integer);
select tinydevcrm.create_matview('counted', 'select n from things', 'changed');
reset session authorization;
create function pg_temp.log(row_count bigint, added bigint, removed bigint, at interval, is_changed boolean default null)
    returns void
    language sql
as $$
    insert into tinydevcrm.matview_refresh_events (
        owner, matview_id, matview, outcome, is_notified, suppressed_by, row_count, added_count, removed_count, is_changed, started_at, duration)
    select owner, id, relation::text, 'refreshed', coalesce(added > 0, false), case when not coalesce(added > 0, false) then 'rule' end,
           row_count, added, removed, is_changed, now() - at, '1 second'
      from tinydevcrm.matviews
     where relation = 'counted'::regclass
$$;
create temporary table logged (number integer, row_count bigint, added bigint, removed bigint, at interval, is_changed boolean);
insert into logged
values (1, 5, null, null, '10 days', null),
       (2, 6, 1, 0, '6 hours', true),
       (3, 8, 2, 0, '5 hours 50 minutes', true),
       (4, 8, 0, 0, '4 hours', false),
       (5, 7, 1, 2, '3 hours', true),
       (6, 7, 1, 1, '2 hours 50 minutes', true),
       (7, 7, 0, 0, '1 hour', false);
do $$ begin
    perform pg_temp.log(row_count, added, removed, at, is_changed) from (select * from logged order by number) as ordered;
end $$;

select results_eq(
    $$ select row_count, added_count, removed_count, is_known, why from tinydevcrm.replay_rule('counted') $$,
    $$ values (6::bigint, 1::bigint, 0::bigint, true, 'when its rows change'), (8, 2, 0, true, 'when its rows change'),
              (7, 1, 2, true, 'when its rows change'), (7, 1, 1, true, 'when its rows change') $$,
    'the last refresh before the time is what the first is compared with');
select results_eq(
    $$ select row_count, added_count, removed_count, is_known from tinydevcrm.replay_rule('counted', notify_interval => '1 hour') $$,
    $$ values (6::bigint, 1::bigint, 0::bigint, true), (8, 2, 0, true), (7, 1, 2, true), (7, 1, 1, true) $$,
    'with an interval, what was added meanwhile counts after it');
select results_eq(
    $$ select count(*) from tinydevcrm.replay_rule('counted', notify_interval => '1 day') $$, $$ values (1::bigint) $$,
    'and never more often');
select is_empty(
    $$ select from tinydevcrm.replay_rule('counted', 'empty') $$, 'a rule that never held would not have notified');
select results_eq(
    $$ select started_at from tinydevcrm.replay_rule('counted', 'not_empty', now() - interval '3 hours 1 minute', 2) $$,
    $$ values (now() - interval '3 hours'), (now() - interval '2 hours 50 minutes'), (now() - interval '1 hour') $$,
    'a streak that began before the time');
select results_eq(
    $$ select row_count, added_count, removed_count, is_known from tinydevcrm.replay_rule('counted', 'changed', notify_after => 2) $$,
    $$ values (8::bigint, 3::bigint, 0::bigint, true), (7, null, null, true) $$,
    'a change that lasts, even when the counts are not known');
select results_eq(
    $$ select row_count, is_known, why from tinydevcrm.replay_rule('counted', 'rows_added', notify_after => 2) $$,
    $$ values (8::bigint, true, 'of rows that are new'), (7, false, 'unknown: the rows were not compared') $$,
    'rows that came and may have gone again are not known');
select throws_ok(
    $$ select tinydevcrm.replay_rule('counted', 'sometimes') $$, 'TD007', null, 'an unknown rule is refused');
select throws_ok(
    $$ select tinydevcrm.replay_rule('numbers', 'changed') $$, 'TD001', null, 'and a table');
set local session authorization "Tap Two";
select throws_ok(
    $$ select tinydevcrm.replay_rule('tap.counted', 'always') $$, 'TD001', null, 'another user sees nothing');

-- Suggestions

set local session authorization "Tap One";
set local search_path = tap, public;
select tinydevcrm.create_matview('by tracking', 'select n from numbers', null);
select tinydevcrm.create_matview('by size', 'select n from numbers where now() is not null', null);
select tinydevcrm.create_matview('as ever', 'select n from numbers');
reset session authorization;
update tinydevcrm.settings set suggested_row_limit = 2;
set local session authorization "Tap One";
select tinydevcrm.create_matview('large', 'select generate_series(1, 3) as n where now() is not null', null);
select tinydevcrm.create_matview('large and tracked', 'select generate_series(1, 3) as n', null);
select results_eq(
    $$ select relation::text, notify_when from tinydevcrm.matviews where relation::text ~ '(by |large|as ever)' order by 1 $$,
    $$ values ('"as ever"', 'not_empty'), ('"by size"', 'changed'), ('"by tracking"', 'changed'),
              ('"large and tracked"', 'changed'), ('large', 'not_empty') $$,
    'the rule null is what fits the view; none is not_empty as ever');
select results_eq(
    $$ select notify_when, reason from tinydevcrm._suggest_rule('large') $$,
    $$ values ('not_empty', 'it has more than 2 rows, and is refreshed at each round, because it calls now(), '
              'whose result can change by itself: comparing its rows each time would be slow') $$, 'with the reason');
select is(
    (select reason from tinydevcrm._suggest_rule('"by tracking"')),
    'its tables are tracked: its rows are compared only after a change', 'and for tracked views');

select * from finish();

rollback;
