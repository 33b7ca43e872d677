-- Settles the types and readings of an import's columns, when all of its rows are loaded.

create function tinydevcrm._settle_columns(import tinydevcrm.imports, ranks integer[])
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_source   constant text := tinydevcrm._find_loading_table(import);
    v_settled  jsonb := '[]';
    v_column   record;
    v_form     text;
    v_all      text[];
    v_forms    text[];
    v_types    text[];
    v_note     text;
    v_type     text;
    v_accepts  text;
    v_is_unfit boolean;
begin
    for v_column in
        select planned.value,
               planned.value->>'name' as name,
               planned.value->>'given' as given,
               csv_types.type_name as fit
          from jsonb_array_elements((import).columns) with ordinality as planned (value, number)
          left join tinydevcrm.csv_types
            on csv_types.rank = _settle_columns.ranks[planned.number]
         order by planned.number
    loop
        v_form := v_column.value->>'form';
        v_note := null;
        v_types := null;
        v_type := coalesce(v_column.fit, 'text');
        if v_type = 'double precision' and not tinydevcrm._fits_double(import, v_column.name) then
            v_type := 'text';
        end if;

        if v_column.given is not null then
            -- A date can be read from what has a time, and the other way round.
            select array_agg(distinct csv_forms.type_name)
              into v_types
              from tinydevcrm.csv_forms
              join pg_type
                on pg_type.oid = csv_forms.type_name::regtype
             where typcategory = (
                select given.typcategory
                  from pg_type as given
                 where given.oid = to_regtype(v_column.given)
             );
        end if;

        if v_form is not null then
            select csv_forms.accepts
              into v_accepts
              from tinydevcrm.csv_forms
             where csv_forms.name = v_form;

            execute format(
                'select exists (select from %s where %I !~ %L)', v_source, v_column.name, v_accepts)
               into v_is_unfit;
            if v_is_unfit then
                perform tinydevcrm._refuse_value(
                    import, v_column.name, v_form,
                    tinydevcrm._find_row(import, format('%I !~ %L', v_column.name, v_accepts)),
                    'Correct the value, name another form, or give the type text.');
            end if;
        elsif v_column.fit is not null and v_type = 'text'
              and (v_column.given is not null or not (v_column.value->>'is_given')::boolean)
        then
            v_all := tinydevcrm._list_forms(v_source, v_column.name, v_types);
            v_forms := tinydevcrm._list_readings(v_source, v_column.name, v_all);
            v_form := case
                          when cardinality(v_forms) = 1 then v_forms[1]
                          else tinydevcrm._recall_form(import, v_column.name, v_all)
                      end;
            if v_forms <> '{}' and v_form is null then
                v_note := format(
                    'column %I could be %s: choose with --type ''%s=%s''',
                    v_column.name, array_to_string(v_forms, ' or '), v_column.name, v_forms[1]);
            end if;
            -- A number is read as Postgres does; a date would be read as the DateStyle says.
            if v_form is null and v_column.given ~ '^(date|time)'
               or v_note is not null and v_column.given is not null
            then
                perform tinydevcrm._refuse_value(
                    import, v_column.name, v_column.given,
                    tinydevcrm._find_row(
                        import,
                        case
                            when v_note is not null then format('%I is not null', v_column.name)
                            else format(
                                '%I !~ %L',
                                v_column.name,
                                tinydevcrm._find_best_form(import, v_column.name, v_types))
                        end),
                    coalesce(
                        upper(left(v_note, 1)) || substr(v_note, 2) || '.',
                        'Correct the value, or name a form of tinydevcrm.csv_forms, such as '
                        'date D/M/Y.'));
            end if;
        end if;

        select coalesce(
                   v_column.given,
                   case when (v_column.value->>'is_given')::boolean then v_column.value->>'type' end,
                   (
                       select csv_forms.type_name
                         from tinydevcrm.csv_forms
                        where csv_forms.name = v_form
                   ),
                   v_type)
          into v_type;
        v_settled := v_settled || jsonb_build_array(
            v_column.value || jsonb_build_object('type', v_type, 'form', v_form, 'note', v_note,
                'stored', v_column.value->>'type'));
    end loop;

    return v_settled;
end
$$;

comment on function tinydevcrm._settle_columns(tinydevcrm.imports, integer[]) is
    'The columns of an import with the types that were given, or else the types that fit every '
    'value so far; form is how their values are written, stored the type that they have while they '
    'are loaded, note a sentence when two forms fit. Raises TD006, with row and value, when values '
    'do not fit the form or type that was given, or can be read in two ways.';

create function tinydevcrm._check_reading(import tinydevcrm.imports, settled jsonb)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_source  constant text := tinydevcrm._find_loading_table(import);
    v_reading constant text := tinydevcrm._build_reading(settled);
begin
    execute format('select count(%s) from %s', v_reading, v_source);
exception
    when data_exception then
        perform tinydevcrm._refuse_value(
            import, settled->>'name', settled->>'type',
            tinydevcrm._find_unfit_row(v_source, v_reading),
            'Correct the value, or give the column another type, or none.');
end
$$;

comment on function tinydevcrm._check_reading(tinydevcrm.imports, jsonb) is
    'Raises TD006, with the row and the value, when a value of a column cannot be read as its type.';

create function tinydevcrm._list_preview_notes(import tinydevcrm.imports, types jsonb)
    returns table (name text, note text)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_loading constant text := tinydevcrm._find_loading_table(import);
    v_column  jsonb;
    v_count   bigint;
    v_detail  text;
begin
    if (import).options->>'bad' = 'reject' then
        return;
    end if;

    if v_loading <> tinydevcrm._target(import) then
        return query
        select unfit.name,
               regexp_replace(unfit.message, '^row \d+, ', '')
          from tinydevcrm._list_unfit_values(import, _list_preview_notes.types) as unfit
         where (import).options->>'widen' = 'no'
           and tinydevcrm._keeps_table(import);
        return;
    end if;

    for v_column in
        select settled
          from jsonb_array_elements(_list_preview_notes.types) as settled
         where settled->>'type' <> settled->>'stored'
    loop
        name := v_column->>'name';
        begin
            perform tinydevcrm._check_reading(import, v_column);
            if v_column->>'form' like 'currency %' then
                execute format(
                    'select count(distinct tinydevcrm._read_currency(%I)) from %s', name, v_loading)
                   into v_count;
                note := format(
                    'column %I has %s currencies, which become a column of their own',
                    name, v_count);
                if v_count > 1 then
                    return next;
                end if;
            end if;
        exception
            when sqlstate 'TD006' then
                get stacked diagnostics v_detail = pg_exception_detail;
                note := format('%s: %s', sqlerrm, substring(v_detail from ': (.*)'));
                return next;
        end;
    end loop;
end
$$;

comment on function tinydevcrm._list_preview_notes(tinydevcrm.imports, jsonb) is
    'What a preview says of columns: a value that the import would refuse, or that several '
    'currencies become a column. Not with "bad": "reject", which leaves such values out.';

revoke execute on function
    tinydevcrm._list_preview_notes(tinydevcrm.imports, jsonb),
    tinydevcrm._check_reading(tinydevcrm.imports, jsonb),
    tinydevcrm._settle_columns(tinydevcrm.imports, integer[])
from public;

grant execute on function
    tinydevcrm._list_preview_notes(tinydevcrm.imports, jsonb),
    tinydevcrm._check_reading(tinydevcrm.imports, jsonb),
    tinydevcrm._settle_columns(tinydevcrm.imports, integer[])
to tinydevcrm_user;
