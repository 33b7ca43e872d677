-- Each refresh writes one row, the record of what happened. The notification is only a wake-up.

create table tinydevcrm.matview_refresh_events (
    id            bigint generated always as identity,
    owner         regrole not null,
    matview_id    bigint,
    source_id     bigint,
    matview       text not null,
    schedule_id   bigint,
    outcome       text not null,
    is_notified   boolean not null,
    suppressed_by text,
    held_rules    text[],
    method        text,
    plain_reason  text,
    row_count     bigint,
    added_count   bigint,
    removed_count bigint,
    updated_count bigint,
    is_changed    boolean,
    columns       text[],
    rows          jsonb,
    added_rows    text,
    removed_rows  text,
    updated_rows  text,
    is_cut        boolean not null default false,
    error_code    text,
    error_message text,
    reason        text,
    started_at    timestamptz not null,
    duration      interval not null,

    constraint matview_refresh_events_pkey primary key (id),
    constraint matview_refresh_events_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete set null,
    constraint matview_refresh_events_outcome_known check (
        outcome in (
            'refreshed', 'recovered', 'failed', 'skipped', 'late', 'silent', 'resumed', 'dropped')
    ),
    constraint matview_refresh_events_suppressed_by_known check (
        suppressed_by in ('rule', 'interval', 'mute', 'repeat', 'streak')
    ),
    constraint matview_refresh_events_suppressed_or_notified check (
        (suppressed_by is null) = is_notified
    ),
    constraint matview_refresh_events_held_rules_short check (
        cardinality(held_rules) between 1 and 100 and octet_length(held_rules::text) <= 1000
    ),
    constraint matview_refresh_events_method_known check (method in ('plain', 'concurrently')),
    constraint matview_refresh_events_error_of_failure check (
        (outcome = 'failed') = (error_code is not null)
    ),
    constraint matview_refresh_events_rows_are_array check (jsonb_typeof(rows) = 'array'),
    constraint matview_refresh_events_rows_short check (
        octet_length(rows::text) <= 2097152 and jsonb_array_length(rows) <= 1000
    ),
    -- On one line, as programs get events.
    constraint matview_refresh_events_changes_are_arrays check (
        json_typeof(added_rows::json) = 'array' and added_rows !~ '[\n\r]'
        and json_typeof(removed_rows::json) = 'array' and removed_rows !~ '[\n\r]'
        and json_typeof(updated_rows::json) = 'array' and updated_rows !~ '[\n\r]'
    ),
    constraint matview_refresh_events_changes_short check (
        octet_length(concat(added_rows, removed_rows, updated_rows)) <= 1048576
    ),
    constraint matview_refresh_events_columns_short check (
        octet_length(columns::text) <= 1000000 and cardinality(columns) <= 1600
    ),
    constraint matview_refresh_events_texts_short check (
        octet_length(plain_reason) <= 10000
        and octet_length(error_code) <= 5
        and octet_length(error_message) <= 10000
        and octet_length(reason) <= 10000
    ),
    constraint matview_refresh_events_counts_not_negative check (
        row_count >= 0 and added_count >= 0 and removed_count >= 0 and updated_count >= 0
    ),
    constraint matview_refresh_events_duration_range check (
        duration between interval '0' and interval '7 days'
    ),
    constraint matview_refresh_events_row_count_of_success check (
        (outcome in ('refreshed', 'recovered')) = (row_count is not null)
    )
);

comment on table tinydevcrm.matview_refresh_events is
    'What happened to the watched materialized views: each refresh, one that has not happened in '
    'time, tables that do not change, and a drop. Sources of files write events too: failed, '
    'recovered, silent, resumed. The transaction of the refresh or of the drop '
    'writes its row.';
comment on column tinydevcrm.matview_refresh_events.id is
    'Number of the event. It is assigned before the commit, so do not read events with "id > last '
    'seen", which misses those that commit late. Use a subscription.';
comment on column tinydevcrm.matview_refresh_events.owner is
    'Owner of the materialized view.';
comment on column tinydevcrm.matview_refresh_events.matview_id is
    'The registration; null when it has been removed.';
comment on column tinydevcrm.matview_refresh_events.source_id is
    'Number of the source of files that the event is about; null when it is about a view.';
comment on column tinydevcrm.matview_refresh_events.matview is
    'Name of the materialized view at that time, with its schema, quoted if needed; or "source" and '
    'the name of a source.';
