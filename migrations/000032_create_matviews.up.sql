-- The registry of materialized views: each row is a watched materialized view.

create table tinydevcrm.notify_rules (
    name        text not null,
    rank        integer not null,
    label       text not null,
    description text not null,
    compares    boolean not null default false,
    row_kinds   text[] not null default '{}',

    constraint notify_rules_pkey primary key (name),
    constraint notify_rules_rank_unique unique (rank)
);

comment on table tinydevcrm.notify_rules is
    'The rules for when a refresh notifies: values of tinydevcrm.matviews.notify_when. Whatever the '
    'rule, a failure notifies once in a streak, and so do the first success after it and the events '
    'late, silent, resumed and dropped; the first refresh of all has none before it to compare with.';
comment on column tinydevcrm.notify_rules.name is
    'The rule.';
comment on column tinydevcrm.notify_rules.rank is
    'Its place in a list; that of rank 1 is the default.';
comment on column tinydevcrm.notify_rules.label is
    'When it notifies, in a few words that go on from "notify me".';
comment on column tinydevcrm.notify_rules.description is
    'When it notifies, in one sentence.';
comment on column tinydevcrm.notify_rules.compares is
    'Whether it compares rows with those of the refresh before: see tinydevcrm.matview_baselines.';
comment on column tinydevcrm.notify_rules.row_kinds is
    'Which rows of an event it is about: rows, added, removed, updated; empty when it is about none. '
    'Who is notified of each row alone is notified of these.';

insert into tinydevcrm.notify_rules (rank, name, label, description, compares, row_kinds)
values (1, 'not_empty', 'when it has rows',
        'Each refresh that finds rows, with the first of them.', false, '{rows}'),
       (2, 'empty', 'when it has no rows',
        'Each refresh that finds none.', false, '{}'),
       (3, 'became_not_empty', 'when it has rows again',
        'The refresh that finds rows where the one before found none.', false, '{rows}'),
       (4, 'became_empty', 'when it has no rows any more',
        'The refresh that finds no rows where the one before found some.', false, '{}'),
       (5, 'rows_added', 'of rows that are new',
        'A refresh that finds rows which were not there before; the event carries them.', true,
        '{added,updated}'),
       (6, 'rows_removed', 'of rows that are gone',
        'A refresh that misses rows which were there before; the event carries them.', true,
        '{removed,updated}'),
       (7, 'changed', 'when its rows change',
        'A refresh that finds other rows than the one before: more, fewer or different.', true,
        '{added,removed,updated}'),
       (8, 'always', 'at each refresh',
        'Every refresh, whatever it finds.', false, '{rows}'),
       (9, 'never', 'only of failures',
        'Failures, recoveries, late and silent views, and drops. Every other rule notifies of these too.',
        false, '{}');

alter table tinydevcrm.notify_rules enable row level security;

create policy notify_rules_read on tinydevcrm.notify_rules
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.notify_rules to tinydevcrm_user;

create table tinydevcrm.matviews (
    id                 bigint generated always as identity,
    owner              regrole not null,
    relation           regclass not null,
    notify_when        text not null default 'not_empty',
    ignored_columns    text[] not null default '{}',
    notify_interval    interval not null default interval '0',
    notify_after       integer not null default 1,
    rule_count         integer not null default 0,
    muted_for          interval not null default interval '0',
    muted_until        timestamptz,
    key                text[],
    last_outcome       text,
    last_row_count     bigint,
    has_baseline       boolean not null default false,
    plain_reason       text,
    failing_since      timestamptz,
    failure_count      integer not null default 0,
    is_failure_notified    boolean not null default false,
    last_refreshed_at  timestamptz,
    last_scheduled_at  timestamptz,
    last_notified_at       timestamptz,
    late_noted_at      timestamptz,
    is_managed         boolean not null default false,
    created_at         timestamptz not null default now(),

    constraint matviews_pkey primary key (id),
    constraint matviews_relation_unique unique (relation),
    constraint matviews_notify_when_fkey foreign key (notify_when)
        references tinydevcrm.notify_rules (name),
    constraint matviews_notify_interval_range check (
        notify_interval between interval '0' and interval '10 years'
    ),
    constraint matviews_notify_after_range check (notify_after between 1 and 1000),
    constraint matviews_rule_count_range check (rule_count between 0 and 999),
    constraint matviews_muted_for_range check (
        muted_for between interval '0' and interval '10 years'
    ),
    constraint matviews_failure_count_not_negative check (failure_count >= 0),
    constraint matviews_ignored_columns_short check (
        cardinality(ignored_columns) <= 1600
        and octet_length(array_to_string(ignored_columns, '', '')) <= 100800
    ),
    constraint matviews_key_short check (
        cardinality(key) <= 32
        and octet_length(array_to_string(key, '', '')) <= 2016
    ),
    constraint matviews_last_row_count_not_negative check (last_row_count >= 0),
    constraint matviews_plain_reason_short check (octet_length(plain_reason) <= 10000),
    constraint matviews_last_outcome_known check (
        last_outcome in ('refreshed', 'recovered', 'failed')
    )
)
-- Each refresh updates the row: this leaves room for the new version on the same page.
with (fillfactor = 50);

