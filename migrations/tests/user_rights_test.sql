-- What users may write of imports, subscriptions, deliveries and webhooks, and whose tables an
-- import reads and fills.

begin;

select plan(70);

create temporary table written as
select c.oid as relation,
       a.attnum,
       a.attname,
       a.atttypid,
       format('%s.%I', c.oid::regclass, a.attname) as name
  from pg_class c
  join pg_attribute a
    on a.attrelid = c.oid
 where c.oid = any (array[
           'tinydevcrm.imports', 'tinydevcrm.import_problems', 'tinydevcrm.subscriptions',
           'tinydevcrm.deliveries', 'tinydevcrm.webhooks', 'tinydevcrm.subscription_tests',
           'tinydevcrm.sources', 'tinydevcrm.source_runs'
       ]::regclass[])
   and a.attnum > 0
   and (
       has_column_privilege('tinydevcrm_user', c.oid, a.attnum, 'insert')
       or has_column_privilege('tinydevcrm_user', c.oid, a.attnum, 'update')
   );

select ok(
    (select count(distinct relation) = 8 and count(*) > 25 from written),
    'users can write some columns of each table');
select is_empty(
    $$ select name
         from written
        where attname in ('id', 'owner')
           or atttypid = 'timestamptz'::regtype
              and name not in (
                  'tinydevcrm.deliveries.visible_at', 'tinydevcrm.deliveries.acknowledged_at',
                  'tinydevcrm.deliveries.parked_at') $$,
    'users cannot write numbers or owners, or times that have no bound');
select is_empty(
    $$ select name
         from written
        where attname ~ '_id$'
          and has_column_privilege('tinydevcrm_user', relation, attnum, 'update') $$,
    'users cannot change what a row refers to');
