-- What would change to make a role's definitions those that files hold.

create type tinydevcrm._definition_change as (
    action      text,
    kind        text,
    name        text,
    schema_name text,
    relname     text,
    old         jsonb,
    new         jsonb,
    old_texts   jsonb,
    new_texts   jsonb
);

comment on type tinydevcrm._definition_change is
    'One thing that is defined now (old) or wanted (new), both with secrets, and how files write the '
    'keys that may be secret. action is create, alter, replace (it is dropped and made again, because '
    'what is changed cannot be altered) or drop; null when nothing changes.';

create function tinydevcrm._normalize_definition(wanted jsonb, home name)
    returns tinydevcrm._definition
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind   constant text := wanted ->> 'kind';
    v_given  constant jsonb := coalesce(wanted -> 'definition', '{}');
    v_result tinydevcrm._definition;
    v_key    text;
begin
    v_result.kind := v_kind;
    v_result.name := wanted ->> 'name';

    select given.key
      into v_key
      from jsonb_object_keys(v_given) as given (key)
     where (v_kind, given.key) not in (
               select definition_keys.kind,
                      definition_keys.name
                 from tinydevcrm.definition_keys
           )
     limit 1;

    if found or v_result.name is null then
        raise exception using
            errcode = 'TD007',
            message = format('there is no key %L of a %L, or no name', v_key, v_kind),
            hint    = 'tinydevcrm.definition_keys lists them.';
    end if;

    if v_kind = 'table' then
        v_result.name := tinydevcrm._normalize_name(v_result.name, _normalize_definition.home);
    elsif v_kind = 'view' then
        v_result.schema_name := coalesce(wanted ->> 'schema', _normalize_definition.home::text);
        v_result.relname := v_result.name;
        v_result.name := tinydevcrm._shorten_name(
            v_result.schema_name, v_result.relname, _normalize_definition.home);
    end if;

    v_result.definition := tinydevcrm._without_nulls(
        case v_kind
            when 'table' then jsonb_build_object('tracked', (v_given ->> 'tracked')::boolean)
            when 'view' then tinydevcrm._normalize_view(v_given)
            when 'source' then
                tinydevcrm._normalize_source(v_result.name, v_given, _normalize_definition.home)
            when 'subscription' then
                tinydevcrm._normalize_subscription(v_given, _normalize_definition.home)
        end);
    v_result.texts := (
        select coalesce(jsonb_object_agg(texts.key, texts.value), '{}')
          from jsonb_each(wanted -> 'texts') as texts
         where v_result.definition ? texts.key
    );
    return v_result;
end
$$;

comment on function tinydevcrm._normalize_definition(jsonb, name) is
    'Reads {"kind", "name", "schema", "definition", "texts"}, in which name and schema of a view are as '
    'they are, and texts has what the file writes for keys that may be secret. Raises TD007 for an '
    'unknown kind or key, and the errors of bad values.';

create function tinydevcrm._find_unreadable(wanted jsonb, home name)
    returns jsonb
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_one      jsonb;
    v_detail   text;
    v_hint     text;
    v_problems jsonb := '[]';
begin
    for v_one in
        select jsonb_array_elements(_find_unreadable.wanted)
    loop
        begin
            perform tinydevcrm._normalize_definition(v_one, _find_unreadable.home);
        exception
            when others then
                get stacked diagnostics v_detail = pg_exception_detail, v_hint = pg_exception_hint;
                v_problems := v_problems || jsonb_build_object(
                    'kind', v_one -> 'kind',
                    'name', v_one -> 'name',
                    'code', sqlstate,
                    'message', sqlerrm,
                    'detail', v_detail,
                    'hint', v_hint);
        end;
    end loop;

    return v_problems;
end
$$;

comment on function tinydevcrm._find_unreadable(jsonb, name) is
    'The wanted definitions that cannot be read, such as one with an unknown key or a bad interval, '
    'each with its error.';

create function tinydevcrm._raise_problem(problem jsonb)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = problem ->> 'code',
        message = format(
            '%s %s: %s', problem ->> 'kind', problem ->> 'name', problem ->> 'message'),
        detail  = coalesce(problem ->> 'detail', ''),
        hint    = coalesce(problem ->> 'hint', '');