comment on table tinydevcrm.matviews is
    'The registry of watched materialized views: their refreshes are recorded as events, and '
    'notify by a rule.';
comment on column tinydevcrm.matviews.id is
    'Number of the registration.';
comment on column tinydevcrm.matviews.owner is
    'Role that owns the materialized view in Postgres. Its scheduled refreshes run as this role.';
comment on column tinydevcrm.matviews.relation is
    'The materialized view.';
comment on column tinydevcrm.matviews.notify_when is
    'Which refreshes notify: a rule of tinydevcrm.notify_rules. A rule compares with the refresh '
    'before, or with the last one that was not within notify_interval.';
comment on column tinydevcrm.matviews.ignored_columns is
    'Columns that the rules changed, rows_added and rows_removed leave out of the comparison.';
comment on column tinydevcrm.matviews.notify_interval is
    'Shortest time between two refreshes that notify by the rule, up to 10 years; 0 for none.';
comment on column tinydevcrm.matviews.notify_after is
    'In how many refreshes in a row the rule must hold before one notifies, 1 to 1000; likewise '
    'how many must fail in a row before a failure notifies.';
comment on column tinydevcrm.matviews.rule_count is
    'In how many refreshes in a row the rule has held, as far as it matters: at most notify_after '
    'less 1. Failed and skipped refreshes, and those that were not compared, leave it as it is.';
comment on column tinydevcrm.matviews.muted_for is
    'For how long from now on nothing notifies, up to 10 years; 0 to end the mute. Sets '
    'muted_until.';
comment on column tinydevcrm.matviews.muted_until is
    'Until when nothing notifies, failures included; null when it is not muted.';
comment on column tinydevcrm.matviews.key is
    'Columns that identify a row, as given to create_matview(). A unique index on them allows '
    'concurrent refreshes.';
comment on column tinydevcrm.matviews.last_outcome is
    'Outcome of the last refresh that was not skipped: refreshed, recovered or failed; null before '
    'the first.';
comment on column tinydevcrm.matviews.last_row_count is
    'Number of rows that the rules became_not_empty and became_empty compare with; null before the '
    'first refresh.';
comment on column tinydevcrm.matviews.has_baseline is
    'Whether tinydevcrm.matview_baselines holds hashes of its rows, for the rules changed, '
    'rows_added and rows_removed.';
comment on column tinydevcrm.matviews.plain_reason is
    'Why the last successful refresh was plain, so that readers had to wait; null when it was '
    'concurrent.';
comment on column tinydevcrm.matviews.failing_since is
    'When the first failed refresh since the last success began; null when the last refresh '
    'succeeded.';
comment on column tinydevcrm.matviews.failure_count is
    'How many refreshes in a row have failed.';
comment on column tinydevcrm.matviews.is_failure_notified is
    'Whether a failure has notified, and no recovery has since.';
comment on column tinydevcrm.matviews.last_refreshed_at is
    'When the last refresh that was not skipped began, whether it succeeded or not.';
comment on column tinydevcrm.matviews.last_scheduled_at is
    'When the last refresh by its schedule began, skipped ones included.';
comment on column tinydevcrm.matviews.last_notified_at is
    'When the last refresh that succeeded and notified began.';
comment on column tinydevcrm.matviews.late_noted_at is
    'When an event said that it is late; null once it has been refreshed, paused or scheduled '
    'anew.';
