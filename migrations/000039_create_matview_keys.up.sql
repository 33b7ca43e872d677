-- The unique index on a key lets others read a materialized view during a refresh. When rows share
-- a key, the index is dropped until they no longer do.

create function tinydevcrm._set_key(relation regclass, key text[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_detail text;
begin
    if coalesce(cardinality(_set_key.key), 0) = 0 then
        return;
    end if;

    perform tinydevcrm._check_session_of(_set_key.relation);

    update tinydevcrm.matviews
       set key = _set_key.key
     where matviews.relation = _set_key.relation;

    execute tinydevcrm._build_key_index_statement(_set_key.relation, _set_key.key);
exception
    when unique_violation then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception using
            errcode = 'TD009',
            message = 'two rows of the query have the same key',
            detail  = v_detail,
            hint    = 'Choose a key that identifies each row, or none.';
end
$$;

comment on function tinydevcrm._set_key(regclass, text[]) is
    'Creates the unique index on the key of a new materialized view. Raises TD009 when two rows '
    'have the same key, 42501 when the session has not logged in as the owner.';

create function tinydevcrm._build_key_index_statement(relation regclass, key text[])
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               'create unique index on %s (%s)',
               _build_key_index_statement.relation,
               string_agg(quote_ident(key_column), ', ' order by number))
      from unnest(_build_key_index_statement.key) with ordinality as columns (key_column, number)
$$;

comment on function tinydevcrm._build_key_index_statement(regclass, text[]) is
    'The statement that creates the unique index on a key.';

create function tinydevcrm._key_index(matview tinydevcrm.matviews)
    returns regclass
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select indexrelid::regclass
      from pg_index
     where indrelid = (matview).relation
       and indisunique
       and indpred is null
       and indexprs is null
       and (
           select array_agg(attname::text order by number)
             from unnest(indkey::smallint[]) with ordinality as columns (attnum, number)
             join pg_attribute
               on attrelid = indrelid
              and pg_attribute.attnum = columns.attnum
       ) = (matview).key
     limit 1
$$;

comment on function tinydevcrm._key_index(tinydevcrm.matviews) is
    'The unique index on the key of a materialized view; null when there is none.';

create function tinydevcrm._drop_key_index(matview tinydevcrm.matviews)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_index constant regclass := tinydevcrm._key_index(matview);
begin
    if v_index is null then
        return false;
    end if;

    execute format('drop index %s', v_index);
    return true;
end
$$;

comment on function tinydevcrm._drop_key_index(tinydevcrm.matviews) is
    'Drops the index on the key of a materialized view, so that a plain refresh can store rows '
    'that share a key. False when there is no such index.';

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm._refresh_concurrently(matview tinydevcrm.matviews)
    returns text
    language plpgsql
    volatile
as $$
begin
    execute pg_catalog.format(
        'refresh materialized view concurrently %s', (matview).relation);
    return 'concurrently';
exception
    when unique_violation or cardinality_violation then
        if not tinydevcrm._drop_key_index(matview) then
            raise;
        end if;
        execute pg_catalog.format('refresh materialized view %s', (matview).relation);
        return 'plain';
end
$$;

comment on function tinydevcrm._refresh_concurrently(tinydevcrm.matviews) is
    'Refreshes a materialized view concurrently, or plainly when rows share a key. Returns which.';

create function tinydevcrm._restore_key(matview tinydevcrm.matviews)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_detail text;
begin
    if tinydevcrm._key_index(matview) is null then
        execute tinydevcrm._build_key_index_statement((matview).relation, (matview).key);
    end if;

    return 'it had no index on its key, or was not populated, until now';
exception
    when unique_violation then
        get stacked diagnostics v_detail = pg_exception_detail;
        return format('rows share a key: %s', v_detail);
    when undefined_column then
        return format('its key has a column that does not exist: %s', sqlerrm);
end
$$;

comment on function tinydevcrm._restore_key(tinydevcrm.matviews) is
    'Creates the index on the key again after a plain refresh, if the rows allow it, so that the '
    'next refresh is concurrent. Returns why this refresh was plain.';

revoke execute on function
    tinydevcrm._set_key(regclass, text[]),
    tinydevcrm._build_key_index_statement(regclass, text[]),
    tinydevcrm._key_index(tinydevcrm.matviews),
    tinydevcrm._drop_key_index(tinydevcrm.matviews),
    tinydevcrm._refresh_concurrently(tinydevcrm.matviews),
    tinydevcrm._restore_key(tinydevcrm.matviews)
from public;

grant execute on function
    tinydevcrm._set_key(regclass, text[]),
    tinydevcrm._build_key_index_statement(regclass, text[]),
    tinydevcrm._key_index(tinydevcrm.matviews),
    tinydevcrm._drop_key_index(tinydevcrm.matviews),
    tinydevcrm._refresh_concurrently(tinydevcrm.matviews),
    tinydevcrm._restore_key(tinydevcrm.matviews)
to tinydevcrm_user;
