-- Definitions: export, plan, apply and check.

begin;

select plan(64);

set local client_min_messages = warning;
create role "Tap Ann" in role tinydevcrm_user;
create role "Tap Eve" in role tinydevcrm_user;
create schema tap_ann authorization "Tap Ann";
create schema tap_sales authorization "Tap Ann";
create schema tap_eve authorization "Tap Eve";
grant usage on schema tap_ann to public;

-- What a client sends for what an export has written, with the secrets that its variables hold.
create function public.tap_wanted() returns jsonb language sql as $$
    select jsonb_agg(jsonb_build_object(
               'kind', kind, 'name', coalesce(relname, name),
               'schema', nullif(schema_name, current_schema()::text),
               'definition', definition, 'texts', texts))
      from tinydevcrm._name_variables(current_schema(), tinydevcrm._print_queries())
$$;
create function public.tap_set(wanted jsonb, name text, key text, value jsonb) returns jsonb language sql as $$
    select jsonb_agg(
               case when one ->> 'name' = $2
                    then jsonb_set(one, array['definition'], case when $4 is null then (one -> 'definition') - $3
                         else (one -> 'definition') || jsonb_build_object($3, $4) end)
                    else one end)
      from jsonb_array_elements($1) as one
$$;

set local session authorization "Tap Ann";
set local search_path = tap_ann, public;
create table orders (id integer primary key, total numeric, mail text);
insert into orders select n, n, 'a@example.com' from generate_series(1, 30) as n;
select tinydevcrm.create_matview(
    'big', E'\n-- the big ones\nselect *\n  from orders\n where total > 10;\n\n', 'rows_added', key => '{id}',
    ignored_columns => '{mail}', notify_interval => '10 minutes', notify_after => 2, notify_deadline => '26 hours');
select tinydevcrm.create_matview('A/b', 'select count(*) as n from big', 'changed', schema_name => 'tap_sales');
create materialized view by_hand as select id from orders;
select tinydevcrm.watch_matview('by_hand', 'never');
update tinydevcrm.matviews set schedule = 'daily at 7:00 Europe/Berlin' where relation = 'big'::regclass;
update tinydevcrm.matviews set schedule = 'hourly', catch_up = false, is_paused = true where relation = 'by_hand'::regclass;
select tinydevcrm.mute_matview('by_hand', now() + interval '3 days');
select tinydevcrm.allow_embedding('by_hand', '{https://example.com}');
comment on materialized view big is E'What is "big"\nand dear';
select tinydevcrm.create_webhook('hook', 'https://example.com/in', 'big', headers => '{"Authorization": "Bearer secret", "Secret": "xyz"}');
select tinydevcrm.create_webhook('slack', 'https://hooks.slack.com/services/T000/B000/secret', notify_when => 'late,failed');
select tinydevcrm.create_email('mail', '{a@example.com,b@example.com}', 'big', to_column => 'mail', allowed_domains => '{example.com}');
select tinydevcrm.create_subscription('worker', 'tap_sales."A/b"', max_attempts => 3, numbers_as_text => true);
select tinydevcrm.create_source(
    'inv oice', 'https://example.com/secret.csv', table_name => 'orders', mode => 'upsert', key => '{id}', schedule => 'daily at 6:00',
    headers => '{"X-Key": "secret"}', options => '{"delimiter": ";", "type": {"zip": null}}');

-- Export

select results_eq(
    $$ select kind, name, schema_name, relname from tinydevcrm.export_definitions() $$,
    $$ values ('table', 'orders', null, 'orders'),
              ('view', 'big', null, 'big'),
              ('view', 'by_hand', null, 'by_hand'),
              ('view', 'tap_sales."A/b"', 'tap_sales', 'A/b'),
              ('source', 'inv oice', null, null),
              ('subscription', 'hook', null, null),
              ('subscription', 'mail', null, null),
              ('subscription', 'slack', null, null),
              ('subscription', 'worker', null, null) $$,
    'an export has all that is one''s own, in order, with names as SQL writes them');
select is(
    (select definition from tinydevcrm.export_definitions() where name = 'big'),
    '{"description": "What is \"big\"\nand dear", "schedule": "daily at 7:00 Europe/Berlin", "notify_when": "rows_added",
      "notify_interval": "00:10:00", "notify_after": 2, "notify_deadline": "26:00:00", "key": ["id"], "ignored_columns": ["mail"],
      "query": "-- the big ones\nselect *\n  from orders\n where total > 10;"}'::jsonb,
    'the query is as it was typed, with its comments, and what is the default is left out');
