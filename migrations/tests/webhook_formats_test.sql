-- Formats of webhooks, how one is guessed from a URL, headers, and events in words. The posts are
-- tested in Go.

begin;

select plan(94);

create schema "My Data";
set local search_path = "My Data", public;
set local client_min_messages = warning;

select tinydevcrm.create_matview('v', 'select 1 as one', 'always');

-- formats

select results_eq(
    'select name from tinydevcrm.webhook_formats order by rank',
    array['standard', 'slack', 'discord', 'teams', 'google_chat', 'telegram', 'ntfy', 'pagerduty', 'json', 'email'],
    'there are ten formats');
select is(
    tinydevcrm._guess_webhook_format(example_url),
    case name when 'json' then 'standard' else name end,
    format('the example of %s is one of its URLs, unless nothing about it is special', name))
  from tinydevcrm.webhook_formats;
select is(tinydevcrm._guess_webhook_format(url), format, format('%s is %s', url, format))
  from (
    values ('https://hooks.slack-gov.com/services/T/B/x', 'slack'),
           ('https://hooks.slack.com/workflows/T/A/1/x', 'standard'),
           ('https://hooks.slack.com.evil.example/services/T/B/x', 'standard'),
           ('https://evil.example/https://hooks.slack.com/services/T/B/x', 'standard'),
           ('http://hooks.slack.com/services/T/B/x', 'standard'),
           ('https://canary.discord.com/api/v10/webhooks/1/x?thread_id=2', 'discord'),
           ('https://discordapp.com/api/webhooks/1/x', 'discord'),
           ('https://discord.com/api/webhooks/1/x/slack', 'standard'),
           ('https://prod-1.westeurope.logic.azure.com:443/workflows/x/triggers/manual/paths/invoke?sig=x', 'teams'),
           ('https://a.b.environment.api.powerplatform.com:443/powerautomate/automations/direct/workflows/x', 'teams'),
           ('https://evil.example/.logic.azure.com/', 'standard'),
           ('https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=t', 'google_chat'),
           ('https://api.telegram.org/bot1:x/getUpdates', 'standard'),
           ('https://events.eu.pagerduty.com/v2/enqueue', 'pagerduty'),
           (null, 'standard')
  ) as guessed (url, format);

select is(
    tinydevcrm.create_webhook('slack', 'https://hooks.slack.com/services/T0/B0/abcdefgh1234', 'v'), null,
    'a format that is not signed has no secret to show');
select matches(
    tinydevcrm.create_webhook('own', 'https://hooks.slack.com/services/T0/B0/x', format => 'json'), '^whsec_',
    'a format that is given wins over the URL');
select results_eq(
    'select subscription, url, format from tinydevcrm.subscription_status order by 1',
    $$ values ('own', 'https://hooks.slack.com/…B0/x', 'json'),
              ('slack', 'https://hooks.slack.com/…1234', 'slack') $$,
    'a list shows only the host and the end of a URL that is a secret');
select is(
    tinydevcrm._show_url(example_url, name),
    case
        when name in ('standard', 'json', 'email') then example_url
        when name = 'ntfy' then 'https://ntfy.sh/…'
        else substring(example_url from '^https://[^/]*') || '/…' || right(example_url, 4)
    end,
    format('a URL of %s is shown as a secret, if it is one', name))
  from tinydevcrm.webhook_formats;
select throws_ok(
    $$ select tinydevcrm.create_webhook('x', 'https://example.com/', format => 'fax') $$, 'TD007',
    'there is no format ''fax''', 'a format that does not exist is refused');
select throws_ok(
    format('select tinydevcrm.create_webhook(''x'', %L, format => %L)', url, format), 'TD007',
    'this is no URL for the format ' || format, format('%s lacks what %s needs', url, format))
  from (
    values ('https://api.telegram.org/bot1:x/sendMessage', 'telegram'),
           ('https://api.telegram.org/bot1:x/sendMessage?chat_id=', 'telegram'),
           ('https://ntfy.sh/', 'ntfy'),
           ('https://ntfy.example/a/b', 'ntfy'),
           ('https://events.pagerduty.com/v2/enqueue', 'pagerduty'),
           ('https://events.pagerduty.com/v2/enqueue?routing_key=short', 'pagerduty')
  ) as refused (url, format);
select lives_ok(
    $$ select tinydevcrm.create_webhook('ntfy', 'https://push.example.com/my-topic', format => 'ntfy') $$,
    'a server of one''s own takes the format of a service');
select throws_ok(
    $$ update tinydevcrm.webhooks set format = 'telegram' $$, 'TD007', null,
    'a format that is changed by hand is checked too');

-- alter_webhook()

