-- The notify rules. Rules that compare keep hashes of the rows of the refresh before. So nothing
-- that happens between two refreshes loses a change: a refresh by hand, a restart, a restored dump.

-- In buckets, so that one scan that adds up hashes finds the few buckets in which rows differ. Only
-- those are unpacked and written.
create table tinydevcrm.matview_baselines (
    matview_id   bigint not null,
    bucket       integer not null,
    hash_sum     numeric,
    hashes       bigint[] not null,
    other_hashes bigint[] not null,
    copies       bigint[],
    rows         text[],

    constraint matview_baselines_pkey primary key (matview_id, bucket),
    constraint matview_baselines_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade,
    constraint matview_baselines_bucket_range check (bucket between 0 and 1048575),
    constraint matview_baselines_hash_sum_range check (abs(hash_sum) < 1e40),
    constraint matview_baselines_same_length check (
        coalesce(array_length(hashes, 1), 0) <= 1000000
        and cardinality(other_hashes) = cardinality(hashes)
        and coalesce(cardinality(copies), cardinality(hashes)) = cardinality(hashes)
        and coalesce(cardinality(rows), cardinality(hashes)) = cardinality(hashes)
    ),
    constraint matview_baselines_copies_positive check (0 < all (copies)),
    constraint matview_baselines_rows_short check (
        octet_length(array_to_string(rows, '')) <= 268435456
    )
);

-- Hashes do not compress.
alter table tinydevcrm.matview_baselines alter column hashes set storage external;
alter table tinydevcrm.matview_baselines alter column other_hashes set storage external;

comment on table tinydevcrm.matview_baselines is
    'The baseline: hashes of the rows of materialized views with a rule that compares, as of the '
    'refresh with which the next one is compared. The rows are in buckets by their hash: a power '
    'of two, from 0 on, about 256 rows in each. Of each row it has two 64-bit hashes, so that two '
    'different rows are taken for one with a chance of 1 in 2^128; that a bucket whose rows differ '
    'has the same sum has a chance of 1 in 2^64.';
comment on column tinydevcrm.matview_baselines.matview_id is
    'The materialized view.';
comment on column tinydevcrm.matview_baselines.bucket is
    'The last bits of the hash.';
comment on column tinydevcrm.matview_baselines.hash_sum is
    'Sum of the hashes of its rows, each copy counted. A bucket with null is removed.';
comment on column tinydevcrm.matview_baselines.hashes is
    'A hash of each row without ignored columns, by the values as text: see '
    'tinydevcrm._build_hashed_rows(). Copies of a row are one entry.';
comment on column tinydevcrm.matview_baselines.other_hashes is
    'A second hash of the same rows.';
comment on column tinydevcrm.matview_baselines.copies is
    'Numbers of copies of the same rows; null when there is one of each.';
comment on column tinydevcrm.matview_baselines.rows is
    'The same rows as JSON, so that an event can carry them once they are gone. An element is null '
    'for a row of over 131072 bytes. Null when the materialized view has more rows than '
    'tinydevcrm.settings.compare_row_limit.';

alter table tinydevcrm.matview_baselines enable row level security;

-- The policy of the registry decides which views are the caller's. The subquery runs once, not for
-- each row.
create policy matview_baselines_owner on tinydevcrm.matview_baselines
    to tinydevcrm_user
    -- An administrator sees the registrations of other owners too.
    using (
        matview_id in (
            select matviews.id
              from tinydevcrm.matviews
             where pg_has_role(matviews.owner, 'usage')
        )
    );

grant select,
      insert (matview_id, bucket, hash_sum, hashes, other_hashes, copies, rows),
      update (hash_sum, hashes, other_hashes, copies, rows)
   on tinydevcrm.matview_baselines to tinydevcrm_user;

create function tinydevcrm._matview_baselines_remove_gone()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from changed where hash_sum is null) then
        delete
          from tinydevcrm.matview_baselines
         using changed
         where changed.hash_sum is null
           and matview_baselines.matview_id = changed.matview_id
           and matview_baselines.bucket = changed.bucket;
    end if;

    return null;
