-- The notify rules. Rules that compare keep hashes of the rows of the refresh before. So nothing
-- that happens between two refreshes loses a change: a refresh by hand, a restart, a restored dump.

create table tinydevcrm.matview_baselines (
    matview_id bigint not null,
    row_hash   bytea not null,
    row_count  bigint not null,

    constraint matview_baselines_pkey primary key (matview_id, row_hash),
    constraint matview_baselines_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade,
    constraint matview_baselines_row_hash_length check (octet_length(row_hash) = 32),
    constraint matview_baselines_row_count_not_negative check (row_count >= 0)
);

comment on table tinydevcrm.matview_baselines is
    'The baseline: hashes of the rows of materialized views with the rules changed and rows_added, '
    'as of the refresh with which the next one is compared.';
comment on column tinydevcrm.matview_baselines.matview_id is
    'The materialized view.';
comment on column tinydevcrm.matview_baselines.row_hash is
    'SHA-256 of the row as text, without ignored columns.';
comment on column tinydevcrm.matview_baselines.row_count is
    'Number of copies of the row. A row with the number 0 is removed.';

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
      insert (matview_id, row_hash, row_count),
      update (row_count)
   on tinydevcrm.matview_baselines to tinydevcrm_user;

create function tinydevcrm._matview_baselines_remove_gone()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from changed where row_count = 0) then
        delete
          from tinydevcrm.matview_baselines
         using changed
         where changed.row_count = 0
           and matview_baselines.matview_id = changed.matview_id
           and matview_baselines.row_hash = changed.row_hash;
    end if;

    return null;
end
$$;

comment on function tinydevcrm._matview_baselines_remove_gone() is
    'Removes rows whose count has become 0. Security definer: users delete nothing of ours. As a '
    'trigger it runs only for rows whose update row-level security has let through.';

create trigger _500_remove_gone
    after update on tinydevcrm.matview_baselines
    referencing new table as changed
    for each statement
    execute function tinydevcrm._matview_baselines_remove_gone();

create function tinydevcrm._matviews_forget_baseline()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.matview_baselines
     where matview_baselines.matview_id = new.id;

    new.has_baseline := false;
    new.rule_count := 0;
    return new;
end
$$;

comment on function tinydevcrm._matviews_forget_baseline() is
    'Removes the baseline of a materialized view whose rule or ignored columns change, and counts '
    'anew for notify_after. The next refresh writes a new one. Security definer: users delete '
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
    compares        boolean,
    has_baseline    boolean,
    columns         text,
    column_names    text[],
    row_limit       integer,
    byte_limit      integer,
    lock_timeout    interval,
    row_count       bigint,
    added_count     bigint,
    removed_count   bigint,
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
    'notify_after refreshes in a row yet), '
    'compares (its rows with the baseline), has_baseline. What its event may carry: columns (as '
    'they are read), column_names, row_limit, byte_limit. Whether other views read it: is_read, and '
    'which transactions it sees for certain: snapshot. How long it waits for a lock: '
    'lock_timeout. The rest is what it has found so far.';

create function tinydevcrm._rule_holds(
    matview tinydevcrm.matviews,
    refresh tinydevcrm._refresh
)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case (matview).notify_when
        when 'not_empty' then (refresh).row_count > 0
        when 'empty' then (refresh).row_count = 0
        when 'became_not_empty' then (refresh).row_count > 0 and (matview).last_row_count = 0
        when 'changed' then (refresh).added_count + (refresh).removed_count > 0
        when 'rows_added' then (refresh).added_count > 0
        when 'always' then true
        when 'never' then false
    end;
end
$$;

comment on function tinydevcrm._rule_holds(tinydevcrm.matviews, tinydevcrm._refresh) is
    'Whether the notify rule holds for a refresh that succeeded; null when there is nothing to '
    'compare with, or nothing was compared.';

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

    v_holds := tinydevcrm._rule_holds(matview, refresh);
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

-- Rows are compared as text, because every type has a text. These settings make the text of a value
-- the same each time.
create function tinydevcrm._compare_rows(matview tinydevcrm.matviews, refresh tinydevcrm._refresh)
    returns tinydevcrm._refresh
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set extra_float_digits = 1
    set bytea_output = 'hex'
    set lc_monetary = 'C'
