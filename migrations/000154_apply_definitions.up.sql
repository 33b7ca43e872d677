-- Makes all of a role's definitions those that files hold, in one transaction, or finds what stands in the way.

create function tinydevcrm._list_steps(
    changes tinydevcrm._definition_change[],
    is_late boolean
)
    returns setof tinydevcrm._definition_change
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select action, kind, name, schema_name, relname, old, new, old_texts, new_texts
      from (
        select changes.*,
               case
                   when kind = 'table' and new ->> 'tracked' = 'true' then 0
                   when action = 'drop' and kind = 'subscription' then 1
                   when action = 'drop' and kind = 'source' then 2
                   when action = 'drop' then 3
                   when kind = 'table' then 4
                   when kind = 'source' then 5
                   when kind = 'subscription' then 6
               end as step,
               (
                   select matviews.depth
                     from tinydevcrm.matviews
                    where changes.action = 'drop'
                      and matviews.relation = tinydevcrm._relation(
                              changes.schema_name::name, changes.relname)
               ) as depth
          from unnest(_list_steps.changes) as changes
         -- A view that was not there may have tracked it.
         where changes.action is not null
            or kind = 'table' and new ->> 'tracked' = 'false'
      ) as steps
     where steps.step is not null
       and (steps.step > 0) = _list_steps.is_late
     order by steps.step,
              steps.depth desc,
              steps.name collate "C"
$$;

comment on function tinydevcrm._list_steps(tinydevcrm._definition_change[], boolean) is
    'What is to be done before the views are created and altered, or after it, in this order. A view '
    'is dropped after those that read it. A table that is not to be tracked comes after the views, '
    'which track what they read.';

create function tinydevcrm._define_all(
    changes     tinydevcrm._definition_change[],
    home        name,
    is_checking boolean
)
    returns jsonb
    language plpgsql
    volatile
as $$
declare
    v_change   tinydevcrm._definition_change;
    v_problem  pg_catalog.jsonb;
    v_problems pg_catalog.jsonb := '[]';
    v_is_late  boolean;
begin
    foreach v_is_late in array array[false, true] loop
        if v_is_late then
            v_problems := v_problems operator(pg_catalog.||) tinydevcrm._define_views(
                array(
                    select wanted
                      from pg_catalog.unnest(_define_all.changes) as wanted
                     where wanted.kind operator(pg_catalog.=) 'view'
                       and wanted.action operator(pg_catalog.=) any ('{create,alter}')
                ),
                is_checking);
        end if;

        for v_change in
            select steps.*
              from tinydevcrm._list_steps(_define_all.changes, v_is_late) as steps
        loop
            exit when not is_checking and v_problems operator(pg_catalog.<>) '[]';
            v_problem := tinydevcrm._define(v_change, _define_all.home, is_checking);
            if v_problem is not null then
                v_problems := v_problems operator(pg_catalog.||) v_problem;
            end if;
        end loop;
    end loop;

    return v_problems;
end
$$;

comment on function tinydevcrm._define_all(tinydevcrm._definition_change[], name, boolean) is
    'Makes changes until one fails; with is_checking as far as that harms nobody, and all of them. '
    'Returns the errors.';

create function tinydevcrm._note_managed(changes tinydevcrm._definition_change[])
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.matviews
       set is_managed = not matviews.is_managed
     where matviews.owner = quote_ident(current_user)::regrole
       and matviews.is_managed <> (
           matviews.relation::oid in (
               select tinydevcrm._relation(changes.schema_name::name, changes.relname)
                 from unnest(_note_managed.changes) as changes
                where changes.kind = 'view'
                  and changes.new is not null
           )
       )
$$;

comment on function tinydevcrm._note_managed(tinydevcrm._definition_change[]) is
    'Notes which of your views files define: those of these files, and no others.';

create function tinydevcrm.apply_definitions(wanted jsonb, is_pruning boolean default false)
    returns table (action text, kind text, name text)
    language plpgsql
    volatile