select is_empty(
    $$ select distinct relation::regclass, privilege
         from written
        cross join unnest(array['insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as privilege
        where has_table_privilege('tinydevcrm_user', relation, privilege) $$,
    'users have no right on a whole table but select');
select is_empty(
    $$ select name
         from written
         join pg_type t
           on t.oid = atttypid
        where (t.typcategory in ('A', 'S', 'T', 'U') or t.typtype = 'c')
          and t.typname not in ('name', 'bool', 'int8', 'int4')
          and not exists (
              select
                from pg_constraint k
               where k.contype = 'c'
                 and (k.conrelid = relation and attnum = any (k.conkey) or k.contypid = atttypid)
          ) $$,
    'a check bounds each column that can be long or is an interval');

create role "Tap Ann" in role tinydevcrm_user;
create role "Tap Eve" in role tinydevcrm_user;
create role "Tap Runner" in role tinydevcrm_orchestrator;
create schema tap_ann authorization "Tap Ann";
create schema tap_eve authorization "Tap Eve";
grant usage on schema tap_ann to public;

set local session authorization "Tap Ann";
set local search_path = tap_ann, public;
select tinydevcrm.create_matview('v', 'select 1 as n');
select tinydevcrm.create_subscription('mine');
select tinydevcrm.create_webhook('hook', 'https://example.com/');
select tinydevcrm.refresh_matview('v');
reset session authorization;
create table public.tap_facts as
select (select id from tinydevcrm.matviews where relation = 'tap_ann.v'::regclass) as matview_id,
       (select id from tinydevcrm.subscriptions where name = 'mine') as subscription_id,
       (select max(id) from tinydevcrm.matview_refresh_events) as event_id,
       (select min(id) from tinydevcrm.deliveries) as delivery_id;
grant select on public.tap_facts to public;

-- What a user cannot write or lock by hand

set local session authorization "Tap Eve";
set local search_path = tap_eve, public;
select tinydevcrm.create_subscription('hers');
select throws_ok(
    format(
        'insert into tinydevcrm.%1$s (id, %2$s) overriding system value select 1000000 + n, %3$s from generate_series(1, 10) as n',
        numbered.relation, numbered.columns, numbered.value),
    '42501', 'permission denied for table ' || numbered.relation,
    'nobody numbers rows of ' || numbered.relation)
  from (
    values ('imports', 'source, mode, schema_name, table_name', '''x'', ''create'', ''tap_eve'', ''x'''),
           ('import_problems', 'import_id, line, reason, line_text', '1, 1, '''', '''''),
           ('subscriptions', 'name', '''x'' || n'),
           ('deliveries', 'subscription_id, event_id', '1, 1')
  ) as numbered (relation, columns, value);
select throws_ok(
    $$ update tinydevcrm.deliveries set id = default $$, '42501', null,
    'nobody gives a delivery another number');
select throws_ok(
    $$ insert into tinydevcrm.imports (source, mode, schema_name, table_name, started_at)
       values ('x', 'create', 'tap_eve', 'x', 'infinity') $$,
    '42501', null, 'nobody sets the start of an import, by which retention goes');
select throws_ok(
    format('lock table tinydevcrm.%s in %s mode', relation, lock_mode), '42501', null,
    format('nobody locks %s in %s mode', relation, lock_mode))
  from unnest(array['imports', 'import_problems', 'subscriptions', 'deliveries', 'webhooks', 'sources', 'source_runs']) as relation
 cross join unnest(array['row exclusive', 'access exclusive']) as lock_mode;
select throws_ok(
    format('delete from tinydevcrm.%s', relation), '42501', null, 'nobody deletes from ' || relation)
  from unnest(array['imports', 'import_problems', 'subscriptions', 'deliveries', 'webhooks', 'sources', 'source_runs']) as relation;
select throws_ok(
    $$ insert into tinydevcrm.subscriptions (name, matview_id) select 'spy', matview_id from tap_facts $$,
    '42501', 'new row violates row-level security policy for table "subscriptions"',
    'nobody subscribes to another''s view by its number');
select throws_ok(
    $$ insert into tinydevcrm.subscriptions (name, matview_id) values ('spy', 9223372036854775807) $$,
    '42501', 'new row violates row-level security policy for table "subscriptions"',
    'the same refusal hides whether a view has that number');
select throws_ok(
    $$ insert into tinydevcrm.webhooks (subscription_id, url, secret)
       select subscription_id, 'https://evil.example/', 'whsec_' || repeat('A', 32) from tap_facts $$,
    '42501', 'new row violates row-level security policy for table "webhooks"',
    'nobody makes another''s subscription a webhook');
select throws_ok(
    $$ insert into tinydevcrm.deliveries (subscription_id, event_id)
       select (select id from tinydevcrm.subscriptions), event_id from tap_facts $$,
    '42501', 'new row violates row-level security policy for table "deliveries"',
    'nobody creates a delivery of another''s event');
select throws_ok(
    $$ select * from tinydevcrm.receive_events('hers', 1, interval '100 years') $$, 'TD007', null,
    'a visibility timeout has a limit');

-- What the triggers write

set local session authorization "Tap Ann";
set local search_path = tap_ann, public;
update tinydevcrm.deliveries set state = 'acknowledged' where id = (select delivery_id from tap_facts);
select ok(
    (select acknowledged_at between created_at and clock_timestamp() and parked_at is null
       from tinydevcrm.deliveries where id = (select delivery_id from tap_facts)),
    'a trigger writes the time of an answer');
select throws_ok(
    format('update tinydevcrm.deliveries set state = %L, %s_at = %s where id = %s', state, state, time, delivery_id),
    '42501', null, format('nobody says that a delivery is %s at %s', state, time))
  from tap_facts
 cross join unnest(array['acknowledged', 'parked']) as state
 cross join unnest(array['clock_timestamp() + interval ''2 days''', 'timestamptz ''infinity''', 'timestamptz ''-infinity''']) as time;
select throws_ok(
    format('update tinydevcrm.deliveries set state = ''pending'', visible_at = %s where id = %s', time, delivery_id),
    '42501', null, 'nobody hides a delivery until ' || time)
  from tap_facts
 cross join unnest(array['clock_timestamp() + interval ''92 days''', 'timestamptz ''infinity''', 'timestamptz ''-infinity''']) as time;
update tinydevcrm.deliveries
   set state = 'parked', acknowledged_at = clock_timestamp()
 where id = (select delivery_id from tap_facts);
select ok(
    (select acknowledged_at is null and parked_at is not null from tinydevcrm.deliveries where id = (select delivery_id from tap_facts)),
    'the times follow the state, whatever a user says');
-- In another time zone, 90 days may be an hour longer.
update tinydevcrm.deliveries
   set state = 'pending', visible_at = clock_timestamp() + interval '90 days 1 hour'
 where id = (select delivery_id from tap_facts);
select is(
    tinydevcrm.acknowledge_events(array[delivery_id]), 1::bigint,
    'what has been hidden for 90 days is acknowledged, whatever the time zone is')
  from tap_facts;
reset session authorization;
update tinydevcrm.deliveries
   set acknowledged_at = acknowledged_at + interval '1 year', visible_at = visible_at + interval '1 year'
 where id = (select delivery_id from tap_facts);
set local session authorization "Tap Ann";
select lives_ok(
    format('select tinydevcrm.redeliver_event(%s)', delivery_id), 'and redelivered after the clock was set back')
  from tap_facts;
select results_eq(
    $$ select state, attempts, id > (select delivery_id from tap_facts)
         from tinydevcrm.deliveries
        where subscription_id = (select subscription_id from tap_facts) $$,
    $$ values ('pending', 0, true) $$,
    'a redelivered delivery has a new number');
select tinydevcrm.drop_subscription('mine');
select is_empty(
    $$ select from tinydevcrm.deliveries where subscription_id = (select subscription_id from tap_facts) $$,
    'a dropped subscription is removed with its deliveries');

-- The orchestrator pauses, and changes nothing else of a subscription.

set local session authorization "Tap Runner";
select throws_ok(
    $$ update tinydevcrm.subscriptions set is_dropped = true where name = 'hook' $$,
    '42501', null, 'the orchestrator cannot drop a subscription');
select tinydevcrm._disable_webhook(id, 'gone'), tinydevcrm._limit_webhook_rate(id, '100 years')
  from tinydevcrm.subscriptions
 where name = 'hook';
select results_eq(
    $$ select is_paused, pause_reason, rate_limited_until < now() + interval '91 days'
         from tinydevcrm.subscriptions
         join tinydevcrm.webhooks
           on subscription_id = id
        where name = 'hook' $$,
    $$ values (true, 'gone', true) $$,
    'it can pause a webhook whose endpoint is gone, and limit a rate for 90 days at most');

-- An import runs code of a table only as its owner, who has logged in.

set local session authorization "Tap Ann";
create function tap_ann.spring(value text)
    returns text
    language plpgsql
    immutable
as $$
begin
    raise exception 'ran as %', current_user;
end
$$;
create table tap_ann.trap (n text);
create index on tap_ann.trap (tap_ann.spring(n));
create table tap_ann.checked (n integer primary key check (tap_ann.spring(n::text) is not null));
create view tap_ann.seen as select n from tap_ann.trap;
reset session authorization;
set local search_path = public;
create temporary table staging (n text);
insert into staging values ('1');

select throws_ok(
    format(
        $$ select tinydevcrm.import_staging('staging', 'checked', %L, %L, schema_name => 'tap_ann') $$,
        name, case when takes_key then '{n}' end),
    '42501', 'tap_ann.checked belongs to "Tap Ann", and this session has not logged in as that role',
    'a superuser fills no table of another''s in mode ' || name)
  from tinydevcrm.import_modes
 where name <> 'create';
select throws_ok(
    $$ select tinydevcrm.import_staging('tap_ann.trap', 'copied') $$,
    '42501', 'tap_ann.trap belongs to "Tap Ann", and this session has not logged in as that role',
    'a superuser imports no rows of another''s table');
select throws_ok(
    $$ select tinydevcrm.import_staging('tap_ann.seen', 'copied') $$, 'TD007', null,
    'a superuser imports no rows through a view');
select throws_ok(
    $$ select tinydevcrm._analyze_distributed('tap_ann.trap') $$, '42501', null,
    'a superuser does not analyze another''s table');
select throws_ok(
    $$ select tinydevcrm._check_distributable('tap_ann.trap', 'n') $$, '42501', null,
    'a superuser does not count its rows');
insert into tinydevcrm.imports (source, mode, schema_name, table_name, columns)
values ('early.csv', 'create', 'tap_ann', 'trap', '[{"name": "n", "type": "text", "rank": null}]');
select throws_ok(
    $$ select tinydevcrm.finish_import(max(id), '{5}', 1) from tinydevcrm.imports $$,
    '42501', null, 'a superuser does not finish an import into it');
set local role "Tap Ann";
select throws_ok(
    $$ select tinydevcrm.begin_import('x.csv', '{n}', '{5}', schema_name => 'tap_ann') $$,
    '42501', 'this session has not logged in as "Tap Ann"', '"set role" is not enough to import');
reset role;

-- Null, nothing, too much

select throws_ok(
    $$ select tinydevcrm._make_column_names(array_fill(''::text, array[1601])) $$, 'TD005', null,
    'over 1600 names are refused before they are read');
select is(
    cardinality(tinydevcrm._make_column_names(array_fill(''::text, array[1600]))), 1600,
    '1600 names are accepted');
select is(
    array[tinydevcrm._find_base_type(0), tinydevcrm._find_base_type(null), tinydevcrm._find_base_type('information_schema.cardinal_number')],
    array['-', null, 'integer'], 'an unknown type has no base type, and the search ends');
select throws_ok(
    $$ select tinydevcrm._lock_import(null) $$, 'TD001', null, 'no import has the number null');
select throws_ok(
    $$ select tinydevcrm.begin_import(null, null, null) $$, 'TD005', null, 'an import without columns is refused');
select throws_ok(
    $$ select tinydevcrm.create_webhook('x', null) $$, 'TD007', null, 'a webhook without a URL is refused');
select throws_ok(
    $$ select tinydevcrm._receive_deliveries(1, null, '1 second') $$, 'TD007', null,
    'a batch size of null is refused');

select * from finish();

rollback;
