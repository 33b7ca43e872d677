-- A refresh: how it runs, what it finds, and what is recorded of it.
--
-- Each refresh calls PL/pgSQL, which keeps its plans (plain SQL would be planned each time), and as
-- few statements as possible: a refresh of a small view takes half a millisecond.

create function tinydevcrm._begin_refresh(matview tinydevcrm.matviews)
    returns tinydevcrm._refresh
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refresh tinydevcrm._refresh;
    v_is_own  boolean;
    v_asked_rules text[];
begin
    -- The lock is a row of its own, so that others can read and change the registry meanwhile.
    if not tinydevcrm._take_lock('matview', (matview).id) then
        return null;
    end if;

    -- Reads the registry again: another refresh may have ended since the caller read it.
    select case
               when not pg_class.relispopulated then 'it had not been filled yet'
               when not exists (
                   select
                     from pg_index
                    where indrelid = pg_class.oid
                      and indisunique
                      and indisvalid
                      and indimmediate
                      and indpred is null
                      and indexprs is null
               ) then 'it has no unique index on plain columns'
           end as plain_reason,
           registered.notify_when,
           registered.ignored_columns,
           case
               when registered.muted_until > clock_timestamp() then 'mute'
               when registered.last_notified_at + registered.notify_interval > clock_timestamp()
               then 'interval'
           end as quiet_by,
           not registered.is_failure_notified
               and registered.rule_count + 1 < registered.notify_after as is_early,
           registered.has_baseline,
           carried.columns,
           carried.column_names,
           case when registered.carries_all then 1000 else settings.event_row_limit end as row_limit,
           case
               when registered.carries_all then 1048576
               else settings.event_byte_limit
           end as byte_limit,
           settings.compare_row_limit as compare_limit,
           settings.refresh_lock_timeout as lock_timeout,
           exists (
               select
                 from tinydevcrm.matview_sources
                where matview_sources.relation = registered.relation
           ) as is_read,
           registered.asked_rules,
           tinydevcrm._is_session_of(pg_class.relowner)
      into v_refresh.plain_reason,
           v_refresh.notify_when,
           v_refresh.ignored_columns,
           v_refresh.quiet_by,
           v_refresh.is_early,
           v_refresh.has_baseline,
           v_refresh.columns,
           v_refresh.column_names,
           v_refresh.row_limit,
           v_refresh.byte_limit,
           v_refresh.compare_limit,
           v_refresh.lock_timeout,
           v_refresh.is_read,
           v_asked_rules,
           v_is_own
      from tinydevcrm.matviews as registered
      join pg_class
        on pg_class.oid = registered.relation
     cross join tinydevcrm.settings
     cross join lateral (
         -- to_jsonb() would call a cast to json that the owner of a type has created, with the
         -- rights of the role that refreshes. So a value of a type that is not built in is printed
         -- by its output function.
         select string_agg(
                    case
                        when atttypid >= 16384 then format(
                            'case num_nulls(%1$I) when 0 then format(%2$L, %1$I) end as %1$I',
                            attname, '%s')
                        else quote_ident(attname)
                    end,
                    ', ' order by attnum) as columns,
                array_agg(attname::text order by attnum) as column_names
           from pg_attribute
          where attrelid = pg_class.oid
            and attnum > 0
            and not attisdropped
     ) as carried
     where registered.id = (matview).id
       -- Until the lock was free, another session may have given the view another query.
       and registered.relation = (matview).relation;

    if not found then
        return null;
    end if;

    if not v_is_own then
        perform tinydevcrm._check_session_of((matview).relation);
    end if;

    v_refresh.method := case
        when v_refresh.plain_reason is null then 'concurrently'
        else 'plain'
    end;
    v_refresh.snapshot := tinydevcrm._current_snapshot();
    v_refresh.rule_compares := (
        select notify_rules.compares
          from tinydevcrm.notify_rules
         where notify_rules.name = v_refresh.notify_when
    );
    -- While it is quiet nothing is compared: the first refresh after that finds the changes.
    v_refresh.compares := v_refresh.quiet_by is null
        and (v_refresh.rule_compares or tinydevcrm._compares(v_asked_rules));
    return v_refresh;
end
$$;

comment on function tinydevcrm._begin_refresh(tinydevcrm.matviews) is
    'Takes the right to refresh a materialized view until the transaction ends, and chooses the '
    'method. Concurrently, so that readers do not wait, when the view is populated and has a '
    'unique index on plain columns without a where clause; else plain, with the reason. Null when '
    'another session has the right, or has just altered the query. Raises 42501 when the session '
    'has not logged in as the owner.';

create function tinydevcrm._read_rows(relation regclass, refresh tinydevcrm._refresh)
    returns tinydevcrm._refresh
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set synchronize_seqscans = off
as $$
declare
    v_refresh tinydevcrm._refresh := refresh;
begin
    perform tinydevcrm._check_session_of(_read_rows.relation);
    execute format(
        'select (select count(*) from %2$s),
                (select jsonb_agg(to_jsonb(carried.*))
                   from (select %1$s from %2$s limit $1) as carried)',
        v_refresh.columns, _read_rows.relation)
       into v_refresh.row_count, v_refresh.rows
      using case
          when v_refresh.notify_when in ('rows_added', 'rows_removed') then 0
          else v_refresh.row_limit
      end;

    if octet_length(v_refresh.rows::text) > v_refresh.byte_limit then
        v_refresh.rows := tinydevcrm._cut_rows(v_refresh.rows, v_refresh.byte_limit);
    end if;
    return v_refresh;
exception
    -- A value that jsonb cannot hold, such as a json text with \u0000 or 1e999999, does not make
    -- the refresh fail.
    when program_limit_exceeded or untranslatable_character or invalid_text_representation
         or numeric_value_out_of_range then
        execute format('select count(*) from %s', _read_rows.relation)
           into v_refresh.row_count;
        v_refresh.rows := null;
        return v_refresh;