as $$
#variable_conflict use_column
declare
    v_changes tinydevcrm._definition_change[] := array(
        select changes
          from tinydevcrm._compare_definitions(
                   apply_definitions.wanted, apply_definitions.is_pruning,
                   pg_catalog.current_schema(), tinydevcrm._print_queries()) as changes
    );
    v_problem pg_catalog.jsonb := tinydevcrm._define_all(
        v_changes, pg_catalog.current_schema(), false) operator(pg_catalog.->) 0;
begin
    if v_problem is not null then
        perform tinydevcrm._raise_problem(v_problem);
    end if;

    perform tinydevcrm._note_managed(v_changes);
    perform tinydevcrm._keep_texts(v_changes);

    return query
    select changes.action,
           changes.kind,
           changes.name
      from pg_catalog.unnest(v_changes) as changes
     where changes.action is not null;
end
$$;

comment on function tinydevcrm.apply_definitions(jsonb, boolean) is
    'Makes what you have defined that which files hold: see tinydevcrm.plan_definitions(). With '
    'is_pruning, drops views, sources and subscriptions that they do not hold; tables stay. Returns '
    'what it has changed; nothing when all was so already. Registrations stay, and baselines where the '
    'compared columns are the same. Views are filled, and refreshed when their schedules are due. An '
    'error changes nothing: its message begins with kind and name.';

create function tinydevcrm._try_all(wanted jsonb)
    returns jsonb
    language plpgsql
    volatile
    set lock_timeout = '5s'
as $$
declare
    v_problems pg_catalog.jsonb;
begin
    v_problems := tinydevcrm._define_all(
        array(
            select changes
              from tinydevcrm._compare_definitions(
                       _try_all.wanted, false, pg_catalog.current_schema(),
                       tinydevcrm._print_queries()) as changes
        ),
        pg_catalog.current_schema(),
        true);
    raise exception using
        errcode = 'TD999',
        message = 'a check leaves nothing';
exception
    -- A code that ends in 000 would catch all errors of ours.
    when sqlstate 'TD999' then
        return v_problems;
end
$$;

comment on function tinydevcrm._try_all(jsonb) is
    'What stops definitions that can be read, once they are compared with what there is. Takes all '
    'back that it has done.';

create function tinydevcrm.check_definitions(wanted jsonb)
    returns table (kind text, name text, code text, message text, detail text, hint text)
    language plpgsql
    volatile
as $$
declare
    v_problems pg_catalog.jsonb := tinydevcrm._find_unreadable(
        check_definitions.wanted, pg_catalog.current_schema());
begin
    if v_problems operator(pg_catalog.=) '[]' then
        v_problems := tinydevcrm._try_all(check_definitions.wanted);
    end if;

    return query
    select problems.kind,
           problems.name,
           problems.code,
           problems.message,
           problems.detail,
           problems.hint
      from pg_catalog.jsonb_to_recordset(v_problems) as problems (
               kind text, name text, code text, message text, detail text, hint text);
end
$$;

comment on function tinydevcrm.check_definitions(jsonb) is
    'What would stop tinydevcrm.apply_definitions(), all of it: queries that cannot be read or name '
    'what there is not, bad settings. Runs no query, drops nothing, and leaves nothing. For what it '
    'does not find, see tinydevcrm._stand_in(). Raises the errors of tinydevcrm.plan_definitions().';

revoke execute on function
    tinydevcrm._list_steps(tinydevcrm._definition_change[], boolean),
    tinydevcrm._define_all(tinydevcrm._definition_change[], name, boolean),
    tinydevcrm._note_managed(tinydevcrm._definition_change[]),
    tinydevcrm.apply_definitions(jsonb, boolean),
    tinydevcrm._try_all(jsonb),
    tinydevcrm.check_definitions(jsonb)
from public;

grant execute on function
    tinydevcrm._list_steps(tinydevcrm._definition_change[], boolean),
    tinydevcrm._define_all(tinydevcrm._definition_change[], name, boolean),
    tinydevcrm._note_managed(tinydevcrm._definition_change[]),
    tinydevcrm.apply_definitions(jsonb, boolean),
    tinydevcrm._try_all(jsonb),
    tinydevcrm.check_definitions(jsonb)
to tinydevcrm_user;
