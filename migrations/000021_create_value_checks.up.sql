-- Checks that the values of an import fit the columns of an existing table.

create function tinydevcrm._list_change_conditions(import tinydevcrm.imports, types jsonb)
    returns table (name text, text_value text, target_type text, condition text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select compared.name,
           compared.text_value,
           compared.target_type,
           case
               -- It would be read as the DateStyle of the session says.
               when settled.type = 'text' and pg_type.typcategory = 'D' then
                   format('%s is not null', compared.text_value)
               -- 007 may be another number than 7.
               when settled.type = 'text' and pg_type.typcategory = 'N' then
                   format('%s ~ %L', compared.text_value, '^\s*[+-]?0[0-9]')
               when settled.type <> 'text'
                    and (settled.form is null or compared.reading <> compared.text_value)
               then
                   format(
                       '(%1$s)::%2$s::text::%3$s is distinct from (%1$s)::%3$s',
                       compared.reading,
                       compared.target_type,
                       -- A number may print in another form, such as 2e+07.
                       case
                           when settled.type in ('integer', 'bigint') then 'numeric'
                           else settled.type
                       end)
               -- Blanks at the end of a character(n) do not count.
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
      join jsonb_to_recordset(_list_change_conditions.types)
               as settled (name text, type text, is_given boolean, given text, form text)
        on settled.name = compared.name
      join pg_attribute
        on attrelid = to_regclass(tinydevcrm._target(import))
       and attname::text = compared.name
      join pg_type
        on pg_type.oid = atttypid
     where compared.type <> compared.target_type
       and (not settled.is_given or settled.given is not null)
       -- The table checks a column whose values fit no type of the ladder, as in a COPY.
       and (settled.type <> 'text' or typcategory in ('S', 'Z', 'D', 'N'))
       and typcategory <> 'B'
       and pg_type.oid <> 'money'::regtype
$$;

comment on function tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb) is
    'For each column, the condition that finds values which the type of the table would change '
    'without an error: the time of a date cut off, a fraction rounded, a text cut off, zeros lost.';

create function tinydevcrm._find_odd_values(
    import      tinydevcrm.imports,
    column_name text,
    note        text
)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format(
               '%I !~ %L',
               _find_odd_values.column_name,
               tinydevcrm._find_best_form(
                   import,
                   _find_odd_values.column_name,
                   array(
                       select distinct csv_forms.type_name
                         from tinydevcrm.csv_forms
                        where csv_forms.type_name ~ '^(date|time)'
                   )))
     where _find_odd_values.note is null
$$;

comment on function tinydevcrm._find_odd_values(tinydevcrm.imports, text, text) is
    'The condition for the values of a column of dates that are written in another way than most; '
    'null when a note says that all of them can be read in two ways.';

create function tinydevcrm._list_unfit_values(import tinydevcrm.imports, types jsonb)
    returns table (name text, message text)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_loaded constant text := tinydevcrm._find_loading_table(import);
    v_column  record;
    v_row     bigint;
    v_reason  text;
    v_text    text;
begin
    for v_column in
        select compared.name,
               compared.value,
               compared.text_value as written,
               compared.target_type,
               changes.condition,
               changes.condition like '% is not null' as is_unread,
               (
                   select settled->>'note'
                     from jsonb_array_elements(_list_unfit_values.types) as settled
                    where settled->>'name' = compared.name
               ) as note
          from tinydevcrm._compare_columns(import) as compared
          left join tinydevcrm._list_change_conditions(import, _list_unfit_values.types) as changes
            on changes.name = compared.name
         where compared.type <> compared.target_type
           and compared.target_type is not null
    loop
        v_row := null;
        begin
            if v_column.is_unread then
                v_reason := format('%s cannot be read from', v_column.target_type);
                v_column.condition := coalesce(
                    tinydevcrm._find_odd_values(import, v_column.name, v_column.note),
                    v_column.condition);
            else
                execute format('select count(%s) from %s', v_column.value, v_loaded);
                v_reason := format('%s would change', v_column.target_type);
            end if;
            if v_column.condition is not null then
                v_row := tinydevcrm._find_row(import, v_column.condition);
            end if;
        exception
            when data_exception then
                v_row := tinydevcrm._find_unfit_row(v_loaded, v_column.value);
                v_reason := format('%s cannot be read from', v_column.target_type);
        end;

        if v_row is not null then
            execute format(
                'select %s from %s order by ctid limit 1 offset %s',
                v_column.written, v_loaded, v_row - 1)
               into v_text;
            name := v_column.name;
            message := format(
                'row %s, column %I: %s %L',
                v_row, v_column.name, v_reason, left(v_text, 200));
            return next;
        end if;
    end loop;
end
$$;

comment on function tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb) is
    'The columns of the file whose values do not fit the types of the table, each with the first such '
    'row, counted from 1, and why.';

