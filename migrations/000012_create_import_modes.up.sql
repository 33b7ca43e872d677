-- How the rows of an import come into a table that was there before: modes replace, append, upsert.

create function tinydevcrm._would_change(import tinydevcrm.imports, types jsonb)
    returns table (name text, text_value text, target_type text, condition text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select compared.name,
           compared.text_value,
           compared.target_type,
           case
               when settled.type <> 'text' then
                   format(
                       '(%1$s)::%2$s::text::%3$s is distinct from (%1$s)::%3$s',
                       compared.text_value,
                       compared.target_type,
                       -- A number may be printed in another way: 2e+07.
                       case
                           when settled.type in ('integer', 'bigint') then 'numeric'
                           else settled.type
                       end)
               -- Blanks at the end of a character(n) are none.
               when pg_type.oid = 'bpchar'::regtype then
                   format(
                       'rtrim((%1$s)::%2$s::text) is distinct from rtrim(%1$s)',
                       compared.text_value, compared.target_type)
               else
                   format(
                       '(%1$s)::%2$s::text is distinct from (%1$s)',
                       compared.text_value, compared.target_type)
           end
      from tinydevcrm._compare_columns(import) as compared
      join jsonb_to_recordset(_would_change.types)
               as settled (name text, type text, is_given boolean)
        on settled.name = compared.name
      join pg_attribute
        on attrelid = to_regclass(tinydevcrm._target(import))
       and attname::text = compared.name
      join pg_type
        on pg_type.oid = atttypid
     where compared.type <> compared.target_type
       and not settled.is_given
       -- What no type of the ladder fits is the table's to judge, as in a COPY.
       and (settled.type <> 'text' or typcategory in ('S', 'Z'))
       and typcategory <> 'B'
       and pg_type.oid <> 'money'::regtype
$$;

comment on function tinydevcrm._would_change(tinydevcrm.imports, jsonb) is
    'Conditions for values that the type of the table would change in silence: a moment put into a '
    'date, a fraction rounded, a text cut off.';

create function tinydevcrm._misfits(import tinydevcrm.imports, types jsonb)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_loaded constant text := tinydevcrm._loading_table(import);
    v_column  record;
    v_text    text;
    v_misfits text[];
begin
    for v_column in
        select compared.name,
               compared.value,
               compared.target_type,
               changes.text_value,
               changes.condition
          from tinydevcrm._compare_columns(import) as compared
          left join tinydevcrm._would_change(import, _misfits.types) as changes
            on changes.name = compared.name
         where compared.type <> compared.target_type
    loop
        begin
            execute format('select count(%s) from %s', v_column.value, v_loaded);

            if v_column.condition is not null then
                execute format(
                    'select %s from %s where %s limit 1',
                    v_column.text_value, v_loaded, v_column.condition)
                   into v_text;
                if v_text is not null then
                    v_misfits := v_misfits || format(
                        '%I: %s would change %L',
                        v_column.name, v_column.target_type, left(v_text, 200));
                end if;
            end if;
        exception
            when data_exception then
                v_misfits := v_misfits || format('%I: %s', v_column.name, left(sqlerrm, 1000));
        end;
    end loop;

    return array_to_string(v_misfits, e'\n');
end
$$;

comment on function tinydevcrm._misfits(tinydevcrm.imports, jsonb) is
    'What is wrong with the values of a file for the types of a table, column by column; null when '
    'nothing is.';

create function tinydevcrm._refuse_values(import tinydevcrm.imports, detail text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'TD006',
        message = format('values do not fit the columns of table %s', tinydevcrm._target(import)),
        detail  = left(_refuse_values.detail, 10000),
        hint    = case
                      when tinydevcrm._distribution(to_regclass(tinydevcrm._target(import))) is null
                      then 'Correct them, or change the type of the column.'
                      else 'Correct them, or change the type of the column; that of one by which '
                           'the table is distributed only mode replace changes.'
                  end;
end
$$;

comment on function tinydevcrm._refuse_values(tinydevcrm.imports, text) is
    'Raises TD006, which tells column by column what does not fit.';

create function tinydevcrm._place_rows(import tinydevcrm.imports, types jsonb)
    returns bigint
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant text := tinydevcrm._target(import);
    v_loaded constant text := tinydevcrm._loading_table(import);
    v_names     text;
    v_values    text;
    v_changes   text;
    v_changed   boolean;
    v_conflict  text := '';
    v_message   text;
    v_row_count bigint;
begin
    perform tinydevcrm._lock_own_table(
        v_target,
        case (import).mode when 'replace' then 'access exclusive' else 'row exclusive' end);

    if (import).mode = 'replace' then
        perform tinydevcrm._clear_target(import, types);
    else
        perform tinydevcrm._check_columns(import);
    end if;

    if (import).mode = 'upsert' then
        perform tinydevcrm._check_key_values(import, v_loaded);
        v_conflict := tinydevcrm._on_conflict(import);
    end if;

    select string_agg(quote_ident(compared.name), ', '),
           string_agg(compared.value, ', ')
      into v_names, v_values
      from tinydevcrm._compare_columns(import) as compared
     where compared.type is not null;

    select string_agg(changes.condition, ' or ')
      into v_changes
      from tinydevcrm._would_change(import, types) as changes;

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
            perform tinydevcrm._refuse_values(
                import, coalesce(tinydevcrm._misfits(import, types), v_message));
        -- The condition below stands for its whole class, of which a lock is no matter of keys.
        when lock_not_available or object_in_use then
            raise;
        when invalid_column_reference or object_not_in_prerequisite_state then
            raise exception using
                errcode = 'TD009',
                message = format('table %s has no unique index on the key', v_target),
                hint    = format(
                    'create unique index on %s (%s);', v_target, tinydevcrm._key_list(import));
    end;

    if v_changed then
        perform tinydevcrm._refuse_values(import, tinydevcrm._misfits(import, types));
    end if;

    if v_row_count <> (import).row_count and (import).mode <> 'upsert' then
        raise exception using
            errcode = 'TD006',
            message = format(
                'table %s took %s of %s rows', v_target, v_row_count, (import).row_count),
            hint    = 'A trigger or a rule of the table turns the others away.';
    end if;

    return v_row_count;
end
$$;

comment on function tinydevcrm._place_rows(tinydevcrm.imports, jsonb) is
    'Puts the rows that were loaded into the table that was there before, and returns their '
    'number. types are the columns with the types that fit the whole file. Raises TD006 when '
    'columns differ, or values do not fit or would be changed; TD009 when the key does not tell '
    'rows apart or has no unique index; 2BP01 when mode replace would drop a table that others '
    'depend on, 42501 when it is not of the role as which the session has logged in.';

create function tinydevcrm._on_conflict(import tinydevcrm.imports)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               'on conflict (%s) do %s',
               tinydevcrm._key_list(import),
               coalesce(
                   'update set '
                   || string_agg(format('%1$I = excluded.%1$I', planned->>'name'), ', ')
                          filter (where planned->>'name' <> all ((import).key)),
                   'nothing'))
      from jsonb_array_elements((import).columns) as planned
$$;

comment on function tinydevcrm._on_conflict(tinydevcrm.imports) is
    'The clause by which mode upsert updates the row that is there.';

create function tinydevcrm._what_would_go(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select string_agg(what, ', ')
      from (
        select 'indexes' as what
          from pg_index
         where indrelid = _what_would_go.relation
        union
        select 'constraints'
          from pg_constraint
         where conrelid = _what_would_go.relation
        union
        select 'columns that are not null or fill themselves'
          from pg_attribute
         where attrelid = _what_would_go.relation
           and attnum > 0
           and (attnotnull or atthasdef)
        union
        select 'triggers'
          from pg_trigger
         where tgrelid = _what_would_go.relation
           and not tgisinternal
        union
        select 'rules'
          from pg_rewrite
         where ev_class = _what_would_go.relation
        union
        select 'policies'
          from pg_policy
         where polrelid = _what_would_go.relation
        union
        select 'rights'
          from pg_class
         where oid = _what_would_go.relation
           and relacl is not null
        union
        select 'partitions or children'
          from pg_inherits
         where _what_would_go.relation in (inhparent, inhrelid)
        union
        select 'its partitioning'
          from pg_class
         where oid = _what_would_go.relation
           and relkind = 'p'
      ) as properties
$$;

comment on function tinydevcrm._what_would_go(regclass) is
    'What a table has beside columns and rows, which making it anew would lose; null when nothing.';

create function tinydevcrm._clear_target(import tinydevcrm.imports, types jsonb)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_target constant text := tinydevcrm._target(import);
    v_differences text;
    v_columns     text;
    v_would_go    text := tinydevcrm._what_would_go(v_target::regclass);
    v_detail      text;
    v_column      name := tinydevcrm._distribution_column(v_target::regclass);
    v_was         text := tinydevcrm._distribution(v_target::regclass);
begin
    select string_agg(
               case
                   when compared.type is null then format('%I: only in the table', compared.name)
                   when compared.target_type is null then
                       format('%I: only in the file', compared.name)
                   else format(
                       '%I: %s in the table, %s in the file',
                       compared.name, compared.target_type, settled.type)
               end,
               e'\n')
               filter (
                   where compared.type is null and compared.is_needed
                      or compared.target_type is null
                      or compared.target_type <> settled.type
               ),
           string_agg(
               format('%I %s', compared.name, settled.type), ', ')
               filter (where compared.type is not null)
      into v_differences, v_columns
      from tinydevcrm._compare_columns(import) as compared
      left join jsonb_to_recordset(_clear_target.types)
               as given (name text, type text, is_given boolean)
        on given.name = compared.name
     cross join lateral (
         select case when given.is_given then compared.type else given.type end as type
     ) as settled;

    if (import).distribute_by <> v_column then
        v_differences := concat_ws(
            e'\n',
            v_differences,
            format('distributed by %I, not %I', v_column, (import).distribute_by));
    end if;

    if v_differences is null then
        execute format(
            'truncate %s %s',
            case (select relkind from pg_class where oid = v_target::regclass)
                when 'p' then ''
                else 'only'
            end,
            v_target);
        return;
    end if;

    if v_would_go is not null then
        raise exception using
            errcode = 'TD006',
            message = format('the columns differ from those of table %s', v_target),
            detail  = left(v_differences, 10000),
            hint    = format(
                'It is not made anew, which would lose its %s. Give the file the same columns, '
                'change the table, or drop it first.', v_would_go);
    end if;

    begin
        execute format('drop table %s', v_target);
    exception
        when dependent_objects_still_exist then
            get stacked diagnostics v_detail = pg_exception_detail;
            raise exception using
                errcode = '2BP01',
                message = format(
                    'table %s cannot be replaced by one of other columns: others depend on it',
                    v_target),
                detail  = left(v_detail, 10000),
                hint    = 'Drop those first, or import under another name.';
    end;
    execute format('create table %s (%s)', v_target, v_columns);
    if v_was is not null then
        perform tinydevcrm.distribute_table(
            v_target::regclass, coalesce((import).distribute_by, v_column), v_was = 'reference');
    end if;
end
$$;

comment on function tinydevcrm._clear_target(tinydevcrm.imports, jsonb) is
    'Empties the table that mode replace fills. With the same columns, and others that it fills '
    'itself, it stays, and so does all that belongs to it; with others, or another column to be '
    'distributed by, it is made anew, distributed if it was. Raises '
    'TD006, column by column, when that would lose indexes, rights or the like, and 2BP01, naming '
    'them, while others depend on it.';

revoke execute on function
    tinydevcrm._place_rows(tinydevcrm.imports, jsonb),
    tinydevcrm._would_change(tinydevcrm.imports, jsonb),
    tinydevcrm._misfits(tinydevcrm.imports, jsonb),
    tinydevcrm._refuse_values(tinydevcrm.imports, text),
    tinydevcrm._what_would_go(regclass),
    tinydevcrm._on_conflict(tinydevcrm.imports),
    tinydevcrm._clear_target(tinydevcrm.imports, jsonb)
from public;

grant execute on function
    tinydevcrm._place_rows(tinydevcrm.imports, jsonb),
    tinydevcrm._would_change(tinydevcrm.imports, jsonb),
    tinydevcrm._misfits(tinydevcrm.imports, jsonb),
    tinydevcrm._refuse_values(tinydevcrm.imports, text),
    tinydevcrm._what_would_go(regclass),
    tinydevcrm._on_conflict(tinydevcrm.imports),
    tinydevcrm._clear_target(tinydevcrm.imports, jsonb)
to tinydevcrm_user;