select tinydevcrm.create_webhook('hook', 'https://example.com/old', headers => '{"X-Key": "k"}');
create function pg_temp.hook()
    returns text[]
    language sql
as $$
    select array[webhooks.url, webhooks.format, webhooks.headers::text]
      from tinydevcrm.webhooks
      join tinydevcrm.subscriptions
        on subscriptions.id = webhooks.subscription_id
     where subscriptions.name = 'hook'
$$;
select tinydevcrm.alter_webhook('hook', headers => '{"Authorization": "Bearer t"}');
select is(
    pg_temp.hook(), array['https://example.com/old', 'standard', '{"Authorization": "Bearer t"}'],
    'alter_webhook() replaces the headers alone');
select tinydevcrm.alter_webhook('hook', 'https://discord.com/api/webhooks/1/x');
select is((pg_temp.hook())[2], 'discord', 'the format is guessed again from a new URL');
select tinydevcrm.alter_webhook('hook', 'https://example.com/new');
select is((pg_temp.hook())[2], 'standard', 'and again');
select tinydevcrm.alter_webhook('hook', format => 'json');
select tinydevcrm.alter_webhook('hook', 'https://example.com/newer');
select is(
    pg_temp.hook(), array['https://example.com/newer', 'json', '{"Authorization": "Bearer t"}'],
    'a format that was chosen stays with a new URL, and so do the headers');
select tinydevcrm.alter_webhook('hook', headers => '{}');
select is((pg_temp.hook())[3], '{}', 'headers can be removed');

-- headers

select throws_like(
    format('select tinydevcrm.alter_webhook(''hook'', headers => %L)', headers), problem,
    format('refused: %s', problem))
  from (
    values ('[]', 'headers are an object of names and texts'),
           ('"x"', 'headers are an object of names and texts'),
           ('{"": "x"}', 'the name of a header has letters, digits and hyphens'),
           ('{"a b": "x"}', 'the name of a header has letters, digits and hyphens'),
           (e'{"a\\r\\nb": "x"}', 'the name of a header has letters, digits and hyphens'),
           ('{"ä": "x"}', 'the name of a header has letters, digits and hyphens'),
           ('{"HOST": "x"}', 'the header HOST is set by the orchestrator'),
           ('{"Content-Length": "1"}', 'the header Content-Length is set by the orchestrator'),
           ('{"Webhook-Id": "1"}', 'the header Webhook-Id is set by the orchestrator'),
           ('{"Proxy-Authorization": "1"}', 'the header Proxy-Authorization is set by the orchestrator'),
           ('{"x": 1}', 'the value of the header x is no text'),
           ('{"x": null}', 'the value of the header x is no text'),
           (e'{"x": "secret\\r\\nX-Evil: 1"}', 'the value of the header x has other characters %'),
           ('{"x": "secret ä"}', 'the value of the header x has other characters %'),
           ('{"X": "1", "x": "2"}', 'the header % is there twice'),
           ('{"x": "' || repeat('y', 17000) || '"}', 'headers have up to 16000 bytes')
  ) as refused (headers, problem);
select is((pg_temp.hook())[3], '{}', 'refused headers change nothing');
select is(tinydevcrm._parse_headers(lines), headers::jsonb, format('%s from lines', headers))
  from (
    values (e'Authorization: Bearer a:b\r\n x-Key :  k  \r\n', '{"Authorization": "Bearer a:b", "x-Key": "k"}'),
           ('X:', '{"X": ""}'),
           (e' \n ', null),
           ('', null),
           (null, null)
  ) as parsed (lines, headers);
select throws_ok(
    $$ select tinydevcrm._parse_headers(e'X: 1\nBearer secret') $$, 'TD007', 'line 2 of the headers has no colon',
    'a line without a colon is refused, and not shown');

-- posts

select tinydevcrm.alter_webhook('slack', headers => '{"X-Key": "k"}');
select tinydevcrm.drop_subscription(name)
  from tinydevcrm.subscriptions
 where name <> 'slack';
select tinydevcrm.refresh_matview('v');
create temporary table posts as
select posts.*
  from tinydevcrm.webhooks
 cross join lateral tinydevcrm._receive_posts(subscription_id, 10, '1 minute') as posts;
select results_eq(
    'select url, secrets, format, headers, body ->> ''severity'', body ->> ''matview'', body -> ''event'' ->> ''row_count'',
            body -> ''limits'' ->> ''title'' from posts',
    $$ values ('https://hooks.slack.com/services/T0/B0/abcdefgh1234', '{}'::text[], 'slack', '{"X-Key": "k"}'::jsonb,
               'change', '"My Data".v', '1', '150') $$,
    'a post of another format than standard has the event in words, no secrets, the headers and the limits');