select is(
    (select definition - 'query' - 'muted_until' from tinydevcrm.export_definitions() where name = 'by_hand'),
    '{"schedule": "hourly", "catch_up": false, "paused": true, "notify_when": "never", "origins": ["https://example.com"]}'::jsonb,
    'a pause, a widget, and catch_up that is not the default');
select matches(
    (select definition ->> 'query' from tinydevcrm.export_definitions() where name = 'by_hand'),
    '^SELECT .*id\s+FROM orders$', 'a query that nobody typed here is printed, with names as the session writes them');
select is(
    (select definition from tinydevcrm.export_definitions() where name = 'inv oice'),
    '{"url": "${SOURCE_INV_OICE_URL}", "headers": {"X-Key": "${SOURCE_INV_OICE_X_KEY}"}, "table": "orders", "mode": "upsert",
      "key": ["id"], "schedule": "daily at 6:00", "options": {"delimiter": ";", "type": {"zip": null}}}'::jsonb,
    'URL and headers of a source are variables');
select is(
    (select jsonb_object_agg(name, definition) from tinydevcrm.export_definitions() where kind = 'subscription'),
    '{"hook": {"view": "big", "url": "${SUBSCRIPTION_HOOK_URL}",
               "headers": {"Authorization": "${SUBSCRIPTION_HOOK_AUTHORIZATION}", "Secret": "${SUBSCRIPTION_HOOK_HEADER_SECRET}"},
               "secret": "${SUBSCRIPTION_HOOK_SECRET}"},
      "mail": {"view": "big", "recipients": ["a@example.com", "b@example.com"], "to_column": "mail", "allowed_domains": ["example.com"]},
      "slack": {"url": "${SUBSCRIPTION_SLACK_URL}", "notify_when": ["failed", "late"]},
      "worker": {"view": "tap_sales.\"A/b\"", "max_attempts": 3, "numbers_as_text": true}}'::jsonb,
    'so are the URLs, headers and secrets of subscriptions, each another one');
select is_empty(
    $$ select from tinydevcrm.export_definitions() where definition::text ~ 'secret[^"]|Bearer|whsec' and kind <> 'view' and name <> 'hook'
        union all
       select from tinydevcrm.export_definitions() where definition::text ~ 'Bearer|whsec' $$,
    'no secret is in an export');

-- Nothing to do

create temporary table facts as
select (select id from tinydevcrm.matviews where relation = 'big'::regclass) as id,
       'big'::regclass::oid as oid,
       public.tap_wanted() as wanted;
select is_empty($$ select plan.* from facts, tinydevcrm.plan_definitions(wanted) as plan $$, 'what is so already is no change');
select is_empty($$ select * from tinydevcrm.apply_definitions((select wanted from facts)) $$, 'applying it changes nothing');
select ok((select bool_and(is_managed) from tinydevcrm.matview_status where owner = '"Tap Ann"'::regrole), 'the views are managed by files from then on');
select is('big'::regclass::oid, (select oid from facts), 'no view is made anew');
select ok((tinydevcrm.describe_matview('big') ->> 'is_managed')::boolean, 'the description of a view says so');

-- References as a file writes them are kept while they stand for the same.

select lives_ok(
    $$ select tinydevcrm.apply_definitions(
                  (select jsonb_agg(case when one ->> 'name' = 'slack' then jsonb_set(one, '{texts,url}', '"${OUR_SLACK}"') else one end)
                     from jsonb_array_elements((select wanted from facts)) as one)) $$,
    'a file may name variables as it likes');
select is(
    (select definition ->> 'url' from tinydevcrm.export_definitions() where name = 'slack'), '${OUR_SLACK}',
    'an export names them the same way');
select tinydevcrm.alter_webhook('slack', 'https://hooks.slack.com/services/T000/B000/other');
select is(
    (select definition ->> 'url' from tinydevcrm.export_definitions() where name = 'slack'), '${SUBSCRIPTION_SLACK_URL}',
    'but not when it has another value by now');
select results_eq(
    $$ select plan.action, plan.name, plan.old ->> 'url', plan.new ->> 'url' from facts, tinydevcrm.plan_definitions(wanted) as plan $$,
    $$ values ('alter', 'slack', '${SUBSCRIPTION_SLACK_URL} with another value', '${SUBSCRIPTION_SLACK_URL}') $$,
    'a plan says that a secret differs, and shows none');
