-- One row a refresh is the record of what happened; the notification is only a wake-up.

create table tinydevcrm.matview_refresh_events (
    id            bigint generated always as identity,
    owner         regrole not null,
    matview_id    bigint,
    matview       text not null,
    schedule_id   bigint,
    outcome       text not null,
    is_told       boolean not null,
    method        text,
    plain_reason  text,
    row_count     bigint,
    rows          jsonb,
    error_code    text,
    error_message text,
    started_at    timestamptz not null,
    duration      interval not null,

    constraint matview_refresh_events_pkey primary key (id),
    constraint matview_refresh_events_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete set null,
    constraint matview_refresh_events_outcome_known check (
        outcome in ('refreshed', 'recovered', 'failed', 'skipped')
    ),
    constraint matview_refresh_events_method_known check (method in ('plain', 'concurrently')),
    constraint matview_refresh_events_error_of_failure check (
        (outcome = 'failed') = (error_code is not null)
    ),
    constraint matview_refresh_events_row_count_of_success check (
        (outcome in ('refreshed', 'recovered')) = (row_count is not null)
    )
);

comment on table tinydevcrm.matview_refresh_events is
    'What happened at each refresh of a watched materialized view: one row each, written by the '
    'refresh''s own transaction.';
comment on column tinydevcrm.matview_refresh_events.id is
    'Number of the event. Handed out before commit: do not read events with "id > last seen", '
    'which skips those that commit late; use a subscription.';
comment on column tinydevcrm.matview_refresh_events.owner is
    'Owner of the materialized view.';
comment on column tinydevcrm.matview_refresh_events.matview_id is
    'The registration; null when it has been removed since.';
comment on column tinydevcrm.matview_refresh_events.matview is
    'Name of the materialized view at the time, with its schema, quoted where needed.';
comment on column tinydevcrm.matview_refresh_events.schedule_id is
    'The schedule that refreshed it; null for a refresh on request.';
comment on column tinydevcrm.matview_refresh_events.outcome is
    'refreshed: it succeeded; recovered: it succeeded after a failure; failed: it failed and the '
    'old rows stay; skipped: another refresh of it was under way.';
comment on column tinydevcrm.matview_refresh_events.is_told is
    'Whether it was worth telling, by the rule in tinydevcrm.matviews.notify_when: such an event '
    'goes to every subscription.';
comment on column tinydevcrm.matview_refresh_events.method is
    'How it was refreshed: plain or concurrently; null when it was skipped.';
comment on column tinydevcrm.matview_refresh_events.plain_reason is
    'Why it was refreshed plainly from now on, though it has a key: told when that begins.';
comment on column tinydevcrm.matview_refresh_events.row_count is
    'Rows in the materialized view after the refresh; null unless it succeeded.';
comment on column tinydevcrm.matview_refresh_events.rows is
    'The first of those rows, in no order, as an array of objects; at most '
    'tinydevcrm.settings.event_row_limit of them and event_byte_limit bytes. Null unless the '
    'event is told and has rows.';
comment on column tinydevcrm.matview_refresh_events.error_code is
    'SQLSTATE of the failure.';
comment on column tinydevcrm.matview_refresh_events.error_message is
    'Message of the failure.';
comment on column tinydevcrm.matview_refresh_events.started_at is
    'When the refresh began.';
comment on column tinydevcrm.matview_refresh_events.duration is
    'How long it took, counting the rows included.';

create index matview_refresh_events_matview_idx
    on tinydevcrm.matview_refresh_events (matview_id, id);

-- The latest told events, however many others there are.
create index matview_refresh_events_told_idx
    on tinydevcrm.matview_refresh_events (id)
 where is_told;

create index matview_refresh_events_started_at_idx
    on tinydevcrm.matview_refresh_events using brin (started_at);

alter table tinydevcrm.matview_refresh_events enable row level security;

create policy matview_refresh_events_owner on tinydevcrm.matview_refresh_events
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (
        exists (
            select
              from tinydevcrm.matviews
             where matviews.id = matview_refresh_events.matview_id
               and matviews.owner = matview_refresh_events.owner
               and matviews.relation::text = matview_refresh_events.matview
        )
    );

grant select, insert on tinydevcrm.matview_refresh_events to tinydevcrm_user;


create function tinydevcrm._matview_refresh_events_notify()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('matview_refresh_channel', new.id::text);
    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_notify() is
    'Sends the id of a told event on matview_refresh_channel when the transaction commits.';

create trigger _900_notify
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.is_told)
    execute function tinydevcrm._matview_refresh_events_notify();

revoke execute on function tinydevcrm._matview_refresh_events_notify() from public;