comment on column tinydevcrm.matview_refresh_events.schedule_id is
    'The schedule that refreshed it; null for a refresh on request.';
comment on column tinydevcrm.matview_refresh_events.outcome is
    'refreshed: it succeeded; recovered: it succeeded after a failure; failed: it failed and the '
    'old rows stay; skipped: another refresh of the view was running; late: its schedule was due '
    'and it was not refreshed; silent: its tables have not changed within notify_deadline; resumed: '
    'they have changed again; dropped: the view is gone.';
comment on column tinydevcrm.matview_refresh_events.is_notified is
    'Whether the event notifies, which means that it goes to the subscriptions. The rule in '
    'tinydevcrm.matviews.notify_when decides that for refreshes. late, silent, resumed and dropped '
    'notify. While the view is muted, only dropped does.';
comment on column tinydevcrm.matview_refresh_events.suppressed_by is
    'Why it does not notify; null when it does. rule: the notify rule does not hold, as for a '
    'skipped refresh; interval: it came within tinydevcrm.matviews.notify_interval; mute: the view '
    'was muted; repeat: a failure of this streak has notified; streak: the rule, or the failure, '
    'has not lasted for notify_after refreshes in a row.';
comment on column tinydevcrm.matview_refresh_events.held_rules is
    'The rules that hold for it, of those that subscriptions with a rule of their own have. It goes '
    'to these subscriptions, whether it notifies or not. Null when none holds.';
comment on column tinydevcrm.matview_refresh_events.method is
    'How it was refreshed: plain or concurrently; null when it was not refreshed.';
comment on column tinydevcrm.matview_refresh_events.plain_reason is
    'Why refreshes of a view with a key are plain from now on. Only the event of the first such '
    'refresh has it, and that event notifies.';
comment on column tinydevcrm.matview_refresh_events.row_count is
    'Rows in the materialized view after the refresh; null unless it succeeded.';
comment on column tinydevcrm.matview_refresh_events.added_count is
    'Number of rows that were not there before, with copies, by the rules changed, rows_added and '
    'rows_removed: see tinydevcrm.matviews.notify_when. Null when nothing was compared.';
comment on column tinydevcrm.matview_refresh_events.removed_count is
    'Number of rows that were there before and are gone. Null when nothing was compared.';
comment on column tinydevcrm.matview_refresh_events.updated_count is
    'How many of the removed and of the added rows have the same key: each is one row that was '
    'updated. Null without a key, and when the rows themselves were not kept: see '
    'tinydevcrm.settings.compare_row_limit.';
comment on column tinydevcrm.matview_refresh_events.is_changed is
    'Whether the refresh found other rows than the view had before. Null when nothing compared '
    'them.';
comment on column tinydevcrm.matview_refresh_events.columns is
    'The columns of the rows that it carries, in the order of the materialized view, because jsonb '
    'does not keep that order. Null when it carries none.';
comment on column tinydevcrm.matview_refresh_events.rows is
    'Rows as an array of objects, in no order; by the rule rows_added only those that were not '
    'there before, by rows_removed none. At most tinydevcrm.settings.event_row_limit rows and '
    'event_byte_limit bytes. Null when the event goes to no subscription or has no rows.';
comment on column tinydevcrm.matview_refresh_events.added_rows is
    'The rows that a rule that compares has found added, except updated ones: an array of JSON '
    'objects, in no order. The limits of rows, and 524288 bytes, hold for added_rows, removed_rows '
    'and updated_rows together. Null when the event goes to no subscription or nothing was found. A text, because jsonb '
    'does not keep the order of the columns, nor can it hold every JSON.';
comment on column tinydevcrm.matview_refresh_events.removed_rows is
    'The rows that were there before and are gone, except updated ones, likewise; as they were in '
    'the last refresh in which a column that is not ignored changed. Null also when the rows were '
    'not kept: see tinydevcrm.settings.compare_row_limit.';
comment on column tinydevcrm.matview_refresh_events.updated_rows is
    'The rows whose key was there before with other values, likewise, each as {"key": {…}, '
    '"old": row, "new": row}. Null also without a key.';
comment on column tinydevcrm.matview_refresh_events.is_cut is
    'Whether there are more rows, or more added, removed or updated ones, than the event carries.';
comment on column tinydevcrm.matview_refresh_events.error_code is
    'SQLSTATE of the failure.';
comment on column tinydevcrm.matview_refresh_events.error_message is
    'Message of the failure. Of one over 10,000 bytes, the first 2,500 characters.';
