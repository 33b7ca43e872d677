-- Finds a watched view by what somebody calls it, a free name, and what a view reads.

create function tinydevcrm._find_unused_name(wanted text, schema_name name default current_schema())
    returns text
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_stem   text := _find_unused_name.wanted;
    v_name   text := _find_unused_name.wanted;
    v_number integer := 1;
begin
    loop
        if octet_length(v_name) > 63 then
            v_stem := left(v_stem, -1);
        elsif tinydevcrm._relation(_find_unused_name.schema_name, v_name) is null then
            return v_name;
        else
            v_number := v_number + 1;
        end if;
        v_name := v_stem || case when v_number > 1 then '_' || v_number else '' end;
    end loop;
end
$$;

comment on function tinydevcrm._find_unused_name(text, name) is
    'A name of at most 63 bytes that no relation of the schema has: the wanted name, cut if it is '
    'longer, with _2, _3 … if it is in use.';

create function tinydevcrm._list_read_relations(
    relation regclass,
    kinds    "char"[] default '{r,p,f,m}'
)
    returns regclass[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive read (oid) as (
        select _list_read_relations.relation::oid
         union
        select pg_depend.refobjid
          from read
          join pg_rewrite
            on pg_rewrite.ev_class = read.oid
           and pg_rewrite.ev_type = '1'
          join pg_depend
            on pg_depend.classid = 'pg_rewrite'::regclass
           and pg_depend.objid = pg_rewrite.oid
           and pg_depend.refclassid = 'pg_class'::regclass
    )
    select coalesce(array_agg(read.oid::regclass order by read.oid), '{}')
      from read
      join pg_class
        on pg_class.oid = read.oid
     where pg_class.relkind = any (_list_read_relations.kinds)
       and read.oid <> _list_read_relations.relation
$$;

comment on function tinydevcrm._list_read_relations(regclass, "char"[]) is
    'The relations of these kinds that the query of a materialized view reads, directly, through '
    'views, and through other materialized views. Without kinds: tables and materialized views.';

create function tinydevcrm.accept_tables(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(accept_tables.relation);
begin
    update tinydevcrm.matview_definitions
       set is_accepted = true
     where matview_definitions.matview_id = v_matview.id;
end
$$;

comment on function tinydevcrm.accept_tables(regclass) is
    'Accepts the tables that a materialized view reads, by their present names. This ends the '
    'state "reads renamed table". Raises TD001 when it is not watched, 42501 when it is not yours.';

create function tinydevcrm._find_matview(
    names        text[],
    schemas      name[] default current_schemas(true),
    out id       bigint,
    out relation regclass,
    out place    bigint
)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    select matviews.id,
           matviews.relation,
           asked.place
      into _find_matview.id,
           _find_matview.relation,
           _find_matview.place
      from unnest(_find_matview.names) with ordinality as asked (name, place)
     cross join tinydevcrm.matviews
      join pg_class
        on pg_class.oid = matviews.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     cross join lateral (
         values
             (1, format('%I.%I', nspname, relname)),
             (2, nspname || '.' || relname),
             (3, quote_ident(relname)),
             (4, relname)
     ) as called (form, name)
     where called.name = asked.name
       and (called.form < 3 or nspname = any (_find_matview.schemas))
     order by asked.place,
              called.form,
              array_position(_find_matview.schemas, nspname),
              matviews.id
     limit 1;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format(
                'materialized view %s is not watched',
                _find_matview.names[cardinality(_find_matview.names)]),
            hint    = 'Start with tinydevcrm.watch_matview() or tinydevcrm.create_matview().';
    end if;
end
$$;

comment on function tinydevcrm._find_matview(text[], name[]) is
    'The watched materialized view that the first of these names with a match means, and the place '
    'of that name. A name has its schema, or is looked up in the given schemas; it may be quoted. '
    'Raises TD001 when there is none.';

revoke execute on function
    tinydevcrm._find_unused_name(text, name),
    tinydevcrm._list_read_relations(regclass, "char"[]),
    tinydevcrm._find_matview(text[], name[]),
    tinydevcrm.accept_tables(regclass)
from public;

grant execute on function
    tinydevcrm._find_unused_name(text, name),
    tinydevcrm._list_read_relations(regclass, "char"[]),
    tinydevcrm._find_matview(text[], name[]),
    tinydevcrm.accept_tables(regclass)
to tinydevcrm_user;
