-- Creates and alters views, each after those that it reads.

create function tinydevcrm._list_needs(changes tinydevcrm._definition_change[])
    returns table (place bigint, needs bigint[])
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with views as materialized (
        select changes.*
          from unnest(_list_needs.changes) with ordinality as changes (
                   action, kind, name, schema_name, relname, old, new, old_texts, new_texts, place)
    ),
    words as materialized (
        select distinct
               views.place,
               words.word
          from views
         cross join lateral regexp_split_to_table(
                   lower(views.new ->> 'query'), '[^[:alnum:]_$]+') as words (word)
    ),
    named as (
        select words.place,
               views.place as needed
          from words
          join views
            on lower(views.relname) = words.word
        union
        select views.place,
               odd.place
          from views as odd
          join views
            on strpos(views.new ->> 'query', replace(odd.relname, '"', '""')) > 0
         where lower(odd.relname) !~ '^[[:alnum:]_$]+$'
    )
    select views.place,
           coalesce(
               array_agg(named.needed) filter (where named.needed <> views.place), '{}')
      from views
      left join named
        on named.place = views.place
     group by views.place
$$;

comment on function tinydevcrm._list_needs(tinydevcrm._definition_change[]) is
    'Which of these views the query of each may read: those whose names are words in it. A word may '
    'be the name of a column too. So this is only an order in which to try them.';

-- The caller's query. So these functions set no search_path and qualify all names.
create function tinydevcrm._prints_alike(relation regclass, query text)
    returns boolean
    language plpgsql
    volatile
as $$
declare
    v_is_alike boolean;
begin
    perform tinydevcrm._check_session_of(_prints_alike.relation);
    perform tinydevcrm._check_query(_prints_alike.query);
    perform tinydevcrm._make_view('create temporary view _definition_query as ', _prints_alike.query);
    v_is_alike := pg_catalog.pg_get_viewdef('pg_temp._definition_query'::pg_catalog.regclass)
        operator(pg_catalog.=) pg_catalog.pg_get_viewdef(_prints_alike.relation);
    drop view pg_temp._definition_query;
    return v_is_alike;
end
$$;

comment on function tinydevcrm._prints_alike(regclass, text) is
    'Whether a query is that of a view but for its text, such as comments and lines.';

create function tinydevcrm._define_view(change tinydevcrm._definition_change)
    returns void
    language plpgsql
    volatile
as $$
declare
    v_new      constant jsonb := (change).new;
    v_relation pg_catalog.regclass := tinydevcrm._relation(
        (change).schema_name::pg_catalog.name, (change).relname);
begin
    if (change).old is null then
        v_relation := tinydevcrm.create_matview(
            name => (change).relname,
            query => v_new operator(pg_catalog.->>) 'query',
            notify_when => v_new operator(pg_catalog.->>) 'notify_when',
            schema_name => (change).schema_name::pg_catalog.name,
            key => tinydevcrm._list_texts(v_new operator(pg_catalog.->) 'key'),
            ignored_columns => tinydevcrm._list_texts(
                v_new operator(pg_catalog.->) 'ignored_columns'),
            notify_interval => (v_new operator(pg_catalog.->>) 'notify_interval')::pg_catalog.interval,
            notify_after => (v_new operator(pg_catalog.->>) 'notify_after')::pg_catalog.int4,
            notify_deadline =>
                (v_new operator(pg_catalog.->>) 'notify_deadline')::pg_catalog.interval);
    else
        if tinydevcrm._differs(change, '{query}') then
            if tinydevcrm._prints_alike(v_relation, v_new operator(pg_catalog.->>) 'query') then
                perform tinydevcrm._keep_written(
                    v_relation, v_new operator(pg_catalog.->>) 'query');
            else
                v_relation := (tinydevcrm.alter_matview_query(
                    v_relation, v_new operator(pg_catalog.->>) 'query')).matview;
            end if;
        end if;
        perform tinydevcrm._replace_rule(change, v_relation);
    end if;

    perform tinydevcrm._set_view(change, v_relation);
end
$$;

comment on function tinydevcrm._define_view(tinydevcrm._definition_change) is
    'Creates or alters a view. Its registration stays, with subscriptions and, where the compared '
    'columns are the same, its baseline. A query that differs only in its text is not run.';

create function tinydevcrm._drop_defined(change tinydevcrm._definition_change)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (change).kind = 'view' then
        perform tinydevcrm.drop_matview(
            tinydevcrm._relation((change).schema_name::name, (change).relname));
    elsif (change).kind = 'source' then
        perform tinydevcrm.drop_source((change).name);
    else
        perform tinydevcrm.drop_subscription((change).name);
    end if;
end
$$;

comment on function tinydevcrm._drop_defined(tinydevcrm._definition_change) is
    'Drops a view, a source or a subscription. A dropped view can be restored for a time.';

create function tinydevcrm._define(
    change      tinydevcrm._definition_change,
    home        name,
    is_checking boolean
)
    returns jsonb
    language plpgsql
    volatile
as $$
declare
    v_detail text;
    v_hint   text;