select results_eq(
    $$ select * from tinydevcrm.apply_definitions((select wanted from facts)) $$,
    $$ values ('alter', 'subscription', 'slack') $$, 'apply sets it again');

-- Settings alone

select tinydevcrm.refresh_matview('big');
create temporary table before as select has_baseline, id from tinydevcrm.matviews where relation = 'big'::regclass;
select results_eq(
    $$ select * from tinydevcrm.apply_definitions(
                  tap_set(tap_set(tap_set((select wanted from facts), 'big', 'schedule', '"hourly"'), 'big', 'notify_after', null), 'big', 'key', null)) $$,
    $$ values ('alter', 'view', 'big') $$, 'settings are altered');
select results_eq(
    $$ select schedule, notify_after, key, is_managed, has_baseline, id = (select id from before), relation::oid = (select oid from facts)
         from tinydevcrm.matviews where relation = 'big'::regclass $$,
    $$ values ('hourly', 1, null::text[], true, (select has_baseline from before), true, true) $$,
    'the registration and the baseline stay, and the view is not filled again');
select ok((select has_baseline from before), 'it has a baseline');
select is((select count(*)::integer from pg_index where indrelid = 'big'::regclass), 0, 'the index of the former key is gone');
select lives_ok($$ select tinydevcrm.apply_definitions((select wanted from facts)) $$, 'and back');
select is((select key from tinydevcrm.matviews where relation = 'big'::regclass), '{id}', 'with the key');

-- The query

select lives_ok(
    $$ select tinydevcrm.apply_definitions(tap_set((select wanted from facts), 'big', 'query',
                  to_jsonb('select * -- all of it'::text || E'\n  from orders where total > 10'))) $$, 'other words for the same query');
select is('big'::regclass::oid, (select oid from facts), 'do not fill the view again');
select is(
    (select definition ->> 'query' from tinydevcrm.export_definitions() where name = 'big'),
    E'select * -- all of it\n  from orders where total > 10', 'but are kept');
select lives_ok(
    $$ select tinydevcrm.apply_definitions(tap_set((select wanted from facts), 'big', 'query', '"select * from orders where total > 20"')) $$,
    'another query');
select results_eq(
    $$ select (select count(*)::integer from big), id = (select id from facts), has_baseline from tinydevcrm.matviews where relation = 'big'::regclass $$,
    $$ values (10, true, true) $$, 'fills the view, which keeps its registration and its baseline');
select is(
    (select array_agg(subscription order by subscription) from tinydevcrm.subscription_status where matview = 'big'::regclass),
    '{hook,mail}', 'and its subscriptions');

-- What stays unless a file says something else

select tinydevcrm.pause_subscription('worker');
select tinydevcrm.pause_matview('big');
select results_eq(
    $$ select plan.name from tinydevcrm.plan_definitions((select wanted from facts)) as plan $$, $$ values ('big') $$,
    'a pause is no difference when the file says nothing of it');
select tinydevcrm.apply_definitions((select wanted from facts));
select ok((select is_paused from tinydevcrm.matviews where relation = 'big'::regclass), 'a view stays paused');
select tinydevcrm.apply_definitions(tap_set((select wanted from facts), 'big', 'paused', 'false'));
select ok((select not is_paused from tinydevcrm.matviews where relation = 'big'::regclass), 'until the file says that it is not');
select tinydevcrm.apply_definitions(tap_set((select wanted from facts), 'worker', 'paused', 'false'));
select ok((select not is_paused from tinydevcrm.subscriptions where name = 'worker'), 'likewise a subscription');

-- Replaced

select results_eq(
    $$ select plan.action, plan.name from tinydevcrm.plan_definitions(
                  tap_set(tap_set((select wanted from facts), 'worker', 'view', '"big"'), 'inv oice', 'table', '"others"')) as plan $$,
    $$ values ('replace', 'inv oice'), ('replace', 'worker') $$, 'what cannot be altered is replaced');
select lives_ok(
    $$ select tinydevcrm.apply_definitions(tap_set(tap_set((select wanted from facts), 'worker', 'view', '"big"'), 'inv oice', 'table', '"others"')) $$,
    'a subscription to another view, a source of another table');
select is(
    (select s.matview::text || ' ' || (select table_name from tinydevcrm.sources) from tinydevcrm.subscription_status as s where subscription = 'worker'),
    'big others', 'they are');