comment on column tinydevcrm.matviews.is_managed is
    'Whether files define it, so that an edit is undone when they are applied again.';
comment on column tinydevcrm.matviews.created_at is
    'When it was registered.';

create index matviews_owner_idx on tinydevcrm.matviews (owner);

create index matviews_notify_when_idx on tinydevcrm.matviews (notify_when);

alter table tinydevcrm.matviews enable row level security;

create policy matviews_owner on tinydevcrm.matviews
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

-- A trigger fills the owner in: see tinydevcrm._matviews_fill_in().
create policy matviews_owner_insert on tinydevcrm.matviews
    for insert
    to tinydevcrm_user
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

create policy matviews_owner_update on tinydevcrm.matviews
    for update
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

-- The role that refreshes writes what a refresh remembers, except outcomes and times: a trigger on
-- the event writes those.
grant select,
      insert (relation, notify_when, ignored_columns, notify_interval, notify_after),
      update (
          notify_when, ignored_columns, notify_interval, notify_after, rule_count, muted_for, key,
          last_row_count, has_baseline, plain_reason, is_managed)
   on tinydevcrm.matviews to tinydevcrm_user;

create function tinydevcrm._matviews_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    select pg_class.relowner
      into new.owner
      from pg_class
     where pg_class.oid = new.relation
       and pg_class.relkind = 'm';

    if tinydevcrm._is_group(new.owner) then
        raise exception using
            errcode = 'TD007',
            message = format(
                'materialized view %s belongs to the group %s', new.relation, new.owner),
            hint    = 'Give it to a role that can log in: alter materialized view … owner to ….';
    end if;

    return new;
end
$$;

comment on function tinydevcrm._matviews_fill_in() is
    'Sets the owner of a registration to the owner of the materialized view; null when it is none. '
    'Raises TD007 when that is one of our groups: see tinydevcrm._is_group().';

create trigger _100_fill_in
    before insert on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_fill_in();

create function tinydevcrm._set_muted_until()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.muted_until := case
        when new.muted_for > interval '0' then now() + new.muted_for
    end;
    return new;
end
$$;

comment on function tinydevcrm._set_muted_until() is
    'Sets until when a row is muted: a materialized view or a subscription.';

create trigger _100_mute
    before update of muted_for on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._set_muted_until();

create policy _locks_matview on tinydevcrm._locks
    to tinydevcrm_user
    using (
        what = 'matview'
        and exists (
            select
              from tinydevcrm.matviews
             where matviews.id = _locks.id
               and pg_has_role(matviews.owner, 'usage')
        )
    );

create function tinydevcrm._matviews_create_lock()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A view that takes the number of a dropped one has its lock already.
    insert into tinydevcrm._locks (what, id)
    values ('matview', new.id)
    on conflict on constraint _locks_pkey do nothing;

    return null;
end
$$;

comment on function tinydevcrm._matviews_create_lock() is
    'Creates the row of tinydevcrm._locks that keeps two refreshes of a materialized view from '
    'running at once. Security definer: users do not write those rows. As a trigger it runs only '
    'for a registration that row-level security has let through.';

create trigger _500_create_lock
    after insert on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_create_lock();

-- What a materialized view is made of. Postgres forgets it before a trigger sees the drop.
create table tinydevcrm.matview_definitions (
    matview_id  bigint not null,
    schema_name text not null,
    name        text not null,
    query       text not null,
    fingerprint text,
    is_accepted boolean not null default false,

    constraint matview_definitions_pkey primary key (matview_id),
    constraint matview_definitions_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade
);

comment on table tinydevcrm.matview_definitions is
    'The queries of the watched materialized views. Triggers write them.';
comment on column tinydevcrm.matview_definitions.matview_id is
    'The registration.';
comment on column tinydevcrm.matview_definitions.schema_name is
    'Schema of the view when the row was last written.';
comment on column tinydevcrm.matview_definitions.name is
    'Its name then.';
comment on column tinydevcrm.matview_definitions.fingerprint is
    'Hash of what its rows depend on, by which upkeep sees that something has changed; null where '
    'event triggers see it: see tinydevcrm._find_fingerprint().';
