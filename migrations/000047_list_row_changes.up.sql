-- What a comparison found: the added, removed and updated rows that an event carries.

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
    perform tinydevcrm._check_session_of(_read_added_rows.relation);
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
    'looks at the rows at these places only, unless places is null. Raises 42501 when the session '
    'has not logged in as the owner.';

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
    tinydevcrm._print_key(text, text[]),
    tinydevcrm._list_changes(bigint[], text[], text[], boolean, integer, integer),
    tinydevcrm._read_added_rows(regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]),
    tinydevcrm._carry_rows(text[], integer),
    tinydevcrm._cut_rows(jsonb, integer)
from public;

grant execute on function
    tinydevcrm._print_key(text, text[]),
    tinydevcrm._list_changes(bigint[], text[], text[], boolean, integer, integer),
    tinydevcrm._read_added_rows(regclass, tinydevcrm._refresh, tid[], bigint[], bigint[], bigint[]),
    tinydevcrm._carry_rows(text[], integer),
    tinydevcrm._cut_rows(jsonb, integer)
to tinydevcrm_user;
