-- A test of a subscription really sends a message. It is no event and no delivery, and says nothing
-- about the endpoint.

create table tinydevcrm.subscription_tests (
    id              bigint generated always as identity,
    subscription_id bigint not null,
    owner           regrole not null default quote_ident(current_user)::regrole,
    is_started      boolean not null default false,
    is_finished     boolean not null default false,
    status          integer,
    duration        interval,
    answer          text,
    error           text,
    asked_at        timestamptz not null default clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz,

    constraint subscription_tests_pkey primary key (id),
    constraint subscription_tests_subscription_fkey foreign key (subscription_id)
        references tinydevcrm.subscriptions (id) on delete cascade,
    constraint subscription_tests_status_range check (status between 1 and 999),
    constraint subscription_tests_duration_range check (
        duration between interval '0' and interval '7 days'
    ),
    constraint subscription_tests_answer_length check (octet_length(answer) <= 4000),
    constraint subscription_tests_error_length check (octet_length(error) <= 4000)
);

comment on table tinydevcrm.subscription_tests is
    'Tests of subscriptions, of the last hour. tinydevcrm.test_subscription() asks for one, and the '
    'orchestrator sends it.';
comment on column tinydevcrm.subscription_tests.id is
    'Number of the test, which its message_id repeats.';
comment on column tinydevcrm.subscription_tests.subscription_id is
    'The subscription.';
comment on column tinydevcrm.subscription_tests.owner is
    'Owner of the subscription.';
comment on column tinydevcrm.subscription_tests.is_started is
    'Whether an orchestrator has taken it. None takes it after a minute.';
comment on column tinydevcrm.subscription_tests.is_finished is
    'Whether the answer is there.';
comment on column tinydevcrm.subscription_tests.status is
    'Status of the answer, as of HTTP; null when there was none.';
comment on column tinydevcrm.subscription_tests.duration is
    'How long the answer took, at most 7 days.';
comment on column tinydevcrm.subscription_tests.answer is
    'The first bytes of the answer''s body.';
comment on column tinydevcrm.subscription_tests.error is
    'Why the message was not accepted; null when it was.';
comment on column tinydevcrm.subscription_tests.asked_at is
    'When it was asked for.';
comment on column tinydevcrm.subscription_tests.started_at is
    'When an orchestrator has taken it.';
comment on column tinydevcrm.subscription_tests.finished_at is
    'When the answer was recorded.';

create index subscription_tests_subscription_idx
    on tinydevcrm.subscription_tests (subscription_id, asked_at);

create index subscription_tests_open_idx
    on tinydevcrm.subscription_tests (owner, id)
 where not is_finished;

alter table tinydevcrm.subscription_tests enable row level security;

create policy subscription_tests_read on tinydevcrm.subscription_tests
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

create policy subscription_tests_create on tinydevcrm.subscription_tests
    for insert
    to tinydevcrm_user
    with check (
        pg_has_role(owner, 'usage')
        and not tinydevcrm._is_group(owner)
        and exists (
            select
              from tinydevcrm.subscriptions
             where subscriptions.id = subscription_tests.subscription_id
               and subscriptions.owner = subscription_tests.owner
        )
    );

create policy subscription_tests_change on tinydevcrm.subscription_tests
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select,
      insert (subscription_id),
      update (is_started, is_finished, status, duration, answer, error)
   on tinydevcrm.subscription_tests
   to tinydevcrm_user;

create function tinydevcrm._subscription_tests_limit()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        select count(*) >= 5
          from tinydevcrm.subscription_tests
         where subscription_tests.subscription_id = new.subscription_id
           and subscription_tests.asked_at > clock_timestamp() - interval '1 minute'
    ) then
        raise exception using
            errcode = '55000',
            message = 'there were five tests of this subscription within a minute',
            hint    = 'Wait a minute.';
    end if;

    return new;
end
$$;

comment on function tinydevcrm._subscription_tests_limit() is
    'Allows five tests of a subscription a minute: a receiver may count them. Raises 55000. '
    'Sessions that ask at the same time may get some more through.';