-- Wrong

select throws_ok(
    $$ select tinydevcrm.apply_definitions(tap_set(tap_set((select wanted from facts), 'worker', 'view', '"gone"'), 'big', 'schedule', '"daily"')) $$,
    'TD001', 'subscription worker: there is no view gone', 'an error names what it is about');
select isnt((select schedule from tinydevcrm.matviews where relation = 'big'::regclass), 'daily', 'and changes nothing');
select throws_ok(
    $$ select tinydevcrm.apply_definitions(tap_set((select wanted from facts), 'hook', 'secret', '"whsec_short"')) $$,
    'TD007', 'subscription hook: this secret cannot sign', 'a bad secret is not shown');
select throws_ok(
    $$ select tinydevcrm.plan_definitions('[{"kind": "view", "name": "v", "definition": {"query": "select 1", "qery": ""}}]') $$,
    'TD007', null, 'an unknown key is refused');
select throws_ok(
    $$ select tinydevcrm.plan_definitions('[{"kind": "view", "name": "v", "definition": {"query": "select 1", "notify_interval": "ten"}}]') $$,
    '22007', 'view v: invalid input syntax for type interval: "ten"', 'a bad value too');
select throws_ok(
    $$ select tinydevcrm.apply_definitions('[{"kind": "table", "name": "gone", "definition": {"tracked": true}}]') $$,
    '42P01', 'table gone: there is no such table', 'rows are not in the files');

-- Check

create temporary table relations (n bigint);
insert into relations select count(*) from pg_class;
select results_eq(
    $$ select kind, name, code from tinydevcrm.check_definitions(
                  tap_set(tap_set(tap_set((select wanted from facts), 'big', 'query', '"select nothing from orders"'),
                          'hook', 'notify_when', '["rows"]'), 'by_hand', 'notify_after', '0')) $$,
    $$ values ('view', 'big', '42703'), ('view', 'by_hand', 'TD007'), ('subscription', 'hook', 'TD007') $$,
    'a check finds all errors');
select results_eq(
    $$ select kind, name, code from tinydevcrm.check_definitions(
                  tap_set(tap_set((select wanted from facts), 'big', 'notify_interval', '"ten"'), 'by_hand', 'schedule', '"hourli"')) $$,
    $$ values ('view', 'big', '22007'), ('view', 'by_hand', 'TD003') $$,
    'and before these all values that cannot be read');
select is_empty(
    $$ select * from tinydevcrm.check_definitions(
                  tap_set(tap_set(tap_set((select wanted from facts), 'big', 'query', '"select id, total, mail, 1 as more from orders"'),
                          'A/b', 'query', '"select sum(more) as n from big"'), 'mail', 'to_column', '"more"')) $$,
    'it knows the columns that a view will have');
select is_empty(
    $$ select * from tinydevcrm.check_definitions((select wanted from facts)
           || '[{"kind": "view", "name": "new", "definition": {"query": "select 1 / (count(*) - count(*)) as n from newer", "key": ["n"]}},
                {"kind": "view", "name": "newer", "definition": {"query": "select 1 as n", "schedule": "on change"}},
                {"kind": "subscription", "name": "newest", "definition": {"view": "new", "notify_when": ["rows_added"]}}]') $$,
    'new views are there for others, and no query runs');
select is((select count(*) from pg_class), (select n from relations), 'it leaves no relation');
select results_eq(
    $$ select relation::oid = 'big'::regclass::oid, schedule from tinydevcrm.matviews where id = (select id from facts) $$,
    $$ values (true, 'daily at 7:00 Europe/Berlin') $$, 'and registrations as they were');

-- Order

select results_eq(
    $$ select count(*) from tinydevcrm.apply_definitions((select wanted from facts) ||
           (select jsonb_agg(jsonb_build_object('kind', 'view', 'name', 'c' || n, 'definition', jsonb_build_object(
                       'query', case when n = 9 then 'select 1 as c1, 2 as c9' else format('select c1, c9 from c%s -- as c1', n + 1) end)))
              from generate_series(1, 9) as n)) where name ~ '^c' $$,
    $$ values (9::bigint) $$, 'views are made after those that they read, also when names of columns look like views');
select throws_ok(
    $$ select tinydevcrm.apply_definitions('[{"kind": "view", "name": "x1", "definition": {"query": "select * from x2"}},
                                             {"kind": "view", "name": "x2", "definition": {"query": "select * from x1"}}]') $$,
    '42P01', 'view x1: relation "x2" does not exist', 'a circle is an error');