comment on column tinydevcrm.matview_refresh_events.reason is
    'Of the outcome late: since when and why it is late; of silent and resumed: when which tables '
    'changed; of dropped: who dropped it. Null for others.';
comment on column tinydevcrm.matview_refresh_events.started_at is
    'When the refresh began, or the event happened.';
comment on column tinydevcrm.matview_refresh_events.duration is
    'How long it took, including the time to count the rows; at most 7 days.';

create index matview_refresh_events_matview_idx
    on tinydevcrm.matview_refresh_events (matview_id, id);

-- For the latest events of a user that notify, however many others there are.
create index matview_refresh_events_notified_idx
    on tinydevcrm.matview_refresh_events (owner, id)
 where is_notified;

-- For those of one materialized view, and for those with an outcome other than refreshed.
create index matview_refresh_events_notified_matview_idx
    on tinydevcrm.matview_refresh_events (owner, matview, id)
 where is_notified;

create index matview_refresh_events_notified_outcome_idx
    on tinydevcrm.matview_refresh_events (owner, id)
 where is_notified and outcome <> 'refreshed';

create index matview_refresh_events_started_at_idx
    on tinydevcrm.matview_refresh_events using brin (started_at);

alter table tinydevcrm.matview_refresh_events enable row level security;

create policy matview_refresh_events_owner on tinydevcrm.matview_refresh_events
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

-- A trigger fills the owner in from the registration: see
-- tinydevcrm._matview_refresh_events_fill_in().
create policy matview_refresh_events_owner_insert on tinydevcrm.matview_refresh_events
    for insert
    to tinydevcrm_user
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

grant select,
      insert (
          matview_id, schedule_id, outcome, is_notified, suppressed_by, held_rules, method,
          plain_reason, row_count, added_count, removed_count, updated_count, is_changed, columns, rows,
          added_rows, removed_rows, updated_rows, is_cut, error_code, error_message, duration)
   on tinydevcrm.matview_refresh_events to tinydevcrm_user;

create function tinydevcrm._matview_refresh_events_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews;
begin
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.id = new.matview_id;

    -- Only the owner of these tables can have set the values.
    new.owner := coalesce(new.owner, v_matview.owner);
    new.matview := coalesce(new.matview, v_matview.relation::text);
    new.started_at := coalesce(new.started_at, clock_timestamp() - new.duration);

    -- Only its drop notifies while a view is muted: no later event could say the same.
    if v_matview.muted_until > clock_timestamp() and new.outcome <> 'dropped' then
        new.suppressed_by := case when new.is_notified then 'mute' else new.suppressed_by end;
        new.is_notified := false;
        new.held_rules := null;
    end if;

    if not new.is_notified then
        new.suppressed_by := coalesce(new.suppressed_by, 'rule');
    end if;

    return new;
end
$$;

comment on function tinydevcrm._matview_refresh_events_fill_in() is
    'Sets what users do not write of an event: owner and name, from the registration, and the '
    'start, from the duration. An event of a muted view does not notify, except its drop. One that '
    'does not notify and gives no reason is suppressed by the rule.';

create trigger _100_fill_in
    before insert on tinydevcrm.matview_refresh_events
    for each row
    execute function tinydevcrm._matview_refresh_events_fill_in();

create function tinydevcrm._notify(event_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A session that listens in an open transaction can fill the queue, and each transaction that
    -- notifies would then fail at its commit.
    if pg_notification_queue_usage() < 0.5 then
        perform pg_notify('matview_refresh_channel', _notify.event_id::text);
    end if;
end
$$;

comment on function tinydevcrm._notify(bigint) is
    'Sends the id of an event, or 0 when there may be several, on matview_refresh_channel when the '
    'transaction commits, unless Postgres'' queue of notifications is half full. The notification '
    'is only a wake-up: the event is not lost without it.';

create function tinydevcrm._matview_refresh_events_notify()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._notify(new.id);
    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_notify() is
    'Sends the id of an event that goes to subscriptions: see tinydevcrm._notify().';

create trigger _900_notify
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.is_notified or new.held_rules is not null)
    execute function tinydevcrm._matview_refresh_events_notify();

revoke execute on function
    tinydevcrm._matview_refresh_events_fill_in(),
    tinydevcrm._matview_refresh_events_notify(),
    tinydevcrm._notify(bigint)
from public;

grant execute on function tinydevcrm._notify(bigint) to tinydevcrm_user;
