-- Lines that were repaired or left out, and values that do not fit.

create function tinydevcrm.record_import_problems(
    import_id   bigint,
    lines       bigint[],
    reasons     text[],
    texts       text[],
    is_rejected boolean default false
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import tinydevcrm.imports := tinydevcrm._lock_import(record_import_problems.import_id);
    v_count  constant bigint := coalesce(cardinality(record_import_problems.lines), 0);
begin
    insert into tinydevcrm.import_problems (import_id, line, reason, line_text, is_rejected)
    select v_import.id,
           problem.line,
           left(problem.reason, 1000),
           case
               when octet_length(problem.line_text) <= 10000 then problem.line_text
               else left(problem.line_text, 2500)
           end,
           record_import_problems.is_rejected
      from unnest(
               record_import_problems.lines,
               record_import_problems.reasons,
               record_import_problems.texts)
               with ordinality as problem (line, reason, line_text, number)
     order by problem.number;

    update tinydevcrm.imports
       set problem_count = imports.problem_count + v_count,
           reject_count = imports.reject_count
                        + case when record_import_problems.is_rejected then v_count else 0 end
     where imports.id = v_import.id;
end
$$;

comment on function tinydevcrm.record_import_problems(bigint, bigint[], text[], text[], boolean) is
    'Records the repaired or rejected lines of a running import: their numbers, what was wrong, and their text '
    'in the file. Raises TD001 when no such import is running.';

create function tinydevcrm.reject_import_values(import_id bigint)
    returns table (row_number bigint, reason text, row_text text)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_import  tinydevcrm.imports := tinydevcrm._lock_import(reject_import_values.import_id);
    v_reasons text;
    v_texts   text;
begin
    select string_agg(
               format(
                   'case when %s then format(%L, %s) end',
                   bad.condition,
                   replace(
                       format('column %I: %s cannot be read from ', bad.name, bad.type), '%', '%%')
                   || '%L',
                   bad.text_value),
               ', ')
      into v_reasons
      from tinydevcrm._list_bad_conditions(v_import) as bad;

    if v_reasons is null then
        return;
    end if;

    select string_agg(compared.text_value, ', ')
      into v_texts
      from tinydevcrm._compare_columns(v_import) as compared
     where compared.type is not null;

    return query execute format(
        'with bad as (select * from (select ctid as id, row_number() over (order by ctid) as number, '
        'nullif(array_to_string(array[%1$s], ''; ''), '''') as reason, '
        'array_to_string(array[%2$s], '','') as line from %3$s) '
        'as read where read.reason is not null), removed as (delete from %3$s as loaded using bad '
        'where loaded.ctid = bad.id) select bad.number, bad.reason, bad.line from bad '
        'order by bad.number',
        v_reasons, v_texts, tinydevcrm._find_loading_table(v_import));
end
$$;

comment on function tinydevcrm.reject_import_values(bigint) is
    'Removes the loaded rows of a running import with values that do not fit a given type, or a type '
    'of the table, and returns them: their numbers, from 1, why, and their values. For imports that '
    'began with the option bad = reject; the program records them by record_import_problems(). '
    'Raises TD001 when no such import is running.';

revoke execute on function
    tinydevcrm.record_import_problems(bigint, bigint[], text[], text[], boolean),
    tinydevcrm.reject_import_values(bigint)
from public;

grant execute on function
    tinydevcrm.record_import_problems(bigint, bigint[], text[], text[], boolean),
    tinydevcrm.reject_import_values(bigint)
to tinydevcrm_user;