begin
    if (change).action operator(pg_catalog.=) 'drop' then
        perform tinydevcrm._drop_defined(change);
    elsif (change).kind operator(pg_catalog.=) 'view' and is_checking then
        perform tinydevcrm._stand_in(change);
    elsif (change).kind operator(pg_catalog.=) 'view' then
        perform tinydevcrm._define_view(change);
    elsif (change).kind operator(pg_catalog.=) 'source' then
        perform tinydevcrm._define_source(change, _define.home);
    elsif (change).kind operator(pg_catalog.=) 'subscription' then
        perform tinydevcrm._define_subscription(change, _define.home);
    elsif is_checking then
        perform tinydevcrm._find_defined_table(change, _define.home);
    else
        perform tinydevcrm._define_table(change, _define.home);
    end if;

    return null;
exception
    when others then
        get stacked diagnostics
            v_detail = pg_exception_detail,
            v_hint = pg_exception_hint;
        return pg_catalog.jsonb_build_object(
            'kind', (change).kind,
            'name', (change).name,
            'code', sqlstate,
            'message', sqlerrm,
            'detail', v_detail,
            'hint', v_hint);
end
$$;

comment on function tinydevcrm._define(tinydevcrm._definition_change, name, boolean) is
    'Creates, alters or replaces one thing, or, with is_checking, does as much of it as harms nobody. '
    'Returns the error that stops it; null when there is none.';

create function tinydevcrm._list_ready(places bigint[], needs jsonb)
    returns bigint[]
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               array_agg(waiting.place order by waiting.place) filter (
                   where not coalesce(_list_ready.needs -> waiting.place::text, '[]')
                             @> any (array(select to_jsonb(unnest(_list_ready.places))))),
               _list_ready.places)
      from unnest(_list_ready.places) as waiting (place)
$$;

comment on function tinydevcrm._list_ready(bigint[], jsonb) is
    'Which of these places need none of the others; all when there is no such one.';

create function tinydevcrm._may_wait(problem jsonb)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select _may_wait.problem ->> 'code' ~ '^(42|2B|TD)'
$$;

comment on function tinydevcrm._may_wait(jsonb) is
    'Whether an error may be because another view is not there yet, or not as it will be. Others are '
    'of a query that has run, perhaps for long.';

create function tinydevcrm._define_views(
    changes     tinydevcrm._definition_change[],
    is_checking boolean
)
    returns jsonb
    language plpgsql
    volatile
as $$
declare
    v_left     pg_catalog.int8[];
    v_needs    pg_catalog.jsonb;
    v_place    pg_catalog.int8;
    v_count    pg_catalog.int4;
    v_problem  pg_catalog.jsonb;
    v_problems pg_catalog.jsonb;
begin
    select pg_catalog.array_agg(needs.place),
           pg_catalog.jsonb_object_agg(needs.place, needs.needs)
      into v_left,
           v_needs
      from tinydevcrm._list_needs(_define_views.changes) as needs;

    while pg_catalog.cardinality(v_left) operator(pg_catalog.>) 0 loop
        v_count := pg_catalog.cardinality(v_left);
        v_problems := '[]';

        foreach v_place in array tinydevcrm._list_ready(v_left, v_needs) loop
            v_problem := tinydevcrm._define(_define_views.changes[v_place], null, is_checking);
            if v_problem is null then
                v_left := pg_catalog.array_remove(v_left, v_place);
            elsif is_checking or tinydevcrm._may_wait(v_problem) then
                v_problems := v_problems operator(pg_catalog.||) v_problem;
            else
                return pg_catalog.jsonb_build_array(v_problem);
            end if;
        end loop;

        if pg_catalog.cardinality(v_left) operator(pg_catalog.=) v_count then
            if v_needs is null then
                return v_problems;
            end if;
            -- The order was of names that may mean something else. From here on all are tried.
            v_needs := null;
        end if;
    end loop;

    return '[]';
end
$$;

comment on function tinydevcrm._define_views(tinydevcrm._definition_change[], boolean) is
    'Creates and alters views, each after those that it reads. Returns the errors of those that '
    'cannot be; an empty array when there are none.';

select tinydevcrm._set_for_citus(
           'tinydevcrm._prints_alike(regclass, text)', 'citus.enable_ddl_propagation', 'off');

revoke execute on function
    tinydevcrm._list_needs(tinydevcrm._definition_change[]),
    tinydevcrm._prints_alike(regclass, text),
    tinydevcrm._define_view(tinydevcrm._definition_change),
    tinydevcrm._drop_defined(tinydevcrm._definition_change),
    tinydevcrm._define(tinydevcrm._definition_change, name, boolean),
    tinydevcrm._list_ready(bigint[], jsonb),
    tinydevcrm._may_wait(jsonb),
    tinydevcrm._define_views(tinydevcrm._definition_change[], boolean)
from public;

grant execute on function
    tinydevcrm._list_needs(tinydevcrm._definition_change[]),
    tinydevcrm._prints_alike(regclass, text),
    tinydevcrm._define_view(tinydevcrm._definition_change),
    tinydevcrm._drop_defined(tinydevcrm._definition_change),
    tinydevcrm._define(tinydevcrm._definition_change, name, boolean),
    tinydevcrm._list_ready(bigint[], jsonb),
    tinydevcrm._may_wait(jsonb),
    tinydevcrm._define_views(tinydevcrm._definition_change[], boolean)
to tinydevcrm_user;
