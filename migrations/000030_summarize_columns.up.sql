-- What is in the columns of a table or materialized view.

create function tinydevcrm._summarize_column(
    relation           regclass,
    name               text,
    type               oid,
    row_limit          bigint,
    is_sorted          boolean default true,
    out row_count      bigint,
    out null_count     bigint,
    out distinct_count bigint,
    out lowest         text,
    out highest        text,
    out frequent       text[],
    out frequencies    bigint[]
)
    language plpgsql
    stable
    -- No search_path: the statement runs with that of the reader, and qualifies all of ours.
as $$
declare
    v_text  constant pg_catalog.text := pg_catalog.format(
        'pg_catalog.left(%s, 200)',
        tinydevcrm._print_text('value', _summarize_column.type));
    v_end   constant pg_catalog.text := case
        when _summarize_column.is_sorted then
            '(select %s from (select value from grouped order by value%s limit 1) as one)'
        else 'null'
    end;
begin
    perform tinydevcrm._check_session_of(_summarize_column.relation);
    execute pg_catalog.format(
        $query$
        with grouped as (
            select %s as value, pg_catalog.count(*) as count
              from (select %I as value from %s limit %s) as read
             group by 1
        ),
        most as (
            select value, count
              from grouped
             where pg_catalog.num_nulls(value) operator(pg_catalog.=) 0
             order by count desc, value
             limit 3
        )
        select (select coalesce(pg_catalog.sum(count), 0) from grouped),
               coalesce(
                   (select count from grouped where pg_catalog.num_nulls(value) operator(pg_catalog.=) 1), 0),
               (select pg_catalog.count(value) from grouped),
               %s,
               %s,
               (select pg_catalog.array_agg(%s order by count desc, value) from most),
               (select pg_catalog.array_agg(count order by count desc, value) from most)
        $query$,
        case
            when _summarize_column.is_sorted then 'value'
            else pg_catalog.format(
                'case when pg_catalog.num_nulls(value) operator(pg_catalog.=) 0 then %s end', v_text)
        end,
        _summarize_column.name,
        _summarize_column.relation,
        _summarize_column.row_limit,
        pg_catalog.format(v_end, v_text, ''),
        pg_catalog.format(v_end, v_text, ' desc nulls last'),
        case when _summarize_column.is_sorted then v_text else 'value' end)
       into _summarize_column.row_count,
            _summarize_column.null_count,
            _summarize_column.distinct_count,
            _summarize_column.lowest,
            _summarize_column.highest,
            _summarize_column.frequent,
            _summarize_column.frequencies;
exception
    -- Some values have no order, such as json and points, also inside of other types.
    when undefined_function then
        if not _summarize_column.is_sorted then
            raise;
        end if;
        select summary.*
          into _summarize_column.row_count,
               _summarize_column.null_count,
               _summarize_column.distinct_count,
               _summarize_column.lowest,
               _summarize_column.highest,
               _summarize_column.frequent,
               _summarize_column.frequencies
          from tinydevcrm._summarize_column(
                   _summarize_column.relation,
                   _summarize_column.name,
                   _summarize_column.type,
                   _summarize_column.row_limit,
                   false) as summary;
end
$$;

comment on function tinydevcrm._summarize_column(regclass, text, oid, bigint, boolean) is
    'What is in a column, in the first rows of a relation: see tinydevcrm._summarize_columns(). '
    'Values that cannot be sorted are compared as texts, and none is the lowest. '
    'Raises 42501 when the session has not logged in as the owner.';

create function tinydevcrm._summarize_columns(relation regclass, cell_limit bigint default 250000)
    returns table (
        name           text,
        type           text,
        is_number      boolean,
        row_limit      bigint,
        row_count      bigint,
        null_count     bigint,
        distinct_count bigint,
        lowest         text,
        highest        text,
        frequent       text[],
        frequencies    bigint[]
    )
    language plpgsql
    volatile
    -- No search_path, as in tinydevcrm._summarize_column().
as $$
declare
    v_limit pg_catalog.int8;
begin
    -- Only in a session of the owner, and only a relation that is still what it was.
    perform tinydevcrm._build_rows_statement(_summarize_columns.relation);

    select greatest(
               _summarize_columns.cell_limit
                   operator(pg_catalog./) greatest(pg_catalog.count(*), 1),
               1)
      into v_limit
      from pg_catalog.pg_attribute
     where pg_attribute.attrelid operator(pg_catalog.=) _summarize_columns.relation
       and pg_attribute.attnum operator(pg_catalog.>) 0
       and not pg_attribute.attisdropped;

    return query
    select pg_attribute.attname::pg_catalog.text,
           pg_catalog.format_type(pg_attribute.atttypid, pg_attribute.atttypmod),
           pg_type.typcategory operator(pg_catalog.=) 'N',
           v_limit,
           summary.*
      from pg_catalog.pg_attribute
      join pg_catalog.pg_type
        on pg_type.oid operator(pg_catalog.=) pg_attribute.atttypid
     cross join lateral tinydevcrm._summarize_column(
               _summarize_columns.relation,
               pg_attribute.attname::pg_catalog.text,
               pg_attribute.atttypid,
               v_limit) as summary
     where pg_attribute.attrelid operator(pg_catalog.=) _summarize_columns.relation
       and pg_attribute.attnum operator(pg_catalog.>) 0
       and not pg_attribute.attisdropped
     order by pg_attribute.attnum;
end
$$;

comment on function tinydevcrm._summarize_columns(regclass, bigint) is
    'What is in each column of a table or materialized view: nulls, different values, the lowest '
    'and the highest of them, and the three most frequent ones with their counts. Reads the first '
    'row_limit rows, so that it looks at cell_limit values; there were row_count. Texts are cut to '
    '200 characters. '
    'Raises 42501 when the session has not logged in as the owner.';

revoke execute on function
    tinydevcrm._summarize_column(regclass, text, oid, bigint, boolean),
    tinydevcrm._summarize_columns(regclass, bigint)
from public;

grant execute on function
    tinydevcrm._summarize_column(regclass, text, oid, bigint, boolean),
    tinydevcrm._summarize_columns(regclass, bigint)
to tinydevcrm_user;
