-- Checks and previews a query before it becomes a materialized view.

-- These functions parse and run the caller's query. So they set no search_path and qualify all
-- names.
create function tinydevcrm._check_query(query text)
    returns void
    language plpgsql
    volatile
as $$
declare
    v_cursor refcursor;
begin
    if coalesce(_check_query.query, '') operator(pg_catalog.~) '^[\s;]*$' then
        raise exception using
            errcode = 'TD002',
            message = 'the query is empty',
            hint    = 'Write one select, values or table statement.';
    end if;

    -- Explain returns rows, but cannot be part of another statement.
    if _check_query.query operator(pg_catalog.~*) '^\s*explain\M' then
        raise exception using
            errcode = 'TD002',
            message = 'explain is not a query',
            hint    = 'Write one select, values or table statement.';
    end if;

    -- A cursor accepts exactly one statement that returns rows. Opening it parses and plans the
    -- statement and runs nothing. It accepts data-modifying CTEs too; Postgres refuses to create a
    -- view of those.
    open v_cursor for execute _check_query.query;
    close v_cursor;
exception
    when invalid_cursor_definition then
        raise exception using
            errcode = 'TD002',
            message = 'a materialized view takes exactly one query that returns rows',
            hint    = 'Write one select, values or table statement.';
end
$$;

comment on function tinydevcrm._check_query(text) is
    'Raises TD002 unless a text is exactly one query that returns rows. When the server cannot '
    'read the query, raises the server''s error with the position.';

-- The setting is the one of a refresh: a query that fails with it is refused here.
create function tinydevcrm._make_view(statement text, query text)
    returns void
    language plpgsql
    volatile
as $$
declare
    v_context text;
begin
    execute pg_catalog.concat(_make_view.statement, _make_view.query);
exception
    when feature_not_supported then
        if sqlerrm operator(pg_catalog.!~~) 'direct joins between distributed and local%' then
            raise;
        end if;
        raise exception using
            errcode = 'TD011',
            message = 'the query joins a distributed table with a local table of the coordinator',
            hint    = 'Copy the local table to each worker: select '
                      'tinydevcrm.distribute_table(''table'', as_reference => true);';
    when syntax_error then
        -- A cursor accepts "show" and "delete … returning" too. The context of an error in a
        -- function that the query calls begins with another function than this one.
        get stacked diagnostics v_context = pg_exception_context;
        if pg_catalog.strpos(
               pg_catalog.split_part(v_context, E'\n', 1), '_make_view') operator(pg_catalog.=) 0
        then
            raise;
        end if;
        raise exception using
            errcode = 'TD002',
            message = 'a materialized view takes exactly one query that returns rows',
            hint    = 'Write one select, values or table statement.';
end
$$;

comment on function tinydevcrm._make_view(text, text) is
    'Runs a statement that creates a view of a query, which _check_query() has checked. Raises '
    'TD002 when the query is another kind of statement after all, TD011 when Citus cannot join its '
    'tables, and the errors of the server.';

-- The workers of Citus do not need the view.
create function tinydevcrm.preview_query(
    query       text,
    row_limit   integer default 10,
    out columns jsonb,
    out rows    jsonb
)
    returns record
    language plpgsql
    volatile
as $$
declare
    v_printed record;
begin
    perform tinydevcrm._check_query(preview_query.query);

    -- A view, because only a view shows the columns of a query without rows.
    perform tinydevcrm._make_view(
        'create temporary view _query_preview as ', preview_query.query);
    v_printed := tinydevcrm._print_rows(
        'pg_temp._query_preview', 'pg_temp._query_preview', is_json => false, cell_limit => 201);
    preview_query.columns := tinydevcrm._describe_columns(v_printed.names, v_printed.types);
    execute pg_catalog.concat(
        'select coalesce(pg_catalog.jsonb_agg(cells), ''[]'') from (',
        v_printed.statement,
        ' limit $1) as previewed (cells)')
       into preview_query.rows
      using preview_query.row_limit;
    drop view pg_temp._query_preview;
end
$$;

comment on function tinydevcrm.preview_query(text, integer) is
    'The columns of a query, [{"name": …, "type": …}], and its first rows. A row is an array of '
    'texts as psql prints them, or nulls. Texts are cut after 200 characters. Raises the errors '
    'that create_matview() raises for a query.';

select tinydevcrm._set_for_citus(
           'tinydevcrm._make_view(text, text)', 'citus.local_table_join_policy', 'never'),
       tinydevcrm._set_for_citus(
           'tinydevcrm.preview_query(text, integer)', 'citus.enable_ddl_propagation', 'off');

revoke execute on function
    tinydevcrm._check_query(text),
    tinydevcrm._make_view(text, text),
    tinydevcrm.preview_query(text, integer)
from public;

grant execute on function
    tinydevcrm._check_query(text),
    tinydevcrm._make_view(text, text),
    tinydevcrm.preview_query(text, integer)
to tinydevcrm_user;
