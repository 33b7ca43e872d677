-- Finds the rank of the ladder that fits columns of text.

create function tinydevcrm._build_fit_condition(column_name text, rank integer)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when csv_types.accepts is null then 'true'
               else format(
                   '(octet_length(%1$I) <= %2$s and %1$I ~ %3$L)',
                   _build_fit_condition.column_name, csv_types.max_length, csv_types.accepts)
           end
      from tinydevcrm.csv_types
     where csv_types.rank = _build_fit_condition.rank
$$;

comment on function tinydevcrm._build_fit_condition(text, integer) is
    'The SQL condition that a value of this column of text fits this rank of tinydevcrm.csv_types.';

create function tinydevcrm._build_check(text_value text, value text, rank integer)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _build_check.rank is null then format('%s is null', _build_check.text_value)
               else format(
                   '(%1$s is null or %2$s)',
                   _build_check.text_value,
                   format(
                       coalesce(
                           csv_types.checks,
                           'octet_length(%1$s) <= ' || csv_types.max_length || ' and %1$s ~ '
                           || replace(quote_literal(csv_types.accepts), '%', '%%')),
                       _build_check.text_value,
                       _build_check.value))
           end
      from (values (1)) as one
      left join tinydevcrm.csv_types
        on csv_types.rank = _build_check.rank
     where _build_check.rank is null
        or csv_types.accepts is not null
$$;

comment on function tinydevcrm._build_check(text, text, integer) is
    'The SQL condition that a text fits a rank of tinydevcrm.csv_types, given the text and what it '
    'was cast to. For no rank, the condition that the text is null; null when every text fits.';

create function tinydevcrm._test_columns(source text, names text[], rank integer)
    returns boolean[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_tests text;
    v_fits  boolean[];
begin
    select string_agg(
               format(
                   'bool_and(%s)',
                   tinydevcrm._build_fit_condition(column_name, _test_columns.rank))
               || format(' filter (where %I is not null)', column_name),
               ', ' order by number)
      into v_tests
      from unnest(_test_columns.names) with ordinality as columns (column_name, number);

    execute format('select array[%s] from %s', v_tests, _test_columns.source)
       into v_fits;

    return v_fits;
end
$$;

comment on function tinydevcrm._test_columns(text, text[], integer) is
    'For each column of text, whether one rank of tinydevcrm.csv_types accepts all its values; '
    'null for a column without values. source is a table or a subquery. It tests one rank at a '
    'time, because Postgres keeps at most 32 compiled regular expressions.';

create function tinydevcrm._find_first_ranks(source text, names text[])
    returns integer[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ranks integer[] := array_fill(null::integer, array[cardinality(_find_first_ranks.names)]);
    v_open  integer[];
    v_fits  boolean[];
    v_rank  integer;
begin
    for v_rank in
        select csv_types.rank
          from tinydevcrm.csv_types
         order by csv_types.rank
    loop
        select array_agg(number order by number)
          into v_open
          from unnest(v_ranks) with ordinality as chosen (rank, number)
         where rank is null;

        exit when v_open is null;

        v_fits := tinydevcrm._test_columns(
            _find_first_ranks.source,
            array(
                select _find_first_ranks.names[number]
                  from unnest(v_open) with ordinality as open (number, ordinal)
                 order by ordinal
            ),
            v_rank);

        for v_index in 1 .. cardinality(v_open) loop
            if v_fits[v_index] then
                v_ranks[v_open[v_index]] := v_rank;
            end if;
        end loop;
    end loop;

    return v_ranks;
end
$$;

comment on function tinydevcrm._find_first_ranks(text, text[]) is
    'For each column of text, the first rank of tinydevcrm.csv_types that accepts every value; '
    'null for a column without values. source is a table or a subquery.';

create function tinydevcrm._find_wider_rank(staging text, column_name text, believed integer)
    returns integer
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name    constant text[] := array[_find_wider_rank.column_name];
    v_unfit text[];
    v_rank    integer;
begin
    -- A few of the values that do not fit exclude most ranks.
    execute format(
        'select array(select %1$I from %2$s where not %3$s limit 100)',
        _find_wider_rank.column_name,
        _find_wider_rank.staging,
        tinydevcrm._build_fit_condition(_find_wider_rank.column_name, _find_wider_rank.believed))
       into v_unfit;

    for v_rank in
        select csv_types.rank
          from tinydevcrm.csv_types
         where csv_types.rank > _find_wider_rank.believed
         order by csv_types.rank
    loop
        if (tinydevcrm._test_columns(
                format('unnest(%L::text[]) as unfit (%I)', v_unfit, v_name[1]),
                v_name,
                v_rank))[1]
           and (tinydevcrm._test_columns(_find_wider_rank.staging, v_name, v_rank))[1]
        then
            return v_rank;
        end if;
    end loop;
end
$$;

comment on function tinydevcrm._find_wider_rank(text, text, integer) is
    'The first rank that accepts every value of a column, as _find_first_ranks(), when some do not '
    'fit the rank that its first rows suggest.';

create function tinydevcrm._choose_ranks(staging text, names text[])
    returns integer[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ranks    integer[];
    v_believed record;
    v_fits     boolean[];
    v_number   integer;
begin
    -- The first rows decide most columns. One pass over all rows confirms that.
    v_ranks := tinydevcrm._find_first_ranks(
        format('(select * from %s limit 1000) as first_rows', _choose_ranks.staging),
        _choose_ranks.names);

    for v_believed in
        select rank,
               array_agg(number order by number) as numbers,
               array_agg(_choose_ranks.names[number] order by number) as names
          from unnest(v_ranks) with ordinality as chosen (rank, number)
         group by rank
    loop
        v_fits := tinydevcrm._test_columns(
            _choose_ranks.staging, v_believed.names, coalesce(v_believed.rank, 1));

        for v_index in 1 .. cardinality(v_fits) loop
            v_number := v_believed.numbers[v_index];
            v_ranks[v_number] := case
                when v_fits[v_index] then coalesce(v_believed.rank, 1)
                when not v_fits[v_index] then
                    tinydevcrm._find_wider_rank(
                        _choose_ranks.staging,
                        _choose_ranks.names[v_number],
                        coalesce(v_believed.rank, 1))
            end;
        end loop;
    end loop;

    return v_ranks;
end
$$;

comment on function tinydevcrm._choose_ranks(text, text[]) is
    'The first rank for each column, as _find_first_ranks(), for a table too large to read once '
    'per rank.';

revoke execute on function
    tinydevcrm._build_fit_condition(text, integer),
    tinydevcrm._build_check(text, text, integer),
    tinydevcrm._test_columns(text, text[], integer),
    tinydevcrm._find_first_ranks(text, text[]),
    tinydevcrm._find_wider_rank(text, text, integer),
    tinydevcrm._choose_ranks(text, text[])
from public;

grant execute on function
    tinydevcrm._build_fit_condition(text, integer),
    tinydevcrm._build_check(text, text, integer),
    tinydevcrm._test_columns(text, text[], integer),
    tinydevcrm._find_first_ranks(text, text[]),
    tinydevcrm._find_wider_rank(text, text, integer),
    tinydevcrm._choose_ranks(text, text[])
to tinydevcrm_user;
