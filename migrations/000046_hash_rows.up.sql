-- How the rows of a view are hashed and spread over buckets.

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

revoke execute on function
    tinydevcrm._list_columns(regclass),
    tinydevcrm._build_row_hash(regclass, text[], integer),
    tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._count_buckets(bigint, bigint)
from public;

grant execute on function
    tinydevcrm._list_columns(regclass),
    tinydevcrm._build_row_hash(regclass, text[], integer),
    tinydevcrm._build_hashed_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._count_buckets(bigint, bigint)
to tinydevcrm_user;
