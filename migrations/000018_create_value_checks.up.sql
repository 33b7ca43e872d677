-- Checks that the values of an import fit the types of an existing table.

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
               when settled.type <> 'text' then
                   format(
                       '(%1$s)::%2$s::text::%3$s is distinct from (%1$s)::%3$s',
                       compared.text_value,
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
               as settled (name text, type text, is_given boolean)
        on settled.name = compared.name
      join pg_attribute
        on attrelid = to_regclass(tinydevcrm._target(import))
       and attname::text = compared.name
      join pg_type
        on pg_type.oid = atttypid
     where compared.type <> compared.target_type
       and not settled.is_given
       -- The table checks a column whose values fit no type of the ladder, as in a COPY.
       and (settled.type <> 'text' or typcategory in ('S', 'Z'))
       and typcategory <> 'B'
       and pg_type.oid <> 'money'::regtype
$$;

comment on function tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb) is
    'For each column, the condition that finds values which the type of the table would change '
    'without an error: the time of a date cut off, a fraction rounded, a text cut off.';

create function tinydevcrm._list_unfit_values(import tinydevcrm.imports, types jsonb)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_loaded constant text := tinydevcrm._find_loading_table(import);
    v_column  record;
    v_text    text;
    v_unfit text[];
begin
    for v_column in
        select compared.name,
               compared.value,
               compared.target_type,
               changes.text_value,
               changes.condition
          from tinydevcrm._compare_columns(import) as compared
          left join tinydevcrm._list_change_conditions(import, _list_unfit_values.types) as changes
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
                    v_unfit := v_unfit || format(
                        '%I: %s would change %L',
                        v_column.name, v_column.target_type, left(v_text, 200));
                end if;
            end if;
        exception
            when data_exception then
                v_unfit := v_unfit || format('%I: %s', v_column.name, left(sqlerrm, 1000));
        end;
    end loop;

    return array_to_string(v_unfit, e'\n');
end
$$;

comment on function tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb) is
    'Why values of the file do not fit the types of the table, one line per column; null when all '
    'fit.';

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
                      when tinydevcrm._find_distribution(
                               to_regclass(tinydevcrm._target(import))) is null
                      then 'Correct them, or change the type of the column.'
                      else 'Correct them, or change the type of the column. Only mode replace can '
                           'change the column that distributes the table.'
                  end;
end
$$;

comment on function tinydevcrm._refuse_values(tinydevcrm.imports, text) is
    'Raises TD006 and says, column by column, which values do not fit.';

revoke execute on function
    tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb),
    tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb),
    tinydevcrm._refuse_values(tinydevcrm.imports, text)
from public;

grant execute on function
    tinydevcrm._list_change_conditions(tinydevcrm.imports, jsonb),
    tinydevcrm._list_unfit_values(tinydevcrm.imports, jsonb),
    tinydevcrm._refuse_values(tinydevcrm.imports, text)
to tinydevcrm_user;