end
$$;

comment on function tinydevcrm._read_rows(regclass, tinydevcrm._refresh) is
    'Adds to a refresh the number of rows, and the first rows as an array of objects within the '
    'limits. No rows when one of them cannot be jsonb, or when the event carries only added or '
    'removed ones. Raises 42501 when the session has not logged in as the owner.';

-- Runs the view's query, whose functions may rely on the caller's search_path. So it sets no
-- search_path and qualifies all names.
--
-- The setting belongs to Citus and does nothing without it. With the default, Citus would treat the
-- view as a local table to join with. A worker that is down would then end the whole transaction,
-- and with it the event of the failure.
create function tinydevcrm._refresh_matview(
    matview     tinydevcrm.matviews,
    schedule_id bigint default null,
    is_job      boolean default false,
    lock_wait   interval default null,
    looks_first boolean default false
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
as $$
#variable_conflict use_variable
declare
    v_started_at timestamptz := pg_catalog.clock_timestamp();
    v_refresh    tinydevcrm._refresh := tinydevcrm._begin_refresh(matview);
    v_begun      tinydevcrm._refresh := v_refresh;
    v_name       text := (matview).relation::pg_catalog.text;
    v_own_wait   text := pg_catalog.current_setting('lock_timeout');
begin
    if v_refresh.method is null then
        return tinydevcrm._record_refresh(matview, schedule_id, v_started_at, null);
    end if;

    begin
        v_begun.lock_timeout := tinydevcrm._limit_lock_waits(
            matview, v_refresh, is_job, lock_wait, looks_first);

        -- Keeps an event trigger from taking this for a refresh by hand: _follow_commands().
        perform pg_catalog.set_config('tinydevcrm_own.refresh', 'on', true);
        if v_refresh.method = 'plain' then
            execute pg_catalog.format('refresh materialized view %s', (matview).relation);
        else
            v_refresh.method := tinydevcrm._refresh_concurrently(matview);
        end if;
        perform pg_catalog.set_config('tinydevcrm_own.refresh', '', true);

        -- From here on the view is locked. Before that, the owner of its schema may have put
        -- another view in its place, and the statements below would run that view's code.
        if pg_catalog.to_regclass(v_name) is distinct from (matview).relation then
            raise exception using
                errcode = '55000',
                message = pg_catalog.format('%s is not the materialized view that it was', v_name),
                hint    = 'Try again.';
        end if;

        if v_refresh.method = 'plain' and (matview).key is not null then
            v_refresh.plain_reason := tinydevcrm._restore_key(matview);
        end if;

        v_refresh := tinydevcrm._read_rows((matview).relation, v_refresh);

        if v_refresh.compares then
            v_refresh := tinydevcrm._compare_rows(matview, v_refresh);
        end if;
        if v_refresh.compares or v_refresh.is_read then
            v_refresh := tinydevcrm._detect_change(matview, v_refresh);
        end if;

        perform pg_catalog.set_config('lock_timeout', v_own_wait, true);
    exception
        -- The event reports every error that stopped the refresh. "Others" does not include a
        -- cancel, which is how a statement timeout shows. A cancel outside of a job is raised: the
        -- caller caused it. So is one that other refreshes of the job have caused.
        when query_canceled or others then
            if sqlstate = '57014'
               and (not is_job
                    or tinydevcrm._is_round_timeout(v_started_at)
                       and not tinydevcrm._is_overdue(v_started_at, 0.9))
            then
                raise;
            end if;
            v_refresh := v_begun;
            get stacked diagnostics
                v_refresh.error_code    = returned_sqlstate,
                v_refresh.error_message = message_text;
            v_refresh.error_message := tinydevcrm._explain_failure(
                (matview).relation,
                v_refresh,
                pg_catalog.clock_timestamp() operator(pg_catalog.-) v_started_at);
    end;

    return tinydevcrm._record_refresh(matview, schedule_id, v_started_at, v_refresh);
end
$$;

comment on function tinydevcrm._refresh_matview(
    tinydevcrm.matviews, bigint, boolean, interval, boolean
) is
    'Refreshes a materialized view and records how it went. A job waits for a lock no longer than '
    'lock_wait. When it looks first, it does not wait for one that a transaction has held for '
    'longer, so that readers do not queue behind it. Does not raise the errors of the refresh, '
    'except a cancel outside of a job, or by the statement_timeout of a job that other refreshes '
    'have used up. Raises 42501 when the session has not logged in as the owner.';

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm.refresh_matview(relation regclass)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(refresh_matview.relation);
begin
    if not tinydevcrm._is_session_of(v_matview.owner) then
        perform tinydevcrm._request_refresh(v_matview);
        return null;
    end if;

    return tinydevcrm._refresh_matview(v_matview);
end
$$;

comment on function tinydevcrm.refresh_matview(regclass) is
    'Refreshes a watched materialized view now and returns the event. A failure returns an event '
    'too, with the outcome failed, and raises no error. A session that has not logged in as the '
    'owner, such as an administrator''s or one after "set role", only requests the refresh from a '
    'job of the owner, and gets null: see tinydevcrm.refresh_requests. Raises TD001 when it is not '
    'watched, 42501 when you may not request it.';

select tinydevcrm._set_for_citus(
    'tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean, interval, boolean)',
    'citus.local_table_join_policy', 'never');

revoke execute on function
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._read_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean, interval, boolean),
    tinydevcrm.refresh_matview(regclass)
from public;

grant execute on function
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._read_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean, interval, boolean),
    tinydevcrm.refresh_matview(regclass)
to tinydevcrm_user;