end
$$;

comment on function tinydevcrm._raise_problem(jsonb) is
    'Raises an error that was caught, with the name of what it is about.';

create function tinydevcrm._read_wanted(wanted jsonb, home name)
    returns setof tinydevcrm._definition
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem jsonb := tinydevcrm._find_unreadable(_read_wanted.wanted, _read_wanted.home) -> 0;
    v_read    tinydevcrm._definition[];
begin
    if v_problem is not null then
        perform tinydevcrm._raise_problem(v_problem);
    end if;

    v_read := array(
        select normalized
          from jsonb_array_elements(_read_wanted.wanted) as given
         cross join lateral tinydevcrm._normalize_definition(given, _read_wanted.home) as normalized
    );

    select jsonb_build_object(
               'kind', definitions.kind,
               'name', definitions.name,
               'code', 'TD007',
               'message', 'it is defined twice',
               'hint', 'A name with the first schema of the search_path and one without it mean the same.')
      into v_problem
      from unnest(v_read) as definitions
     group by definitions.kind,
              definitions.name
    having count(*) > 1
     limit 1;

    if v_problem is not null then
        perform tinydevcrm._raise_problem(v_problem);
    end if;

    return query
    select definitions.*
      from unnest(v_read) as definitions;
end
$$;

comment on function tinydevcrm._read_wanted(jsonb, name) is
    'Reads a list of wanted definitions. An error names the one that it is about. Raises TD007 when '
    'one is there twice.';

create function tinydevcrm._find_action(kind text, old jsonb, new jsonb)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _find_action.old is null then 'create'
               when _find_action.new is null then 'drop'
               when _find_action.old = _find_action.new then null
               when _find_action.kind = 'source'
                    and _find_action.old -> 'table' is distinct from _find_action.new -> 'table'
                    or _find_action.kind = 'subscription'
                       and (
                           _find_action.old -> 'view' is distinct from _find_action.new -> 'view'
                           or _find_action.old ? 'url' <> _find_action.new ? 'url'
                           or _find_action.old ? 'recipients' <> _find_action.new ? 'recipients'
                       )
               then 'replace'
               else 'alter'
           end
$$;

comment on function tinydevcrm._find_action(text, jsonb, jsonb) is
    'What makes one definition another: see tinydevcrm._definition_change.';

create function tinydevcrm._compare_definitions(
    wanted     jsonb,
    is_pruning boolean,
    home       name,
    printed    jsonb
)
    returns setof tinydevcrm._definition_change
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._find_action(kind, compared.old, compared.new),
           kind,
           name,
           coalesce(wanted.schema_name, defined.schema_name),
           coalesce(wanted.relname, defined.relname),
           compared.old,
           compared.new,
           defined.texts,
           wanted.texts
      from tinydevcrm._name_variables(
               _compare_definitions.home, _compare_definitions.printed) as defined
      full join tinydevcrm._read_wanted(
               _compare_definitions.wanted, _compare_definitions.home) as wanted
     using (kind, name)
     -- What is kept unless a file says something else is not compared then.
     cross join lateral (
         select array_agg(definition_keys.name) as names
           from tinydevcrm.definition_keys
          where definition_keys.kind = coalesce(wanted.kind, defined.kind)
            and definition_keys.is_kept
            and not coalesce(wanted.definition, '{}') ? definition_keys.name
     ) as kept
     cross join lateral (
         select case
                    when wanted.kind is null then defined.definition
                    when wanted.kind = 'table' then
                        coalesce(defined.definition, '{"tracked": false}')
                    when wanted.definition ->> 'paused' = 'false' then
                        '{"paused": false}' || (defined.definition - coalesce(kept.names, '{}'))
                    else defined.definition - coalesce(kept.names, '{}')
                end as old,
                wanted.definition as new
     ) as compared
     where wanted.kind is not null
        or _compare_definitions.is_pruning and kind <> 'table'
     order by array_position('{table,view,source,subscription}', kind),
              name collate "C"
$$;

comment on function tinydevcrm._compare_definitions(jsonb, boolean, name, jsonb) is
    'Each wanted definition beside the one that there is, also when nothing changes; with is_pruning '
    'also what there is and nobody wants, but never tables.';

