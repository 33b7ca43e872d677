-- The end of an import: a new table gets its types; modes replace, append and upsert move the loaded
-- rows into an existing table.

create function tinydevcrm._list_lost_properties(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(what, ', ')
      from (
        select 'indexes' as what
          from pg_index
         where indrelid = _list_lost_properties.relation
        union
        select 'constraints'
          from pg_constraint
         where conrelid = _list_lost_properties.relation
        union
        select 'columns that are not null or fill themselves'
          from pg_attribute
         where attrelid = _list_lost_properties.relation
           and attnum > 0
           and (attnotnull or atthasdef)
        union
        select 'triggers'
          from pg_trigger
         where tgrelid = _list_lost_properties.relation
           and not tgisinternal
           -- An import creates this one again.
           and tgfoid <> 'tinydevcrm._table_changes_record()'::regprocedure
        union
        select 'rules'
          from pg_rewrite
         where ev_class = _list_lost_properties.relation
        union
        select 'policies'
          from pg_policy
         where polrelid = _list_lost_properties.relation
        union
        select 'rights'
          from pg_class
         where oid = _list_lost_properties.relation
           and relacl is not null
        union
        select 'partitions or children'
          from pg_inherits
         where _list_lost_properties.relation in (inhparent, inhrelid)
        union
        select 'its partitioning'
          from pg_class
         where oid = _list_lost_properties.relation
           and relkind = 'p'
      ) as properties
$$;

comment on function tinydevcrm._list_lost_properties(regclass) is
    'What a table would lose if it were recreated, such as indexes and rights; null for nothing.';

create function tinydevcrm._plan_replacement(
    import          tinydevcrm.imports,
    types           jsonb,
    out differences text,
    out columns     text
)
    returns record
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(
               e'\n',
               string_agg(
                   case
                       when compared.type is null then
                           format('%I: only in the table', compared.name)
                       when compared.target_type is null then
                           format('%I: only in the file', compared.name)
                       else format(
                           '%I: %s in the table, %s in the file',
                           compared.name, compared.target_type, settled.type)
                   end,
                   e'\n')
                   filter (
                       where compared.type is null and compared.is_needed
                             and (import).options->>'missing_columns' = 'refuse'
                          or compared.target_type is null
                             and (import).options->>'new_columns' = 'refuse'
                          or compared.target_type <> settled.type
                   ),
               (
                   select format('distributed by %I, not %I', present, (import).distribute_by)
                     from tinydevcrm._find_distribution_column(
                              to_regclass(tinydevcrm._target(import))) as present
                    where present <> (import).distribute_by
               )),
           string_agg(format('%I %s', compared.name, settled.type), ', ')
               filter (where compared.type is not null)
      from tinydevcrm._compare_columns(import) as compared
      left join jsonb_to_recordset(_plan_replacement.types)
               as given (name text, type text, is_given boolean, given text)
        on given.name = compared.name
     cross join lateral (
         select case
                    when given.is_given and given.given is null then compared.type
                    else given.type
                end as type
     ) as settled
$$;

comment on function tinydevcrm._plan_replacement(tinydevcrm.imports, jsonb) is
    'For mode replace: how the columns of the file differ from those of the table, one line per '
    'difference, empty when they are the same; and the columns that a new table would have.';

create function tinydevcrm._recreate_target(import tinydevcrm.imports, columns text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target       constant text := tinydevcrm._target(import);
    v_distribution constant text := tinydevcrm._find_distribution(v_target::regclass);
    v_column       constant name := tinydevcrm._find_distribution_column(v_target::regclass);
    v_detail       text;
begin
    begin
        execute format('drop table %s', v_target);
    exception
        when dependent_objects_still_exist then
            get stacked diagnostics v_detail = pg_exception_detail;
            raise exception using
                errcode = '2BP01',
                message = format(
                    'table %s cannot be replaced by one with other columns: other objects depend '
                    'on it',
                    v_target),
                detail  = left(v_detail, 10000),
                hint    = 'Let the table keep its columns and types (--keep-table yes), drop these '
                          'objects first, or import under another name.';
    end;

    execute format('create table %s (%s)', v_target, _recreate_target.columns);
    if v_distribution is not null then
        perform tinydevcrm.distribute_table(
            v_target::regclass,
            coalesce((import).distribute_by, v_column),
            v_distribution = 'reference');
    else
        perform tinydevcrm._create_change_trigger(v_target::regclass);
    end if;
end
$$;

comment on function tinydevcrm._recreate_target(tinydevcrm.imports, text) is
    'Drops the table of an import and creates it again with these columns, empty. A distributed '
    'table is distributed again. Raises 2BP01, which names what depends on the table.';

create function tinydevcrm._clear_target(import tinydevcrm.imports, types jsonb)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant text := tinydevcrm._target(import);
    v_lost   constant text := tinydevcrm._list_lost_properties(v_target::regclass);
    v_plan   record;
begin
    v_plan := tinydevcrm._plan_replacement(import, _clear_target.types);

    if v_plan.differences = '' or tinydevcrm._keeps_table(import) then
        execute format(
            'truncate %s %s',
            case (select relkind from pg_class where oid = v_target::regclass)
                when 'p' then ''
                else 'only'
            end,
            v_target);
    elsif v_lost is null then
        perform tinydevcrm._recreate_target(import, v_plan.columns);
    else
        raise exception using
            errcode = 'TD006',
            message = format('the columns differ from those of table %s', v_target),
            detail  = left(v_plan.differences, 10000),
            hint    = format(
                'The table is not recreated: it would lose its %s. Let columns be added or missing '
                '(--new-columns add, --missing-columns null), change the table, or drop it first.',
                v_lost);
    end if;
end
$$;

comment on function tinydevcrm._clear_target(tinydevcrm.imports, jsonb) is
    'Empties the table that mode replace fills. The table stays when the file has the same '
    'columns, and with the option keep_table; columns that the table fills itself may be missing '
    'from the file. With other columns, or another column to distribute by, the table is recreated. Raises TD006, with the '
    'differences, when that would lose indexes, rights or the like; 2BP01 when other objects '
    'depend on the table.';

create function tinydevcrm._place_rows(import tinydevcrm.imports, types jsonb)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant text := tinydevcrm._target(import);
    v_loaded constant text := tinydevcrm._find_loading_table(import);
    v_names     text;
    v_values    text;
    v_changes   text;
    v_changed   boolean;
    v_conflict  text := '';
    v_message   text;
    v_detail    text;
    v_row_count bigint;
begin
    perform tinydevcrm._lock_own_table(
        v_target,
        case (import).mode when 'replace' then 'access exclusive' else 'row exclusive' end);

    if (import).mode = 'replace' then
        perform tinydevcrm._clear_target(import, types);
    end if;

    if tinydevcrm._keeps_table(import) then
        perform tinydevcrm._check_columns(import);
        perform tinydevcrm._adopt_types(import, types);
    end if;

    if (import).options->>'new_columns' = 'add' then
        perform tinydevcrm._add_columns(import, types);
    end if;

    if (import).options->>'widen' = 'yes' then
        perform tinydevcrm._widen_columns(import, types);
    end if;

    if (import).mode = 'upsert' then
        if not tinydevcrm._enforces_key(import) then
            perform tinydevcrm._check_key_values(import, v_loaded);
        end if;
        v_conflict := tinydevcrm._build_conflict_clause(import);
    end if;

    select string_agg(quote_ident(compared.name), ', '),
           string_agg(compared.value, ', ')
      into v_names, v_values
      from tinydevcrm._compare_columns(import) as compared
     where compared.type is not null
       and compared.target_type is not null;

    select string_agg(changes.condition, ' or ')
      into v_changes
      from tinydevcrm._list_change_conditions(import, types) as changes;

    begin
        execute format(
            'select exists (select from %s where %s)', v_loaded, coalesce(v_changes, 'false'))
           into v_changed;
        if not v_changed then
            execute format(
                'insert into %s (%s) select %s from %s %s',
                v_target, v_names, v_values, v_loaded, v_conflict);
            get diagnostics v_row_count = row_count;
        end if;
    exception
        when data_exception then
            get stacked diagnostics v_message = message_text;
            perform tinydevcrm._refuse_values(import, types, v_message);
        when unique_violation then
            get stacked diagnostics v_message = message_text, v_detail = pg_exception_detail;
            raise exception using
                errcode = '23505',
                message = v_message,
                detail  = v_detail,
                hint    = 'To update rows that are there, choose mode upsert (--mode upsert --key id).';
        when cardinality_violation or not_null_violation then
            if (import).mode = 'upsert' then
                perform tinydevcrm._check_key_values(import, v_loaded);
            end if;
            raise;
        -- The conditions below catch whole classes, to which these two belong.
        when lock_not_available or object_in_use then
            raise;
        when invalid_column_reference or object_not_in_prerequisite_state then
            raise exception using
                errcode = 'TD009',
                message = format('table %s has no unique index on the key', v_target),
                hint    = format(
                    'create unique index on %s (%s);', v_target, tinydevcrm._format_key(import));
    end;

    if v_changed then
        perform tinydevcrm._refuse_values(import, types, null);
    end if;

    if v_row_count <> (import).row_count and (import).mode <> 'upsert' then
        raise exception using
            errcode = 'TD006',
            message = format(
                'table %s took %s of %s rows', v_target, v_row_count, (import).row_count),
            hint    = 'A trigger or a rule of the table leaves the others out.';
    end if;

    return v_row_count;
end
$$;

comment on function tinydevcrm._place_rows(tinydevcrm.imports, jsonb) is
    'Moves the loaded rows into an existing table and returns their number. types are the columns '
    'with the types that fit the whole file. Raises TD006 when the columns differ, or when values '
    'do not fit or would be changed; TD009 when rows share a key or have none, or the key has no '
    'unique index; 2BP01 when mode replace would drop a table on which other objects depend; 42501 '
    'when the session has not logged in as the owner of the table.';

create function tinydevcrm._analyze_target(import tinydevcrm.imports)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target  constant text := tinydevcrm._target(import);
    v_present constant integer := current_setting('default_statistics_target');
    v_is_first_look boolean;
    v_row_count     real;
    v_columns       integer;
begin
    if (import).distribution is not null then
        perform tinydevcrm._analyze_distributed(v_target::regclass);
        return;
    end if;

    -- Autovacuum analyzes a table of its own within a minute, but not the parent of partitions.
    select relkind = 'r' and current_setting('autovacuum')::boolean,
           reltuples
      into v_is_first_look, v_row_count
      from pg_class
     where oid = v_target::regclass;

    if v_is_first_look and (import).mode <> 'replace' and (import).row_count < v_row_count / 4 then
        return;
    end if;

    select count(*)
      into v_columns
      from pg_attribute
     where attrelid = v_target::regclass
       and attnum > 0
       and not attisdropped;

    -- The rows that are read times the columns that are sorted stay about the same.
    perform set_config(
        'default_statistics_target',
        least(
            v_present,
            case
                when v_is_first_look then greatest(3, least(30, 240 / v_columns))
                else greatest(10, 3000 / v_columns)
            end)::text,
        true);
    execute format('analyze %s', v_target);
    perform set_config('default_statistics_target', v_present::text, true);
end
$$;

comment on function tinydevcrm._analyze_target(tinydevcrm.imports) is
    'Analyzes the table of an import. Without this the planner knows nothing of its rows, and the '
    'first query may follow at once. It reads 9,000 rows, and fewer from 8 columns on, because '
    'autovacuum analyzes the table soon after; where autovacuum does not, 30,000 rows, and fewer from '
    '30 columns on. Statistics of an existing table are left as they are when the import has changed '
    'less than a quarter of its rows.';

revoke execute on function
    tinydevcrm._analyze_target(tinydevcrm.imports),
    tinydevcrm._list_lost_properties(regclass),
    tinydevcrm._plan_replacement(tinydevcrm.imports, jsonb),
    tinydevcrm._recreate_target(tinydevcrm.imports, text),
    tinydevcrm._clear_target(tinydevcrm.imports, jsonb),
    tinydevcrm._place_rows(tinydevcrm.imports, jsonb)
from public;

grant execute on function
    tinydevcrm._analyze_target(tinydevcrm.imports),
    tinydevcrm._list_lost_properties(regclass),
    tinydevcrm._plan_replacement(tinydevcrm.imports, jsonb),
    tinydevcrm._recreate_target(tinydevcrm.imports, text),
    tinydevcrm._clear_target(tinydevcrm.imports, jsonb),
    tinydevcrm._place_rows(tinydevcrm.imports, jsonb)
to tinydevcrm_user;