select lives_ok(
    $$ select tinydevcrm.apply_definitions(
           '[{"kind": "view", "name": "c8", "definition": {"query": "select c1 from c9"}},
             {"kind": "view", "name": "c9", "definition": {"query": "select 1 as c1"}},
             {"kind": "view", "name": "c7", "definition": {"query": "select c1 from c8"}},
             {"kind": "view", "name": "c6", "definition": {"query": "select c1 from c7"}},
             {"kind": "view", "name": "c5", "definition": {"query": "select c1 from c6"}},
             {"kind": "view", "name": "c4", "definition": {"query": "select c1 from c5"}},
             {"kind": "view", "name": "c3", "definition": {"query": "select c1 from c4"}},
             {"kind": "view", "name": "c2", "definition": {"query": "select c1 from c3"}},
             {"kind": "view", "name": "c1", "definition": {"query": "select c1 from c2"}}]') $$,
    'a view loses a column that its readers do not read any more');
select ok((select not is_managed from tinydevcrm.matviews where relation = 'big'::regclass), 'what the files do not hold is not managed by them');

-- Prune

select results_eq(
    $$ select action, kind, name from tinydevcrm.plan_definitions('[{"kind": "view", "name": "c9", "definition": {"query": "select 1 as c1"}}]', true) where name !~ '^c' $$,
    $$ values ('drop', 'view', 'big'), ('drop', 'view', 'by_hand'), ('drop', 'view', 'tap_sales."A/b"'), ('drop', 'source', 'inv oice'),
              ('drop', 'subscription', 'hook'), ('drop', 'subscription', 'mail'), ('drop', 'subscription', 'slack'), ('drop', 'subscription', 'worker') $$,
    'a plan with prune lists what would be dropped, and no table');
select lives_ok(
    $$ select tinydevcrm.apply_definitions('[{"kind": "view", "name": "c9", "definition": {"query": "select 1 as c1"}}]', true) $$, 'it is dropped');
select results_eq(
    $$ select name from tinydevcrm.export_definitions() where kind <> 'table' $$, $$ values ('c9') $$, 'a view after those that read it');

-- What a file may get wrong

select throws_ok(
    format($$ select * from tinydevcrm.%s('[{"kind": "view", "name": "c9", "definition": {"query": "select 1 as c1"}},
                                            {"kind": "view", "name": "c9", "schema": "tap_ann", "definition": {"query": "select 2 as c1"}}]') $$, command),
    'TD007', 'view c9: it is defined twice', command || ' refuses one view in two files, with its schema and without it')
  from unnest(array['plan_definitions', 'apply_definitions', 'check_definitions']) as commands (command);
select tinydevcrm.create_webhook('tried', 'https://example.com/in', headers => '{"A": "secret"}');
select throws_ok(
    $$ select tinydevcrm.apply_definitions('[{"kind": "subscription", "name": "tried", "definition": {"url": "https://example.com/in", "max_attempts": 500}}]') $$,
    'TD007', 'subscription tried: ''tried'' cannot be a subscription', 'a value out of range is an error of ours, which does not show the row');
select tinydevcrm.drop_subscription('tried');

-- Others

create temporary table hers as select public.tap_wanted() as wanted;
grant select on hers, facts to public;
set local session authorization "Tap Eve";
set local search_path = tap_eve, public;
select is_empty($$ select * from tinydevcrm.export_definitions() $$, 'nobody exports what others have');
select throws_ok(
    $$ select tinydevcrm.apply_definitions('[{"kind": "view", "name": "c9", "schema": "tap_ann", "definition": {"query": "select 2 as c1"}}]') $$,
    null, null, 'nobody alters the view of another role by a file of its name');
select results_eq(
    $$ select code from tinydevcrm.check_definitions('[{"kind": "table", "name": "tap_ann.orders", "definition": {"tracked": true}},
                                                       {"kind": "view", "name": "c9", "schema": "tap_ann", "definition": {"query": "select 2 as c1"}}]') $$,
    $$ values ('TD004') $$, 'a check finds that');
select is_empty(
    $$ select * from tinydevcrm.apply_definitions('[]', true) $$, 'nobody prunes what others have');
select is((select count(*)::integer from tinydevcrm.export_definitions()), 0, 'and has nothing of it');

select * from finish();

rollback;