create trigger _100_limit
    before insert on tinydevcrm.subscription_tests
    for each row
    execute function tinydevcrm._subscription_tests_limit();

create function tinydevcrm._subscription_tests_set_times()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.is_started and old.started_at is null then
        new.started_at := clock_timestamp();
    end if;

    if new.is_finished and old.finished_at is null then
        new.finished_at := clock_timestamp();
    end if;

    return new;
end
$$;

comment on function tinydevcrm._subscription_tests_set_times() is
    'Sets when a test has started and finished.';

create trigger _200_set_times
    before update on tinydevcrm.subscription_tests
    for each row
    execute function tinydevcrm._subscription_tests_set_times();

create function tinydevcrm._subscription_tests_forget()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.subscription_tests
     where subscription_tests.subscription_id = new.subscription_id
       and subscription_tests.asked_at < clock_timestamp() - interval '1 hour';

    return null;
end
$$;

comment on function tinydevcrm._subscription_tests_forget() is
    'Removes the old tests of a subscription. Security definer: users have no right to delete from '
    'our tables. As a trigger it runs only for a test that row-level security has let through.';

create trigger _500_forget
    after insert on tinydevcrm.subscription_tests
    for each row
    execute function tinydevcrm._subscription_tests_forget();

create function tinydevcrm.test_subscription(name text)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id      constant bigint := tinydevcrm._find_own_subscription(test_subscription.name);
    v_test_id bigint;
begin
    if not exists (
        select
          from tinydevcrm.webhooks
         where webhooks.subscription_id = v_id
    ) then
        raise exception using
            errcode = 'TD007',
            message = format('nothing is sent for subscription %L', test_subscription.name),
            hint    = 'A test is for a webhook. A worker receives the events itself.';
    end if;

    insert into tinydevcrm.subscription_tests (subscription_id)
    values (v_id)
    returning subscription_tests.id
         into v_test_id;

    -- Wakes up the orchestrator.
    perform tinydevcrm._notify(0);
    return v_test_id;
end
$$;

comment on function tinydevcrm.test_subscription(text) is
    'Sends a message that is marked as a test, with the last event of the subscription or an '
    'example, and returns the number of its row in tinydevcrm.subscription_tests, which has the '
    'answer some moments after the commit. It is no event and no delivery. It is sent while the '
    'subscription is paused or its endpoint is down too, and its outcome does not count. At most '
    'five a minute. Raises TD001 when there is no such subscription, TD007 when it is no webhook, '
    '55000 when there were too many.';

create function tinydevcrm._build_test(test_id bigint, subscription_id bigint)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_mark   constant text := 'This is a test: nothing has happened.';
    v_event  constant tinydevcrm.matview_refresh_events :=
        tinydevcrm._find_example_event(_build_test.subscription_id);
    v_format constant text := (
        select webhooks.format
          from tinydevcrm.webhooks
         where webhooks.subscription_id = _build_test.subscription_id
    );
    v_body   json;
