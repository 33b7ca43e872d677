-- The types in which a Parquet file has the columns of a table or view: those that have all its values.

create function tinydevcrm._print_exact_type(attribute text, type regtype, modifier integer)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- NaN is greater than all numbers. Without values a comparison is null.
    select format(
               case
                   when chosen.type = 'numeric'::regtype and chosen.modifier < 0 then
                       $_$
                       case
                           when max(abs(%1$I)) < 1e38 is false then 'text'
                           else tinydevcrm._choose_decimal(max(abs(%1$I)), max(scale(%1$I)))
                       end
                       $_$
                   when chosen.type = 'numeric'::regtype then
                       $_$case when max(%1$I) < 1e38 is false then 'text' else %2$L end$_$
                   when chosen.type = 'date'::regtype then
                       $_$case when bool_and(isfinite(%1$I)) is false then 'text' else %2$L end$_$
                   when chosen.type in ('timestamp'::regtype, 'timestamptz'::regtype) then
                       $_$
                       case
                           when bool_and(isfinite(%1$I) and %1$I < '294247-01-01 UTC') is false then 'text'
                           else %2$L
                       end
                       $_$
                   when chosen.type = 'time'::regtype then
                       $_$case when max(%1$I) < '24:00' is false then 'text' else %2$L end$_$
                   else '%2$L'
               end,
               chosen.attribute,
               format_type(chosen.type, chosen.modifier))
      from (
        select _print_exact_type.attribute,
               _print_exact_type.type,
               _print_exact_type.modifier
      ) as chosen
$$;

comment on function tinydevcrm._print_exact_type(text, regtype, integer) is
    'The expression for the type in which tinydevcrm._choose_exact_types() has a column, of all its '
    'values.';

create function tinydevcrm._choose_decimal(largest numeric, scale integer)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when digits <= 18 then format('numeric(18,%s)', scale)
               when digits <= 38 then format('numeric(38,%s)', scale)
               else 'text'
           end
      from (
        select length(trunc(largest)::text) + scale as digits,
               scale
          from (
            select coalesce(_choose_decimal.largest, 0) as largest,
                   coalesce(_choose_decimal.scale, 0) as scale
          ) as given
      ) as needed
$$;

comment on function tinydevcrm._choose_decimal(numeric, integer) is
    'The decimal type for numbers up to the largest, with so many digits after the point: of 18 digits, '
    'which are stored as integers, or of 38, which other programs read; text beyond that.';

create function tinydevcrm._choose_exact_types(relation regclass)
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_statement text;
    v_types     text[];
begin
    perform tinydevcrm._check_session_of(_choose_exact_types.relation);

    with recursive columns (place, name, type, modifier) as (
        select attnum,
               attname::text,
               atttypid,
               atttypmod
          from pg_attribute
         where attrelid = _choose_exact_types.relation
           and attnum > 0
           and not attisdropped
         union all
        select columns.place,
               columns.name,
               pg_type.typbasetype,
               pg_type.typtypmod
          from columns
          join pg_type
            on pg_type.oid = columns.type
         where pg_type.typtype = 'd'
    )
    select format(
               'select array[%s]::text[] from %s',
               string_agg(
                   tinydevcrm._print_exact_type(columns.name, columns.type, columns.modifier),
                   ', ' order by columns.place),
               _choose_exact_types.relation)
      into v_statement
      from columns
      join pg_type
        on pg_type.oid = columns.type
     where pg_type.typtype <> 'd';

    execute v_statement into v_types;
    return v_types;
end
$$;

comment on function tinydevcrm._choose_exact_types(regclass) is
    'For each column of a table or materialized view, in their order, the type in which a Parquet file '
    'has all its values: that of the column, or of the domain''s values. A numeric without precision is a '
    'decimal by its values. text for what Parquet does not have: NaN in a numeric, numbers of more than '
    '38 digits, infinity and years after 294246 in dates and times, the time 24:00. It reads the whole '
    'relation. Raises 42501 when the session has not logged in as the owner.';

revoke execute on function
    tinydevcrm._print_exact_type(text, regtype, integer),
    tinydevcrm._choose_decimal(numeric, integer),
    tinydevcrm._choose_exact_types(regclass)
from public;

grant execute on function
    tinydevcrm._print_exact_type(text, regtype, integer),
    tinydevcrm._choose_decimal(numeric, integer),
    tinydevcrm._choose_exact_types(regclass)
to tinydevcrm_user;