-- events in words

create function pg_temp.described(event jsonb, other_count bigint default 0)
    returns text[]
    language sql
as $$
    select array[title, summary, severity, key, is_resolved::text, path]
      from tinydevcrm._describe_event(
               jsonb_populate_record(
                   null::tinydevcrm.matview_refresh_events,
                   '{"id": 7, "matview": "public.v"}' || described.event),
               described.other_count)
$$;

select is(pg_temp.described(event::jsonb), described, described[1])
  from (
    values ('{"outcome": "refreshed", "row_count": 1}',
            array['v: 1 row', 'The view has 1 row.', 'change', 'public.v', 'false', '/views/public.v?event=7']),
           ('{"outcome": "refreshed", "row_count": 0}',
            array['v: no rows', 'The view has no rows.', 'change', 'public.v', 'true', '/views/public.v?event=7']),
           ('{"outcome": "refreshed", "row_count": 9, "added_count": 4, "removed_count": 3, "updated_count": 1}',
            array['v: 3 rows added, 2 removed, 1 updated', 'The view has 9 rows.', 'change', 'public.v', 'false', '/views/public.v?event=7']),
           ('{"outcome": "refreshed", "row_count": 9, "added_count": 0, "removed_count": 1}',
            array['v: 1 row removed', 'The view has 9 rows.', 'change', 'public.v', 'false', '/views/public.v?event=7']),
           ('{"outcome": "refreshed", "row_count": 2, "added_count": 0, "removed_count": 0, "plain_reason": "rows share a key"}',
            array['v: 2 rows', 'The view has 2 rows. Refreshes are plain now: rows share a key.', 'change', 'public.v', 'false', '/views/public.v?event=7']),
           ('{"outcome": "failed", "error_message": "division by zero"}',
            array['v: refresh failed', 'division by zero', 'failure', 'public.v refresh', 'false', '/views/public.v?event=7']),
           ('{"outcome": "recovered", "row_count": 2, "added_count": 1, "removed_count": 0}',
            array['v: refreshed again', 'The refresh succeeds again, and the view has 2 rows: 1 row added.', 'recovery', 'public.v refresh', 'true',
                  '/views/public.v?event=7']),
           ('{"outcome": "late", "reason": "its schedule was due"}',
            array['v: late', 'Its schedule was due.', 'late', 'public.v refresh', 'false', '/views/public.v?event=7']),
           ('{"outcome": "silent", "reason": "t has not changed"}',
            array['v: no new data', 'T has not changed.', 'silent', 'public.v tables', 'false', '/views/public.v?event=7']),
           ('{"outcome": "resumed"}',
            array['v: new data again', 'No reason is known.', 'resumed', 'public.v tables', 'true', '/views/public.v?event=7']),
           (e'{"outcome": "dropped", "matview": "s.\\"a?b/ü\\r\\nc\\"", "reason": "ann dropped it"}',
            array['s."a?b/ü c": dropped', 'Ann dropped it.', 'dropped', e's."a?b/ü\r\nc"', 'false',
                  '/views/s.%22a%3Fb%2F%C3%BC%0D%0Ac%22?event=7'])
  ) as events (event, described);
select is(
    (pg_temp.described('{"outcome": "failed"}', 2))[1], 'v and 2 other views: refresh failed',
    'a group of failures names how many others there are');
select is(
    (pg_temp.described(jsonb_build_object('outcome', 'refreshed', 'row_count', 0, 'matview_id', (
        select id from tinydevcrm.matviews))))[5],
    'true', 'no rows is the end of rows');
update tinydevcrm.matviews
   set notify_when = 'empty';
select is(
    (pg_temp.described(jsonb_build_object('outcome', 'refreshed', 'row_count', 0, 'matview_id', (
        select id from tinydevcrm.matviews))))[5],
    'false', 'but by the rule empty it is what was watched for');

-- rights

create role "Tap Ann" login in role tinydevcrm_user;
create role "Tap Eve" login in role tinydevcrm_user;
set local session authorization "Tap Ann";
select tinydevcrm.create_webhook('mine', 'https://example.com/', headers => '{"Authorization": "Bearer ann"}');
set local session authorization "Tap Eve";
select is_empty('select from tinydevcrm.webhooks', 'no user sees the headers and URLs of another');
select is(
    (select count(*) from tinydevcrm.webhook_formats), 10::bigint, 'each user sees the formats');
select throws_ok(
    $$ update tinydevcrm.webhook_formats set url_pattern = '' $$, '42501', null, 'and changes none');
reset session authorization;

select * from finish();

rollback;