as $$
declare
    v_hash     text := tinydevcrm._build_row_hash((matview).relation, (refresh).ignored_columns);
    v_refresh  tinydevcrm._refresh := refresh;
    v_hashes   bytea[];
    v_surplus  bigint[];
begin
    perform tinydevcrm._check_session_of((matview).relation);

    execute format(
        'with present as (
            select %1$s as row_hash,
                   count(*) as row_count
              from %2$s
             group by 1
        ),
        differences as materialized (
            select row_hash,
                   present.row_count,
                   coalesce(present.row_count, 0) - coalesce(remembered.row_count, 0) as surplus
              from present
              full join (
                select matview_baselines.row_hash,
                       matview_baselines.row_count
                  from tinydevcrm.matview_baselines
                 where matview_baselines.matview_id = $1
              ) as remembered
             using (row_hash)
             where present.row_count is distinct from remembered.row_count
        ),
        kept as (
            insert into tinydevcrm.matview_baselines (matview_id, row_hash, row_count)
            select $1,
                   row_hash,
                   coalesce(row_count, 0)
              from differences
             where not $3
                or $4 and not exists (select from differences where surplus > 0)
            on conflict on constraint matview_baselines_pkey do update
               set row_count = excluded.row_count
        ),
        carried as (
            select row_hash,
                   surplus
              from differences
             where surplus > 0
             limit $2
        )
        select (select coalesce(sum(surplus), 0) from differences where surplus > 0),
               (select coalesce(-sum(surplus), 0) from differences where surplus < 0),
               (select array_agg(row_hash) from carried),
               (select array_agg(surplus) from carried)',
        v_hash, (matview).relation)
       into v_refresh.added_count, v_refresh.removed_count, v_hashes, v_surplus
      using (matview).id,
            v_refresh.row_limit,
            -- What may not notify yet stays a difference.
            v_refresh.is_early and v_refresh.has_baseline,
            v_refresh.notify_when = 'rows_added';

    -- The first refresh has nothing to compare with.
    if not v_refresh.has_baseline then
        v_refresh.added_count := null;
        v_refresh.removed_count := null;
    elsif v_refresh.notify_when = 'rows_added' and v_hashes is not null then
        v_refresh.rows := tinydevcrm._read_added_rows(
            (matview).relation, v_refresh, v_hash, v_hashes, v_surplus);
    end if;

    return v_refresh;
end
$$;

comment on function tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh) is
    'Compares the rows of a materialized view, copies counted, with its baseline. Adds the '
    'differences to the refresh and updates the baseline, unless these may not '
    'notify yet. Without a baseline it finds no differences. Raises 42501 when the session has not '
    'logged in as the owner.';

-- As _compare_rows(): the text of a value is the same each time.
create function tinydevcrm._detect_change(matview tinydevcrm.matviews, refresh tinydevcrm._refresh)
    returns tinydevcrm._refresh
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set datestyle = 'ISO, YMD'
    set intervalstyle = 'postgres'
    set extra_float_digits = 1
    set bytea_output = 'hex'
    set lc_monetary = 'C'
as $$
declare
    v_refresh tinydevcrm._refresh := refresh;
begin
    if v_refresh.compares and v_refresh.has_baseline and v_refresh.ignored_columns = '{}' then
        v_refresh.is_changed := v_refresh.added_count + v_refresh.removed_count > 0;
    end if;

    if v_refresh.is_read then
        perform tinydevcrm._check_session_of((matview).relation);
        execute format(
            'select concat_ws('' '', count(*), sum(hashtextextended(printed, 0)),
                              sum(hashtextextended(printed, 1)))
               from (select row(%s)::text collate "C" as printed from %s offset 0) as rows',
            tinydevcrm._list_columns((matview).relation), (matview).relation)
           into v_refresh.content_hash;
        -- Reads the registry again, now that the view is locked. The baseline may be older than the
        -- last refresh.
        v_refresh.is_changed := (
            select v_refresh.content_hash <> registered.content_hash
              from tinydevcrm.matviews as registered
             where registered.id = (matview).id
               and v_refresh.snapshot is not null
               and not tinydevcrm._is_analysis_requested(registered.id)
        );
    end if;

    return v_refresh;
end
$$;