comment on column tinydevcrm.matview_definitions.query is
    'The query, as Postgres prints it, with qualified names. It follows when a table, view, '
    'schema, function or type that it names is renamed.';
comment on column tinydevcrm.matview_definitions.is_accepted is
    'Whether somebody has accepted the tables that it reads. Any update of this column does that: '
    'see tinydevcrm.accept_tables().';

create table tinydevcrm.matview_read_names (
    matview_id  bigint not null,
    relation    regclass not null,
    schema_name text not null,
    name        text not null,

    constraint matview_read_names_pkey primary key (matview_id, relation),
    constraint matview_read_names_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade
);

comment on table tinydevcrm.matview_read_names is
    'What the query of each watched materialized view reads, also through views, by the names that '
    'these relations had when the view was registered or its tables were accepted. A query goes on '
    'reading a relation that is renamed, even when another one gets its old name.';
comment on column tinydevcrm.matview_read_names.matview_id is
    'The registration.';
comment on column tinydevcrm.matview_read_names.relation is
    'A table or view that the query reads.';
comment on column tinydevcrm.matview_read_names.schema_name is
    'Its schema at that time.';
comment on column tinydevcrm.matview_read_names.name is
    'Its name at that time.';

alter table tinydevcrm.matview_definitions enable row level security;
alter table tinydevcrm.matview_read_names enable row level security;

-- The policy of the registry decides which views the caller sees.
create policy matview_definitions_read on tinydevcrm.matview_definitions
    for select
    to tinydevcrm_user
    using (exists (select from tinydevcrm.matviews where matviews.id = matview_id));

create policy matview_definitions_accept on tinydevcrm.matview_definitions
    for update
    to tinydevcrm_user
    using (
        exists (
            select
              from tinydevcrm.matviews
             where matviews.id = matview_id
               and pg_has_role(matviews.owner, 'usage')
        )
    );

create policy matview_read_names_read on tinydevcrm.matview_read_names
    for select
    to tinydevcrm_user
    using (exists (select from tinydevcrm.matviews where matviews.id = matview_id));

grant select, update (is_accepted) on tinydevcrm.matview_definitions to tinydevcrm_user;
grant select on tinydevcrm.matview_read_names to tinydevcrm_user;

create table tinydevcrm.dropped_matviews (
    id           bigint not null,
    owner        regrole not null,
    schema_name  text not null,
    name         text not null,
    query        text not null,
    registration jsonb not null,
    dropped_by   text,
    dropped_at   timestamptz not null default clock_timestamp(),

    constraint dropped_matviews_pkey primary key (id)
);

comment on table tinydevcrm.dropped_matviews is
    'Watched materialized views that were dropped, for tinydevcrm.restore_matview(). They stay for '
    'tinydevcrm.settings.drop_retention, and as long as there are subscriptions to them.';
comment on column tinydevcrm.dropped_matviews.id is
    'Number of the registration. A view of this owner and name that is watched again takes it, and '
    'its subscriptions with it.';
comment on column tinydevcrm.dropped_matviews.owner is
    'Owner of the materialized view.';
comment on column tinydevcrm.dropped_matviews.schema_name is
    'Its schema.';
comment on column tinydevcrm.dropped_matviews.name is
    'Its name.';
comment on column tinydevcrm.dropped_matviews.query is
    'Its query: see tinydevcrm.matview_definitions.';
comment on column tinydevcrm.dropped_matviews.registration is
    'The row of tinydevcrm.matviews at that time: notify rule, ignored columns, interval, key, '
    'schedule and the rest.';
comment on column tinydevcrm.dropped_matviews.dropped_by is
    'Role that the session which dropped it had logged in as; null when nobody saw that: where there '
    'are no event triggers, upkeep finds that the view is gone.';
comment on column tinydevcrm.dropped_matviews.dropped_at is
    'When it was dropped.';

create index dropped_matviews_owner_idx on tinydevcrm.dropped_matviews (owner, dropped_at);

alter table tinydevcrm.dropped_matviews enable row level security;

create policy dropped_matviews_owner on tinydevcrm.dropped_matviews
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

grant select on tinydevcrm.dropped_matviews to tinydevcrm_user;

revoke execute on function
    tinydevcrm._matviews_fill_in(),
    tinydevcrm._set_muted_until(),
    tinydevcrm._matviews_create_lock()
from public;