end
$$;

comment on function tinydevcrm._matview_baselines_remove_gone() is
    'Removes buckets whose sum has become null. Security definer: users delete nothing of ours. As '
    'a trigger it runs only for rows whose update row-level security has let through.';

create trigger _500_remove_gone
    after update on tinydevcrm.matview_baselines
    referencing new table as changed
    for each statement
    execute function tinydevcrm._matview_baselines_remove_gone();

alter table tinydevcrm.matviews
    add column asked_rules text[] not null default '{}',
    add column carries_all boolean not null default false;

comment on column tinydevcrm.matviews.asked_rules is
    'The rules about rows that subscriptions to it have of their own. Each refresh judges them too, '
    'and compares rows when one of them does. A trigger writes it.';
comment on column tinydevcrm.matviews.carries_all is
    'Whether its events carry up to 1,000 rows and 1 MB, whatever tinydevcrm.settings says, because '
    'a subscription to it gets each row alone, or the rows of each recipient. A trigger writes it.';

create function tinydevcrm._compares(rules text[])
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return _compares.rules <> '{}'
        and exists (
            select
              from tinydevcrm.notify_rules
             where notify_rules.compares
               and notify_rules.name = any (_compares.rules)
        );
end
$$;

comment on function tinydevcrm._compares(text[]) is
    'Whether one of these rules compares rows.';

create function tinydevcrm._matviews_forget_baseline()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.rule_count := 0;
    -- Rules of subscriptions, which compare too, go on as they were.
    if old.relation = new.relation
       and old.ignored_columns = new.ignored_columns
       and tinydevcrm._compares(new.asked_rules)
    then
        return new;
    end if;

    delete
      from tinydevcrm.matview_baselines
     where matview_baselines.matview_id = new.id;

    new.has_baseline := false;
    return new;
end
$$;

comment on function tinydevcrm._matviews_forget_baseline() is
    'Removes the baseline of a materialized view whose rule or ignored columns change, and counts '
    'anew for notify_after. It stays when only the rule changes, and another of asked_rules compares. '
    'The next refresh writes a new one. Security definer: users delete '
    'nothing of ours. As a trigger it runs only for a registration whose update row-level security '
    'has let through.';

create trigger _500_forget_baseline
    before update of notify_when, ignored_columns on tinydevcrm.matviews
    for each row
    when (
        old.notify_when <> new.notify_when
        or old.ignored_columns <> new.ignored_columns
    )
    execute function tinydevcrm._matviews_forget_baseline();

create type tinydevcrm._refresh as (
    method          text,
    plain_reason    text,
    notify_when     text,
    ignored_columns text[],
    quiet_by        text,
    is_early        boolean,
    rule_compares   boolean,
    compares        boolean,
    has_baseline    boolean,
    columns         text,
    column_names    text[],
    row_limit       integer,
    byte_limit      integer,
    compare_limit   integer,
    lock_timeout    interval,
    row_count       bigint,
    added_count     bigint,
    removed_count   bigint,
    updated_count   bigint,
    added_rows      text,
    removed_rows    text,
    updated_rows    text,
    is_cut          boolean,
    is_read         boolean,
    is_changed      boolean,
    content_hash    text,
    snapshot        text,
    rows            jsonb,
    error_code      text,
    error_message   text
);

comment on type tinydevcrm._refresh is
    'A running refresh. How it is done: method, plain_reason. How the rule judges it: notify_when, '
    'ignored_columns, quiet_by (mute: it is muted; interval: the notify_interval since the last '
    'notification is not over; else null), is_early (a rule that holds has not held for '
    'notify_after refreshes in a row yet), rule_compares, '
    'compares (its rows with the baseline, for the rule or for asked_rules), has_baseline. What its event may carry: columns (as '
    'they are read), column_names, row_limit, byte_limit; compare_limit: up to how many rows of '
    'the view its baseline keeps them. Whether other views read it: is_read, and '
    'which transactions it sees for certain: snapshot. How long it waits for a lock: '
    'lock_timeout. The rest is what it has found so far.';

