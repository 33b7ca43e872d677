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
    'notify_after refreshes in a row yet), '
    'compares (its rows with the baseline), has_baseline. What its event may carry: columns (as '
    'they are read), column_names, row_limit, byte_limit; compare_limit: up to how many rows of '
    'the view its baseline keeps them. Whether other views read it: is_read, and '
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
        when 'became_empty' then (refresh).row_count = 0 and (matview).last_row_count > 0
        when 'changed' then (refresh).added_count + (refresh).removed_count > 0
        when 'rows_added' then (refresh).added_count > 0
        when 'rows_removed' then (refresh).removed_count > 0
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

create function tinydevcrm._build_row_hash(relation regclass, ignored_columns text[], sign integer)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- Values are taken as text, because every type has a text, or in a form that is faster and
    -- differs when the text does. The hash functions of types of 64 bits mix only 32, so their
    -- binary form is hashed. A cast to text may be a function of the owner of a type that is
    -- not built in; format() takes the type's output function. A sum of hashes shows that two rows have swapped a value only when
    -- the hash of a row is no combination of those of its values: hence the hash around it all.
    select format(
               'hashtextextended('''', %s)',
               concat_ws(
                   ' # ',
                   string_agg(
                       format(
                           'coalesce(' || case
                               when atttypid in ('int2'::regtype, 'int4'::regtype) then
                                   'hashint4extended(%1$I, %2$s)'
                               when atttypid = 'bool'::regtype then
                                   'hashint4extended(%1$I::integer, %2$s)'
                               when atttypid = 'date'::regtype then
                                   'hash_array_extended(array[%1$I], %2$s)'
                               when atttypid in ('text'::regtype, 'varchar'::regtype) then
                                   'hashtextextended(%1$I collate "C", %2$s)'
                               when atttypid < 16384 then
                                   'hashtextextended(%1$I::text collate "C", %2$s)'
                               else
                                   'hashtextextended(case num_nulls(%1$I) when 0 then format(%3$L, '
                                   '%1$I) end collate "C", %2$s)'
                           end || ', %2$s)',
                           attname,
                           attnum * _build_row_hash.sign,
                           '%s'),
                       ' # ' order by attnum) filter (where send is null),
                   format(
                       'hash_array_extended(array[%s]::bytea[], %s)',
                       string_agg(
                           format('%s(%I)', send, attname), ', ' order by attnum)
                           filter (where send is not null),
                       _build_row_hash.sign)))
      from (
        select attname,
               attnum,
               atttypid,
               case
                   when atttypid in (
                       'int8'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype,
                       'numeric'::regtype, 'uuid'::regtype)
                   then typsend
               end as send
          from pg_attribute
          join pg_type
            on pg_type.oid = atttypid
         where attrelid = _build_row_hash.relation
           and attnum > 0
           and not attisdropped
           and attname <> all (_build_row_hash.ignored_columns)
      ) as columns
$$;

comment on function tinydevcrm._build_row_hash(regclass, text[], integer) is
    'The expression for a 64-bit hash of a row without ignored columns. The sign, 1 or -1, chooses '
    'one of two that have nothing to do with each other.';

create function tinydevcrm._build_hashed_rows(relation regclass, refresh tinydevcrm._refresh)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               'select ctid,
                       %1$s as hash,
                       %2$s as other_hash,
                       translate((select to_json(carried.*)::text from (select %3$s) as carried),
                                 %4$L, ''  '') as printed
                  from %5$s',
               tinydevcrm._build_row_hash(
                   _build_hashed_rows.relation, (_build_hashed_rows.refresh).ignored_columns, 1),
               tinydevcrm._build_row_hash(
                   _build_hashed_rows.relation, (_build_hashed_rows.refresh).ignored_columns, -1),
               (_build_hashed_rows.refresh).columns,
               e'\n\r',
               _build_hashed_rows.relation)
$$;

comment on function tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh) is
    'The query that returns of each row of a materialized view its place (ctid), its two hashes, '
    'and all of it as JSON on one line, in the order of the columns.';

create function tinydevcrm._count_buckets(row_count bigint, known_count bigint)
    returns integer
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               -- Other buckets mean that all are written.
               when _count_buckets.known_count >= greatest(wanted.count / 4, 1)
                    and _count_buckets.known_count <= wanted.count * 4 then
                   _count_buckets.known_count::integer
               else wanted.count
           end
      from (
        select (2 ^ greatest(
                   least(round(log(2, greatest(_count_buckets.row_count, 1) / 256.0)), 20),
                   0))::integer as count
      ) as wanted
$$;

comment on function tinydevcrm._count_buckets(bigint, bigint) is
    'How many buckets a baseline of so many rows gets: those that it has, unless that is less than '
    'a quarter of, or more than four times, what makes 256 rows in each.';

create function tinydevcrm._unpack_places(places bytea)
    returns tid[]
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select array_agg(
               format(
                   '(%s,%s)',
                   get_byte(places, start)::bigint << 24 | get_byte(places, start + 1) << 16
                       | get_byte(places, start + 2) << 8 | get_byte(places, start + 3),
                   get_byte(places, start + 4) << 8 | get_byte(places, start + 5))::tid)
      from generate_series(0, octet_length(_unpack_places.places) - 6, 6) as start
$$;

comment on function tinydevcrm._unpack_places(bytea) is
    'The places of rows (ctid), from the six bytes each that tidsend() writes.';

-- These settings make the text of a value the same each time.
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
    v_refresh      tinydevcrm._refresh := refresh;
    v_known_count  integer;
    v_bucket_count integer;
    v_buckets      integer[];
    v_places       bytea;
begin
    perform tinydevcrm._check_session_of((matview).relation);

    select count(*)
      into v_known_count
      from tinydevcrm.matview_baselines
     where matview_baselines.matview_id = (matview).id;

    v_bucket_count := tinydevcrm._count_buckets(v_refresh.row_count, v_known_count);
    if not v_refresh.has_baseline or v_bucket_count <> v_known_count then
        return tinydevcrm._compare_buckets(matview, v_refresh, v_bucket_count, null, null);
    end if;

    -- "Offset 0" keeps Postgres from taking each row for a group of its own, and from sorting them.
    execute format(
        'select array_agg(coalesce(present.bucket, remembered.bucket)),
                string_agg(present.places, '''')
           from (
             select (hash & $2)::integer as bucket,
                    sum(hash) as hash_sum,
                    string_agg(tidsend(ctid), '''') as places
               from (select ctid, hash from (%s) as rows offset 0) as hashed
              group by 1
           ) as present
           full join (
             select matview_baselines.bucket,
                    matview_baselines.hash_sum
               from tinydevcrm.matview_baselines
              where matview_baselines.matview_id = $1
           ) as remembered
             on remembered.bucket = present.bucket
          where coalesce(present.hash_sum, 0) is distinct from remembered.hash_sum',
        tinydevcrm._build_hashed_rows((matview).relation, v_refresh))
       into v_buckets, v_places
      using (matview).id, v_bucket_count - 1;

    if v_buckets is null then
        v_refresh.added_count := 0;
        v_refresh.removed_count := 0;
        return v_refresh;
    end if;

    -- To scan all rows once more costs less than to fetch a quarter of them one by one.
    if octet_length(v_places) > 6 * v_refresh.row_count / 4 then
        return tinydevcrm._compare_buckets(matview, v_refresh, v_bucket_count, null, null);
    end if;

    return tinydevcrm._compare_buckets(
        matview, v_refresh, v_bucket_count, v_buckets,
        coalesce(tinydevcrm._unpack_places(v_places), '{}'));
end
$$;

comment on function tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh) is
    'Compares the rows of a materialized view, copies counted, with its baseline. Adds the '
    'differences to the refresh and updates the baseline, unless these may not '
    'notify yet. Without a baseline it finds no differences. Needs 8 bytes of memory for a row. '
    'Raises 42501 when the session has not logged in as the owner.';

create function tinydevcrm._compare_buckets(
    matview      tinydevcrm.matviews,
    refresh      tinydevcrm._refresh,
    bucket_count integer,
    buckets      integer[],
    places       tid[]
)
    returns tinydevcrm._refresh
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refresh    tinydevcrm._refresh := refresh;
    v_keeps_rows boolean := v_refresh.row_count <= v_refresh.compare_limit;
    v_hashes     bigint[];
    v_others     bigint[];
    v_surplus    bigint[];
    v_printed    text[];
begin
    perform tinydevcrm._check_session_of((matview).relation);

    execute format(
        'with present as materialized (
            select hash,
                   other_hash,
                   count(*) as copies,
                   %2$s as printed
              from (%1$s) as rows
             where %3$s
             group by 1, 2
        ),
        remembered as (
            select entries.hash,
                   entries.other_hash,
                   coalesce(entries.copies, 1) as copies,
                   entries.printed
              from tinydevcrm.matview_baselines as known
             cross join lateral unnest(
                 known.hashes, known.other_hashes, known.copies, known.rows
             ) as entries (hash, other_hash, copies, printed)
             where known.matview_id = $1
               and $2
               and ($3 is null or known.bucket = any ($3))
        ),
        differences as materialized (
            select hash,
                   other_hash,
                   coalesce(present.copies, 0) - coalesce(remembered.copies, 0) as surplus,
                   coalesce(present.printed, remembered.printed) as printed
              from present
              full join remembered
             using (hash, other_hash)
             where present.copies is distinct from remembered.copies
        ),
        filled as (
            select (hash & $5 - 1)::integer as bucket,
                   sum(hash::numeric * copies) as hash_sum,
                   array_agg(hash) as hashes,
                   array_agg(other_hash) as other_hashes,
                   case when max(copies) > 1 then array_agg(copies) end as copies,
                   case
                       when $6 then
                           array_agg(case when octet_length(printed) <= 131072 then printed end)
                   end as rows
              from present
             group by 1
        ),
        written as (
            insert into tinydevcrm.matview_baselines as known (
                       matview_id, bucket, hash_sum, hashes, other_hashes, copies, rows)
            select $1,
                   numbers.bucket,
                   case when numbers.bucket < $5 then coalesce(filled.hash_sum, 0) end,
                   coalesce(filled.hashes, ''{}''),
                   coalesce(filled.other_hashes, ''{}''),
                   filled.copies,
                   filled.rows
              from (
                select unnest($3) as bucket
                 union all
                -- Buckets beyond the last one are removed.
                select generate_series(
                           0, case when $3 is null then greatest($5, count(*)::integer) - 1 end)
                  from tinydevcrm.matview_baselines
                 where matview_baselines.matview_id = $1
              ) as numbers
              left join filled
                on filled.bucket = numbers.bucket
             where $7
                or $8 and not exists (select from differences where surplus > 0)
                or $9 and not exists (select from differences where surplus < 0)
            on conflict on constraint matview_baselines_pkey do update
               set hash_sum = excluded.hash_sum,
                   hashes = excluded.hashes,
                   other_hashes = excluded.other_hashes,
                   copies = excluded.copies,
                   rows = excluded.rows
        ),
        carried as (
            select differences.*
              from differences
             where $2
               and ($6 or surplus > 0)
             limit case when not $6 then $10 end
        )
        select (select coalesce(sum(surplus), 0) from differences where surplus > 0),
               (select coalesce(-sum(surplus), 0) from differences where surplus < 0),
               (select array_agg(hash) from carried),
               (select array_agg(other_hash) from carried),
               (select array_agg(surplus) from carried),
               (select array_agg(printed) from carried)',
        tinydevcrm._build_hashed_rows((matview).relation, v_refresh),
        case when v_keeps_rows then 'min(printed collate "C")' else 'null::text' end,
        case when _compare_buckets.places is null then 'true' else 'ctid = any ($4)' end)
       into v_refresh.added_count,
            v_refresh.removed_count,
            v_hashes,
            v_others,
            v_surplus,
            v_printed
      using (matview).id,
            v_refresh.has_baseline,
            _compare_buckets.buckets,
            _compare_buckets.places,
            _compare_buckets.bucket_count,
            v_keeps_rows,
            -- What may not notify yet stays a difference.
            not (v_refresh.is_early and v_refresh.has_baseline),
            v_refresh.notify_when = 'rows_added',
            v_refresh.notify_when = 'rows_removed',
            v_refresh.row_limit;

    -- The first refresh has nothing to compare with.
    if not v_refresh.has_baseline then
        v_refresh.added_count := null;
        v_refresh.removed_count := null;
    end if;
    if coalesce(v_refresh.added_count + v_refresh.removed_count, 0) = 0 then
        return v_refresh;
    end if;

    if not v_keeps_rows then
        v_printed := tinydevcrm._read_added_rows(
            (matview).relation, v_refresh, _compare_buckets.places, v_hashes, v_others, v_surplus);
        v_surplus := array_fill(1::bigint, array[cardinality(v_printed)]);
    end if;

    select listed.added_rows,
           listed.removed_rows,
           listed.updated_rows,
           listed.updated_count,
           coalesce(listed.is_cut, false),
           listed.new_rows
      into v_refresh.added_rows,
           v_refresh.removed_rows,
           v_refresh.updated_rows,
           v_refresh.updated_count,
           v_refresh.is_cut,
           v_printed
      from tinydevcrm._list_changes(
          v_surplus, v_printed, (matview).key, v_keeps_rows, v_refresh.row_limit,
          -- A webhook's message, which has the rows too, has at most 2 MB.
          least(v_refresh.byte_limit, 524288)) as listed;

    if v_refresh.notify_when = 'rows_added' then
        v_refresh.rows := tinydevcrm._carry_rows(v_printed, v_refresh.byte_limit);
    end if;
    if not v_keeps_rows then
        v_refresh.is_cut := v_refresh.is_cut
            or v_refresh.added_count > cardinality(v_printed)
            or v_refresh.removed_count > 0 and v_refresh.notify_when <> 'rows_added';
    end if;
    return v_refresh;
end
$$;

comment on function tinydevcrm._compare_buckets(
    tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[]
) is
    'Compares the rows at these places, which are all of these buckets, row by row with the '
    'baseline, and writes these buckets; all rows and buckets when they are null. Raises 42501 '
    'when the session has not logged in as the owner.';

create function tinydevcrm._print_key(printed text, key text[])
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(cardinality(_print_key.key), 0) = 0 then
        return null;
    end if;

    return (
        select case
                   when bool_and(coalesce(json_typeof(columns.value) <> 'null', false)) then
                       '{' || string_agg(
                           to_json(columns.name) || ': ' || columns.value,
                           ', ' order by columns.number) || '}'
               end
          from (
            select names.name,
                   names.number,
                   _print_key.printed::json -> names.name as value
              from unnest(_print_key.key) with ordinality as names (name, number)
          ) as columns
    );
exception
    when untranslatable_character or invalid_text_representation then
        return null;
end
$$;

comment on function tinydevcrm._print_key(text, text[]) is
    'The columns of the key of a row, from the row as JSON; null when one is null or does not '
    'exist, when there is no key, or when Postgres cannot read the JSON, as with \u0000.';

create function tinydevcrm._list_changes(
    surplus    bigint[],
    printed    text[],
    key        text[],
    is_whole   boolean,
    row_limit  integer,
    byte_limit integer
)
    returns table (
        added_rows    text,
        removed_rows  text,
        updated_rows  text,
        updated_count bigint,
        is_cut        boolean,
        new_rows      text[]
    )
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    with changed as (
        select rows.surplus,
               rows.printed,
               case abs(rows.surplus)
                   when 1 then tinydevcrm._print_key(rows.printed, _list_changes.key)
               end as key
          from unnest(_list_changes.surplus, _list_changes.printed) as rows (surplus, printed)
    ),
    -- A key that several rows share identifies none of them.
    updated as (
        select added.key,
               removed.printed as old,
               added.printed as new
          from (
            select changed.key,
                   min(changed.printed) as printed
              from changed
             where changed.surplus = 1
               and changed.key is not null
             group by changed.key
            having count(*) = 1
          ) as added
          join (
            select changed.key,
                   min(changed.printed) as printed
              from changed
             where changed.surplus = -1
               and changed.key is not null
             group by changed.key
            having count(*) = 1
          ) as removed
            on removed.key = added.key
    ),
    entries as (
        select 'updated' as kind,
               '{"key": ' || updated.key || ', "old": ' || updated.old
                   || ', "new": ' || updated.new || '}' as entry
          from updated
         union all
        select case when changed.surplus > 0 then 'added' else 'removed' end,
               changed.printed
          from changed
         cross join lateral generate_series(
             1, least(abs(changed.surplus), _list_changes.row_limit))
         where changed.printed is not null
           and not exists (select from updated where updated.key = changed.key)
    ),
    -- Each kind gets its share of the places.
    placed as (
        select numbered.kind,
               numbered.entry,
               row_number() over share as place,
               sum(octet_length(numbered.entry)) over share as byte_count
          from (
            select entries.kind,
                   entries.entry,
                   row_number() over (partition by entries.kind) as number
              from entries
          ) as numbered
        window share as (order by numbered.number, numbered.kind)
    ),
    carried as (
        select coalesce(string_agg(placed.entry, ', ') filter (where placed.kind = 'added'), '')
                   as added,
               coalesce(string_agg(placed.entry, ', ') filter (where placed.kind = 'removed'), '')
                   as removed,
               coalesce(string_agg(placed.entry, ', ') filter (where placed.kind = 'updated'), '')
                   as updated,
               coalesce(sum(case placed.kind when 'updated' then 2 else 1 end), 0) as count
          from placed
         where placed.place <= _list_changes.row_limit
           and placed.byte_count <= _list_changes.byte_limit
    )
    select '[' || carried.added || ']',
           case when is_whole then '[' || carried.removed || ']' end,
           case
               when is_whole and cardinality(_list_changes.key) > 0 then
                   '[' || carried.updated || ']'
           end,
           case
               when is_whole and cardinality(_list_changes.key) > 0 then
                   (select count(*) from updated)
           end,
           carried.count < (select sum(abs(changed.surplus)) from changed),
           array(
               select changed.printed
                 from changed
                cross join lateral generate_series(
                    1, least(changed.surplus, _list_changes.row_limit))
                where changed.printed is not null
                limit _list_changes.row_limit
           )
      from carried
$$;

comment on function tinydevcrm._list_changes(
    bigint[], text[], text[], boolean, integer, integer
) is
    'What an event carries of rows that were added (surplus: how many copies) or removed (surplus '
    'less than 0), given as JSON: see tinydevcrm.matview_refresh_events.added_rows. A removed and '
    'an added row of one key are an updated row. is_whole: removed rows are among them. is_cut: the '
    'limits, for all lists together, or a null row left some out. new_rows are the added rows '
    'alone, with those that were updated.';

create function tinydevcrm._read_added_rows(
    relation     regclass,
    refresh      tinydevcrm._refresh,
    places       tid[],
    hashes       bigint[],
    other_hashes bigint[],
    surplus      bigint[]
)
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_rows text[];
begin
    execute format(
        'select array_agg(carried.printed)
           from (
             select numbered.printed
               from (
                 select hash,
                        other_hash,
                        printed,
                        row_number() over (partition by hash, other_hash) as copy
                   from (%s) as rows
                  where hash = any ($1)
                    and %s
               ) as numbered
               join unnest($1, $2, $3) as added (hash, other_hash, surplus)
              using (hash, other_hash)
              where numbered.copy <= added.surplus
              limit $4
           ) as carried',
        tinydevcrm._build_hashed_rows(_read_added_rows.relation, refresh),
        case when _read_added_rows.places is null then 'true' else 'ctid = any ($5)' end)
       into v_rows
      using _read_added_rows.hashes,
            _read_added_rows.other_hashes,
            _read_added_rows.surplus,
            (refresh).row_limit,
            _read_added_rows.places;
    return v_rows;
end
$$;

comment on function tinydevcrm._read_added_rows(
    regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]
) is
    'The rows of these hashes as JSON, as many copies of each as were added, up to row_limit. It '
    'looks at the rows at these places only, unless places is null.';

create function tinydevcrm._carry_rows(printed text[], byte_limit integer)
    returns jsonb
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return tinydevcrm._cut_rows(
        ('[' || array_to_string(nullif(_carry_rows.printed, '{}'), ', ') || ']')::jsonb,
        _carry_rows.byte_limit);
exception
    when program_limit_exceeded or untranslatable_character or invalid_text_representation
         or numeric_value_out_of_range then
        return null;
end
$$;

comment on function tinydevcrm._carry_rows(text[], integer) is
    'Rows, given as JSON, as an array of objects within the limit. Null when there are none, or '
    'when one of them cannot be jsonb.';

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
    tinydevcrm._build_row_hash(regclass, text[], integer),
    tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._count_buckets(bigint, bigint),
    tinydevcrm._unpack_places(bytea),
    tinydevcrm._compare_buckets(
        tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[]),
    tinydevcrm._print_key(text, text[]),
    tinydevcrm._list_changes(bigint[], text[], text[], boolean, integer, integer),
    tinydevcrm._read_added_rows(regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]),
    tinydevcrm._carry_rows(text[], integer),
    tinydevcrm._cut_rows(jsonb, integer)
from public;

grant execute on function
    tinydevcrm._rule_holds(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._list_columns(regclass),
    tinydevcrm._build_row_hash(regclass, text[], integer),
    tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._count_buckets(bigint, bigint),
    tinydevcrm._unpack_places(bytea),
    tinydevcrm._compare_buckets(
        tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[]),
    tinydevcrm._print_key(text, text[]),
    tinydevcrm._list_changes(bigint[], text[], text[], boolean, integer, integer),
    tinydevcrm._read_added_rows(regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]),
    tinydevcrm._carry_rows(text[], integer),
    tinydevcrm._cut_rows(jsonb, integer)
to tinydevcrm_user;
