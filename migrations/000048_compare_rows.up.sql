-- Compares the rows of a view with its baseline, bucket by bucket, and finds whether they changed.

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
    -- What may not notify yet stays a difference. Of a rule that compares, that is known only once
    -- the differences are.
    v_is_early   constant boolean := v_refresh.is_early and v_refresh.has_baseline and coalesce(
        tinydevcrm._rule_holds(v_refresh.notify_when, (matview).last_row_count, v_refresh), true);
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
            not v_is_early,
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

revoke execute on function
    tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._unpack_places(bytea),
    tinydevcrm._compare_buckets(
        tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[])
from public;

grant execute on function
    tinydevcrm._compare_rows(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._detect_change(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._unpack_places(bytea),
    tinydevcrm._compare_buckets(
        tinydevcrm.matviews, tinydevcrm._refresh, integer, integer[], tid[])
to tinydevcrm_user;