begin
    if v_format = 'standard' then
        return json_build_object(
            'type', 'test',
            'timestamp', now(),
            'data', json_build_object(
                'message', v_mark,
                'event', tinydevcrm.event_json(v_event)));
    end if;

    -- As a list of fields: jsonb would not keep the order of the columns of rows.
    v_body := (
        select json_object_agg(
                   fields.key,
                   case fields.key
                       when 'message_id' then to_json('test_' || _build_test.test_id)
                       when 'is_test' then to_json(true)
                       when 'severity' then to_json('test'::text)
                       when 'key' then to_json('test'::text)
                       when 'is_resolved' then to_json(false)
                       when 'title' then to_json('Test: ' || (fields.value #>> '{}'))
                       when 'summary' then to_json(v_mark || ' ' || (fields.value #>> '{}'))
                       when 'templates' then json_build_object(
                           'title', 'Test: ' || (fields.value ->> 'title'),
                           'message',
                           -- A template of JSON has {{is_test}} instead.
                           case when v_format = 'json' then '' else v_mark || e'\n\n' end
                           || (fields.value ->> 'message'))
                       else fields.value
                   end
                   order by fields.number)
          from json_each(
                   tinydevcrm._build_notification(_build_test.subscription_id, v_event))
               with ordinality as fields (key, value, number)
    );

    return case v_format
        when 'email' then (
            select tinydevcrm._address_email(webhooks, 'test_' || _build_test.test_id, v_body)
              from tinydevcrm.webhooks
             where webhooks.subscription_id = _build_test.subscription_id
        )
        else v_body
    end;
end
$$;

comment on function tinydevcrm._build_test(bigint, bigint) is
    'The message of a test: that of the last event, marked, also where a template makes it. In '
    'format standard its type is test.';

create function tinydevcrm._receive_tests(batch_size integer)
    returns table (
        test_id      bigint,
        subscription text,
        message_id   text,
        body         json,
        url          text,
        secrets      text[],
        format       text,
        headers      jsonb
    )
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with next (id) as (
        select min(waiting.id)
          from tinydevcrm.subscription_tests as waiting
         where not waiting.is_finished
           and not waiting.is_started
           and waiting.asked_at > clock_timestamp() - interval '1 minute'
           -- One of an owner at a time. The program that has it may have died.
           and not exists (
               select
                 from tinydevcrm.subscription_tests as running
                where running.owner = waiting.owner
                  and not running.is_finished
                  and running.started_at > clock_timestamp() - interval '1 minute'
           )
         group by waiting.owner
         order by min(waiting.id)
         limit _receive_tests.batch_size
    ),
    taken as (
        update tinydevcrm.subscription_tests
           set is_started = true
         where subscription_tests.id in (
                   select unlocked.id
                     from tinydevcrm.subscription_tests as unlocked
                    where unlocked.id in (select next.id from next)
                      and not unlocked.is_started
                      for no key update skip locked
               )
        returning subscription_tests.id,
                  subscription_tests.subscription_id
    )
    select taken.id,
           subscriptions.name,
           'test_' || taken.id,
           tinydevcrm._build_test(taken.id, taken.subscription_id),
           webhooks.url,
           tinydevcrm._list_signing_secrets(webhooks),
           webhooks.format,
           webhooks.headers
      from taken
      join tinydevcrm.subscriptions
        on subscriptions.id = taken.subscription_id
      join tinydevcrm.webhooks
        on webhooks.subscription_id = taken.subscription_id
$$;

comment on function tinydevcrm._receive_tests(integer) is
    'Takes tests that were asked for within the last minute, one of each owner, with all that the '
    'orchestrator needs to send them. Each is taken once.';

create function tinydevcrm._finish_test(
    test_id  bigint,
    status   integer,
    duration interval,
    answer   text,
    error    text
)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    -- Does not wait for a row that its owner has locked.
    update tinydevcrm.subscription_tests
       set is_finished = true,
           status = nullif(_finish_test.status, 0),
           duration = _finish_test.duration,
           answer = left(_finish_test.answer, 1000),
           error = left(_finish_test.error, 1000)
     where subscription_tests.id = (
               select unlocked.id
                 from tinydevcrm.subscription_tests as unlocked
                where unlocked.id = _finish_test.test_id
                  for no key update skip locked
           )
$$;

comment on function tinydevcrm._finish_test(bigint, integer, interval, text, text) is
    'Records how a test has ended: the status, 0 for none, and the first characters of the answer. '
    'error is null when the message was accepted.';

revoke execute on function
    tinydevcrm._subscription_tests_limit(),
    tinydevcrm._subscription_tests_set_times(),
    tinydevcrm._subscription_tests_forget(),
    tinydevcrm.test_subscription(text),
    tinydevcrm._build_test(bigint, bigint),
    tinydevcrm._receive_tests(integer),
    tinydevcrm._finish_test(bigint, integer, interval, text, text)
from public;

grant execute on function
    tinydevcrm.test_subscription(text),
    tinydevcrm._build_test(bigint, bigint),
    tinydevcrm._receive_tests(integer),
    tinydevcrm._finish_test(bigint, integer, interval, text, text)
to tinydevcrm_user;