comment on function tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh) is
    'Finds whether the rows of a materialized view differ from those of its last refresh: by a hash '
    'of all rows in any order when other views read it, else by the comparison with the baseline '
    '(two sums of 64-bit hashes: a chance of 1 in 2^128). Raises 42501 when the session has not '
    'logged in as the owner.';

create function tinydevcrm._list_columns(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(quote_ident(attname), ', ' order by attnum)
      from pg_attribute
     where attrelid = _list_columns.relation
       and attnum > 0
       and not attisdropped
$$;

comment on function tinydevcrm._list_columns(regclass) is
    'The columns of a relation, quoted, in their order.';

create function tinydevcrm._build_row_hash(relation regclass, ignored_columns text[])
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               'sha256(convert_to(row(%s)::text, getdatabaseencoding()))',
               string_agg(quote_ident(attname), ', ' order by attnum))
      from pg_attribute
     where attrelid = _build_row_hash.relation
       and attnum > 0
       and not attisdropped
       and attname <> all (_build_row_hash.ignored_columns)
$$;

comment on function tinydevcrm._build_row_hash(regclass, text[]) is
    'The expression for matview_baselines.row_hash of a row.';

create function tinydevcrm._read_added_rows(
    relation regclass,
    refresh  tinydevcrm._refresh,
    row_hash text,
    hashes   bytea[],
    surplus  bigint[]
)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_chance constant text := md5(random()::text);
    v_rows   jsonb;
begin
    -- Random names, so that no column of the view has the same name.
    execute format(
        'select jsonb_agg(to_jsonb(carried.*))
           from (
             select %1$s
               from (
                 select (hashed.%4$I).*,
                        row_number() over (partition by %5$I) as %6$I,
                        %5$I
                   from (
                     select %4$I,
                            %2$s as %5$I
                       from %3$s as %4$I
                   ) as hashed
                  where %5$I = any ($1)
               ) as numbered
               join unnest($1, $2) as added (%5$I, %7$I)
              using (%5$I)
              where %6$I <= %7$I
              limit $3
           ) as carried',
        (refresh).columns,
        _read_added_rows.row_hash,
        _read_added_rows.relation,
        v_chance || 'row',
        v_chance || 'hash',
        v_chance || 'copy',
        v_chance || 'surplus')
       into v_rows
      using _read_added_rows.hashes, _read_added_rows.surplus, (refresh).row_limit;

    return tinydevcrm._cut_rows(v_rows, (refresh).byte_limit);
exception
    when program_limit_exceeded or untranslatable_character or invalid_text_representation then
        return null;
end
$$;

comment on function tinydevcrm._read_added_rows(
    regclass, tinydevcrm._refresh, text, bytea[], bigint[]
) is
    'The rows of these hashes, as many copies of each as were added, as an array of objects within '
    'the limits. Null when one of them cannot be jsonb.';

create function tinydevcrm._cut_rows(rows jsonb, byte_limit integer)
    returns jsonb
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if octet_length(_cut_rows.rows::text) <= _cut_rows.byte_limit then
        return _cut_rows.rows;
    end if;

    return (
        select jsonb_agg(sized.value order by sized.number)
          from (
            select value,
                   number,
                   sum(octet_length(value::text)) over (order by number) as byte_count
              from jsonb_array_elements(_cut_rows.rows) with ordinality as rows (value, number)
          ) as sized
         where sized.byte_count <= _cut_rows.byte_limit
    );
end
$$;

comment on function tinydevcrm._cut_rows(jsonb, integer) is
    'The first elements of an array, as many as together stay within a number of bytes of JSON.';

revoke execute on function
    tinydevcrm._matview_baselines_remove_gone(),
    tinydevcrm._matviews_forget_baseline(),
    tinydevcrm._rule_holds(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._list_columns(regclass),
    tinydevcrm._build_row_hash(regclass, text[]),
    tinydevcrm._read_added_rows(regclass, tinydevcrm._refresh, text, bytea[], bigint[]),
    tinydevcrm._cut_rows(jsonb, integer)
from public;

grant execute on function
    tinydevcrm._rule_holds(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._list_columns(regclass),
    tinydevcrm._build_row_hash(regclass, text[]),
    tinydevcrm._read_added_rows(regclass, tinydevcrm._refresh, text, bytea[], bigint[]),
    tinydevcrm._cut_rows(jsonb, integer)
to tinydevcrm_user;
