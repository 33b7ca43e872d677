-- Gives tables, views and sources what their definitions say, through the functions that people call.

create function tinydevcrm._differs(change tinydevcrm._definition_change, keys text[])
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
          from unnest(_differs.keys) as keys (key)
         where coalesce((change).old, '{}') -> keys.key is distinct from (change).new -> keys.key
    )
$$;

comment on function tinydevcrm._differs(tinydevcrm._definition_change, text[]) is
    'Whether a change is one of these keys.';

create function tinydevcrm._is_wanted(change tinydevcrm._definition_change, key text)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(((change).new ->> _is_wanted.key)::boolean, false)
$$;

comment on function tinydevcrm._is_wanted(tinydevcrm._definition_change, text) is
    'The wanted value of a boolean; false when it is not given.';

create function tinydevcrm._find_defined_table(change tinydevcrm._definition_change, home name)
    returns regclass
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_named    constant record := tinydevcrm._read_name((change).name, _find_defined_table.home);
    v_relation constant regclass := tinydevcrm._relation(v_named.schema_name::name, v_named.relname);
begin
    if v_relation is null then
        raise exception using
            errcode = '42P01',
            message = 'there is no such table',
            hint    = 'Import it first: the files hold no rows.';
    end if;

    return v_relation;
end
$$;

comment on function tinydevcrm._find_defined_table(tinydevcrm._definition_change, name) is
    'The table that a definition names. Raises 42P01 when there is none.';

create function tinydevcrm._define_table(change tinydevcrm._definition_change, home name)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation constant regclass := tinydevcrm._find_defined_table(change, _define_table.home);
begin
    if tinydevcrm._is_wanted(change, 'tracked') then
        perform tinydevcrm.track_table(v_relation);
    -- A view that was made meanwhile may have tracked it.
    elsif tinydevcrm._is_table_tracked(v_relation) then
        perform tinydevcrm.untrack_table(v_relation);
    end if;
end
$$;

comment on function tinydevcrm._define_table(tinydevcrm._definition_change, name) is
    'Tracks a table, or ends that. Raises 42P01 when there is none, and what track_table() raises.';

create function tinydevcrm._set_rule(relation regclass, definition jsonb)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm.watch_matview(
               _set_rule.relation,
               _set_rule.definition ->> 'notify_when',
               coalesce(tinydevcrm._list_texts(_set_rule.definition -> 'ignored_columns'), '{}'),
               coalesce((_set_rule.definition ->> 'notify_interval')::interval, '0'),
               coalesce((_set_rule.definition ->> 'notify_after')::integer, 1),
               coalesce((_set_rule.definition ->> 'notify_deadline')::interval, '0'))
$$;

comment on function tinydevcrm._set_rule(regclass, jsonb) is
    'Gives a view the rule of a definition, and watches it first if it is not.';