create function tinydevcrm._show_secret(old jsonb, new jsonb, old_text jsonb, new_text jsonb)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when _show_secret.old = _show_secret.new then
                   coalesce(_show_secret.new_text, _show_secret.old_text)
               when _show_secret.old_text = _show_secret.new_text then
                   to_jsonb((_show_secret.old_text #>> '{}') || ' with another value')
               else _show_secret.old_text
           end
$$;

comment on function tinydevcrm._show_secret(jsonb, jsonb, jsonb, jsonb) is
    'How a plan shows a text that there is and may be secret: as the file writes the wanted one, if '
    'it is the same; else as it would be exported.';

create function tinydevcrm._show_old(change tinydevcrm._definition_change)
    returns jsonb
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select (change).old || coalesce(
               jsonb_object_agg(
                   texts.key,
                   case jsonb_typeof(texts.value)
                       when 'object' then (
                           select jsonb_object_agg(
                                      parts.key,
                                      tinydevcrm._show_secret(
                                          (change).old #> array[texts.key, parts.key],
                                          (change).new #> array[texts.key, parts.key],
                                          parts.value,
                                          (change).new_texts #> array[texts.key, parts.key]))
                             from jsonb_each(texts.value) as parts
                       )
                       else tinydevcrm._show_secret(
                           (change).old -> texts.key,
                           (change).new -> texts.key,
                           texts.value,
                           (change).new_texts -> texts.key)
                   end),
               '{}')
      from jsonb_each((change).old_texts) as texts
     where (change).old ? texts.key
$$;

comment on function tinydevcrm._show_old(tinydevcrm._definition_change) is
    'The definition that there is, without secrets.';

create function tinydevcrm.plan_definitions(
    wanted     jsonb,
    is_pruning boolean default false,
    home       name default current_schema(),
    printed    jsonb default tinydevcrm._print_queries()
)
    returns table (
        action      text,
        kind        text,
        name        text,
        schema_name text,
        relname     text,
        old         jsonb,
        new         jsonb
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select changes.action,
           changes.kind,
           changes.name,
           nullif(changes.schema_name, plan_definitions.home::text),
           changes.relname,
           tinydevcrm._show_old(changes),
           changes.new || changes.new_texts
      from tinydevcrm._compare_definitions(
               plan_definitions.wanted, plan_definitions.is_pruning, plan_definitions.home,
               plan_definitions.printed) as changes
     where changes.action is not null
$$;

comment on function tinydevcrm.plan_definitions(jsonb, boolean, name, jsonb) is
    'What tinydevcrm.apply_definitions() would change, as definitions without secrets: see '
    'tinydevcrm.export_definitions(). old is null for what would be created, new for what would be '
    'dropped. Changes nothing. Raises TD007 for an unknown kind or key and for one that is there twice, '
    'and the errors of bad values.';

revoke execute on function
    tinydevcrm._normalize_definition(jsonb, name),
    tinydevcrm._find_unreadable(jsonb, name),
    tinydevcrm._raise_problem(jsonb),
    tinydevcrm._read_wanted(jsonb, name),
    tinydevcrm._find_action(text, jsonb, jsonb),
    tinydevcrm._compare_definitions(jsonb, boolean, name, jsonb),
    tinydevcrm._show_secret(jsonb, jsonb, jsonb, jsonb),
    tinydevcrm._show_old(tinydevcrm._definition_change),
    tinydevcrm.plan_definitions(jsonb, boolean, name, jsonb)
from public;

grant execute on function
    tinydevcrm._normalize_definition(jsonb, name),
    tinydevcrm._find_unreadable(jsonb, name),
    tinydevcrm._raise_problem(jsonb),
    tinydevcrm._read_wanted(jsonb, name),
    tinydevcrm._find_action(text, jsonb, jsonb),
    tinydevcrm._compare_definitions(jsonb, boolean, name, jsonb),
    tinydevcrm._show_secret(jsonb, jsonb, jsonb, jsonb),
    tinydevcrm._show_old(tinydevcrm._definition_change),
    tinydevcrm.plan_definitions(jsonb, boolean, name, jsonb)
to tinydevcrm_user;