create function tinydevcrm._refuse_values(
    import tinydevcrm.imports,
    types  jsonb,
    reason text
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_detail text;
    v_notes  text;
begin
    select string_agg(unfit.message, e'\n')
      into v_detail
      from tinydevcrm._list_unfit_values(import, _refuse_values.types) as unfit;

    select string_agg(settled->>'note', '; ')
      into v_notes
      from jsonb_array_elements(_refuse_values.types) as settled;

    raise exception using
        errcode = 'TD006',
        message = format('values do not fit the columns of table %s', tinydevcrm._target(import)),
        detail  = left(coalesce(v_detail, _refuse_values.reason), 10000),
        hint    = case
                      when v_notes is not null then
                          upper(left(v_notes, 1)) || substr(v_notes, 2) || '.'
                      when tinydevcrm._find_distribution(
                               to_regclass(tinydevcrm._target(import))) is null
                      then 'Correct them, or let the column have a wider type (--widen yes).'
                           || case
                                  when v_detail ~ ' would change ''\s*[+-]?0[0-9]' then
                                      ' To lose the zeros, give the type (--type).'
                                  else ''
                              end
                      else 'Correct them, or change the type of the column. Only mode replace can '
                           'change the column that distributes the table.'
                  end;
end
$$;

comment on function tinydevcrm._refuse_values(tinydevcrm.imports, jsonb, text) is
    'Raises TD006 and says, column by column, which values do not fit; else the reason.';

create function tinydevcrm._keeps_value(value text, type text, compared_type text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_keeps boolean;
begin
    execute format(
        case
            when _keeps_value.compared_type is null then 'select num_nulls(($1)::%1$s) >= 0'
            else 'select ($1)::%1$s::text::%2$s is not distinct from ($1)::%2$s'
        end,
        _keeps_value.type, _keeps_value.compared_type)
       into v_keeps
      using _keeps_value.value;
    return v_keeps;
exception
    when data_exception or check_violation then
        return false;
end
$$;

comment on function tinydevcrm._keeps_value(text, text, text) is
    'Whether a text can be read as a type, and is the same when it is printed and compared as the '
    'other type, which may be null.';

create function tinydevcrm._find_odd_numbers(
    import      tinydevcrm.imports,
    column_name text,
    type        text
)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_forms  constant text := format(
        '%I !~ %L',
        _find_odd_numbers.column_name,
        tinydevcrm._find_best_form(import, _find_odd_numbers.column_name, '{numeric}'));
    v_casts  constant text := format(
        'not tinydevcrm._keeps_value(%I, %L, %L)',
        _find_odd_numbers.column_name, _find_odd_numbers.type, 'numeric');
    v_choice text;
begin
    -- A column is read in one way: by a form, or as Postgres does.
    execute format(
        'select case when count(*) filter (where %1$s) < count(*) filter (where %2$s) then %3$L '
        'else %4$L end from %5$s',
        v_forms, v_casts, v_forms, v_casts, tinydevcrm._find_loading_table(import))
       into v_choice;
    return v_choice;
end
$$;

comment on function tinydevcrm._find_odd_numbers(tinydevcrm.imports, text, text) is
    'The condition for the values of a column of text that are no numbers, or are written in another '
    'way than most.';

create function tinydevcrm._list_bad_conditions(import tinydevcrm.imports)
    returns table (name text, text_value text, type text, condition text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select compared.name,
           compared.text_value,
           wanted.type,
           case
               when csv_forms.accepts is not null then
                   format('%s !~ %L', compared.text_value, csv_forms.accepts)
               when compared.type = 'text' and pg_type.typcategory = 'D' then
                   coalesce(
                       tinydevcrm._find_odd_values(import, compared.name, null), 'false')
               when compared.type = 'text' and pg_type.typcategory = 'N' then
                   tinydevcrm._find_odd_numbers(import, compared.name, wanted.type)
                   || case
                          when planned->>'given' is null then
                              format(' or %s ~ %L', compared.text_value, '^\s*[+-]?0[0-9]')
                          else ''
                      end
               else format(
                   'not tinydevcrm._keeps_value(%s, %L, %L)',
                   compared.text_value,
                   wanted.type,
                   case pg_type.typcategory
                       when 'N' then 'numeric'
                       when 'D' then 'timestamp with time zone'
                       when 'S' then 'text'
                   end)
           end
      from tinydevcrm._compare_columns(import) as compared
      join jsonb_array_elements((import).columns) as planned
        on planned->>'name' = compared.name
     cross join lateral (
         select case
                    when tinydevcrm._find_loading_table(import) = tinydevcrm._target(import) then
                        planned->>'given'
                    else compared.target_type
                end as type
     ) as wanted
      left join tinydevcrm.csv_forms
        on csv_forms.name = planned->>'form'
      join pg_type
        on pg_type.oid = to_regtype(wanted.type)
     where wanted.type <> compared.type
       and wanted.type <> 'text'
        or csv_forms.name is not null
$$;

comment on function tinydevcrm._list_bad_conditions(tinydevcrm.imports) is
    'For each column of an import that has a type by its user or by the table, the condition for the '
    'values that do not fit it.';

revoke execute on function
    tinydevcrm._keeps_value(text, text, text),
    tinydevcrm._find_odd_numbers(tinydevcrm.imports, text, text),
    tinydevcrm._list_bad_conditions(tinydevcrm.imports),
    tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb),
    tinydevcrm._find_odd_values(tinydevcrm.imports, text, text),
    tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb),
    tinydevcrm._refuse_values(tinydevcrm.imports, jsonb, text)
from public;

grant execute on function
    tinydevcrm._keeps_value(text, text, text),
    tinydevcrm._find_odd_numbers(tinydevcrm.imports, text, text),
    tinydevcrm._list_bad_conditions(tinydevcrm.imports),
    tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb),
    tinydevcrm._find_odd_values(tinydevcrm.imports, text, text),
    tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb),
    tinydevcrm._refuse_values(tinydevcrm.imports, jsonb, text)
to tinydevcrm_user;