create function tinydevcrm._change_key(relation regclass, key text[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(_change_key.relation);
begin
    perform tinydevcrm._check_session_of(_change_key.relation);
    perform tinydevcrm._drop_key_index(v_matview);

    update tinydevcrm.matviews
       set key = null
     where matviews.id = v_matview.id;

    perform tinydevcrm._set_key(_change_key.relation, _change_key.key);
end
$$;

comment on function tinydevcrm._change_key(regclass, text[]) is
    'Gives a view another key, or none, with its index. Raises TD009 when two rows have the same, '
    '42501 when the session has not logged in as the owner.';

create function tinydevcrm._set_view(change tinydevcrm._definition_change, relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_new constant jsonb := (change).new;
begin
    if tinydevcrm._differs(change, '{schedule,catch_up}') then
        update tinydevcrm.matviews
           set schedule = v_new ->> 'schedule',
               catch_up = (v_new ->> 'catch_up')::boolean
         where matviews.relation = _set_view.relation;
    end if;

    update tinydevcrm.matviews
       set refresh_interval = coalesce((v_new ->> 'refresh_interval')::interval, '1 second'),
           is_paused = coalesce((v_new ->> 'paused')::boolean, matviews.is_paused),
           is_managed = true
     where matviews.relation = _set_view.relation;

    if v_new ? 'muted_until' and tinydevcrm._differs(change, '{muted_until}') then
        perform tinydevcrm.mute_matview(_set_view.relation, (v_new ->> 'muted_until')::timestamptz);
    end if;

    if tinydevcrm._differs(change, '{description}') then
        perform tinydevcrm._check_session_of(_set_view.relation);
        execute format(
            'comment on materialized view %s is %L', _set_view.relation, v_new ->> 'description');
    end if;

    if tinydevcrm._differs(change, '{origins}') then
        if v_new ? 'origins' then
            perform tinydevcrm.allow_embedding(
                _set_view.relation, tinydevcrm._list_texts(v_new -> 'origins'));
        else
            perform tinydevcrm.forbid_embedding(_set_view.relation);
        end if;
    end if;
end
$$;

comment on function tinydevcrm._set_view(tinydevcrm._definition_change, regclass) is
    'Sets what a definition says of a view beside its query, rule and key.';

create function tinydevcrm._replace_rule(change tinydevcrm._definition_change, relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tinydevcrm._differs(
           change, '{notify_when,ignored_columns,notify_interval,notify_after,notify_deadline}')
    then
        perform tinydevcrm._set_rule(_replace_rule.relation, (change).new);
    end if;

    if tinydevcrm._differs(change, '{key}') then
        perform tinydevcrm._change_key(
            _replace_rule.relation, tinydevcrm._list_texts((change).new -> 'key'));
    end if;
end
$$;

comment on function tinydevcrm._replace_rule(tinydevcrm._definition_change, regclass) is
    'Gives a view that there is the rule and the key of its definition, where they differ.';

create function tinydevcrm._define_source(change tinydevcrm._definition_change, home name)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_new    constant jsonb := (change).new;
    v_named  constant record := tinydevcrm._read_name(
        coalesce(v_new ->> 'table', quote_ident((change).name)), _define_source.home);
begin
    if (change).action = 'replace' then
        perform tinydevcrm.drop_source((change).name);
    end if;

    if (change).action in ('create', 'replace') then
        perform tinydevcrm.create_source(
            name => (change).name,
            url => v_new ->> 'url',
            table_name => v_named.relname,
            mode => v_new ->> 'mode',
            key => tinydevcrm._list_texts(v_new -> 'key'),
            options => coalesce(v_new -> 'options', '{}'),
            schedule => v_new ->> 'schedule',
            headers => coalesce(v_new -> 'headers', '{}'),
            refuse_if_fewer => (v_new ->> 'refuse_if_fewer')::numeric,
            accepts_empty => tinydevcrm._is_wanted(change, 'accepts_empty'),
            notify_deadline => coalesce((v_new ->> 'notify_deadline')::interval, '0'),
            schema_name => v_named.schema_name::name);
    else
        perform tinydevcrm.alter_source(
            name => (change).name,
            url => v_new ->> 'url',
            headers => coalesce(v_new -> 'headers', '{}'),
            options => coalesce(v_new -> 'options', '{}'),
            schedule => coalesce(v_new ->> 'schedule', ''),
            refuse_if_fewer => coalesce((v_new ->> 'refuse_if_fewer')::numeric, 0),
            notify_deadline => coalesce((v_new ->> 'notify_deadline')::interval, '0'),
            mode => v_new ->> 'mode',
            key => coalesce(tinydevcrm._list_texts(v_new -> 'key'), '{}'),
            accepts_empty => tinydevcrm._is_wanted(change, 'accepts_empty'));
    end if;

    if v_new ? 'paused' and tinydevcrm._differs(change, '{paused}') then
        perform tinydevcrm._set_source_pause((change).name, (v_new ->> 'paused')::boolean);
    end if;
end
$$;

comment on function tinydevcrm._define_source(tinydevcrm._definition_change, name) is
    'Creates, alters or replaces a source. The table stays.';

create function tinydevcrm._find_defined_view(name text, home name)
    returns regclass
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_named    record;
    v_relation regclass;
begin
    if _find_defined_view.name is null then
        return null;
    end if;

    v_named := tinydevcrm._read_name(_find_defined_view.name, _find_defined_view.home);
    v_relation := tinydevcrm._relation(v_named.schema_name::name, v_named.relname);
    if v_relation is null then
        raise exception using
            errcode = 'TD001',
            message = format('there is no view %s', _find_defined_view.name),
            hint    = 'Write a file for it, or name another one.';
    end if;

    return coalesce(
        (
            nullif(current_setting('definitions.stand_ins', true), '')::jsonb
            ->> v_relation::oid::text
        )::oid,
        v_relation);
end
$$;

comment on function tinydevcrm._find_defined_view(text, name) is
    'The view that a definition names, or what stands in for it during a check; null for none. Raises '
    'TD001 when there is no such view.';

revoke execute on function
    tinydevcrm._differs(tinydevcrm._definition_change, text[]),
    tinydevcrm._is_wanted(tinydevcrm._definition_change, text),
    tinydevcrm._find_defined_table(tinydevcrm._definition_change, name),
    tinydevcrm._define_table(tinydevcrm._definition_change, name),
    tinydevcrm._set_rule(regclass, jsonb),
    tinydevcrm._change_key(regclass, text[]),
    tinydevcrm._set_view(tinydevcrm._definition_change, regclass),
    tinydevcrm._replace_rule(tinydevcrm._definition_change, regclass),
    tinydevcrm._define_source(tinydevcrm._definition_change, name),
    tinydevcrm._find_defined_view(text, name)
from public;

grant execute on function
    tinydevcrm._differs(tinydevcrm._definition_change, text[]),
    tinydevcrm._is_wanted(tinydevcrm._definition_change, text),
    tinydevcrm._find_defined_table(tinydevcrm._definition_change, name),
    tinydevcrm._define_table(tinydevcrm._definition_change, name),
    tinydevcrm._set_rule(regclass, jsonb),
    tinydevcrm._change_key(regclass, text[]),
    tinydevcrm._set_view(tinydevcrm._definition_change, regclass),
    tinydevcrm._replace_rule(tinydevcrm._definition_change, regclass),
    tinydevcrm._define_source(tinydevcrm._definition_change, name),
    tinydevcrm._find_defined_view(text, name)
to tinydevcrm_user;