create function tinydevcrm._rule_holds(
    rule           text,
    last_row_count bigint,
    refresh        tinydevcrm._refresh
)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case _rule_holds.rule
        when 'not_empty' then (refresh).row_count > 0
        when 'empty' then (refresh).row_count = 0
        when 'became_not_empty' then
            (refresh).row_count > 0 and _rule_holds.last_row_count = 0
        when 'became_empty' then
            (refresh).row_count = 0 and _rule_holds.last_row_count > 0
        when 'changed' then (refresh).added_count + (refresh).removed_count > 0
        when 'rows_added' then (refresh).added_count > 0
        when 'rows_removed' then (refresh).removed_count > 0
        when 'always' then true
        when 'never' then false
    end;
end
$$;

comment on function tinydevcrm._rule_holds(text, bigint, tinydevcrm._refresh) is
    'Whether a notify rule holds for a refresh that succeeded, of a materialized view that had '
    'last_row_count rows; null when there is nothing to compare with, or nothing was compared.';

create function tinydevcrm._find_held_rules(
    matview       tinydevcrm.matviews,
    refresh       tinydevcrm._refresh,
    suppressed_by text
)
    returns text[]
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- What may not notify yet is found again by a later refresh.
    if (refresh).quiet_by is not null or coalesce(_find_held_rules.suppressed_by, 'rule') <> 'rule'
    then
        return null;
    end if;

    return (
        select array_agg(asked.rule)
          from unnest((matview).asked_rules) as asked (rule)
         where tinydevcrm._rule_holds(asked.rule, (matview).last_row_count, refresh)
    );
end
$$;

comment on function tinydevcrm._find_held_rules(
    tinydevcrm.matviews, tinydevcrm._refresh, text
) is
    'Those of tinydevcrm.matviews.asked_rules that hold for a refresh that succeeded; null when '
    'none does, or when the mute, notify_interval or notify_after of the view keep it quiet.';

create function tinydevcrm._find_suppression(
    matview tinydevcrm.matviews,
    refresh tinydevcrm._refresh,
    outcome text
)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_holds boolean;
begin
    if _find_suppression.outcome = 'failed' then
        return case
            when (matview).is_failure_notified then 'repeat'
            when (matview).muted_until > clock_timestamp() then 'mute'
            when (matview).failure_count + 1 < (matview).notify_after then 'streak'
        end;
    end if;

    if _find_suppression.outcome = 'recovered' and (matview).is_failure_notified then
        return nullif((refresh).quiet_by, 'interval');
    end if;

    v_holds := tinydevcrm._rule_holds(
        (matview).notify_when, (matview).last_row_count, refresh);
    return case
        when _find_suppression.outcome = 'skipped' or not v_holds then 'rule'
        when (refresh).quiet_by is not null then (refresh).quiet_by
        when v_holds is null then 'rule'
        when (refresh).is_early then 'streak'
    end;
end
$$;

comment on function tinydevcrm._find_suppression(
    tinydevcrm.matviews, tinydevcrm._refresh, text
) is
    'Why a refresh of this outcome does not notify: a value of '
    'tinydevcrm.matview_refresh_events.suppressed_by; null when it notifies.';

revoke execute on function
    tinydevcrm._matview_baselines_remove_gone(),
    tinydevcrm._matviews_forget_baseline(),
    tinydevcrm._rule_holds(text, bigint, tinydevcrm._refresh),
    tinydevcrm._compares(text[]),
    tinydevcrm._find_held_rules(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text)
from public;

grant execute on function
    tinydevcrm._rule_holds(text, bigint, tinydevcrm._refresh),
    tinydevcrm._compares(text[]),
    tinydevcrm._find_held_rules(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text)
to tinydevcrm_user;
