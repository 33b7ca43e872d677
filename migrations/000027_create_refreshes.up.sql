-- A refresh: how it runs, what it finds, and what is recorded of it.
--
-- Each refresh calls PL/pgSQL, which keeps its plans (plain SQL would be planned each time), and as
-- few statements as possible: a refresh of a small view takes half a millisecond.

create table tinydevcrm.refresh_requests (
    matview_id   bigint not null,
    requested_by regrole not null default quote_ident(current_user)::regrole,
    requested_at timestamptz not null default clock_timestamp(),

    constraint refresh_requests_pkey primary key (matview_id),
    constraint refresh_requests_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade
);

comment on table tinydevcrm.refresh_requests is
    'Refreshes that were requested in a session that has not logged in as the owner of the '
    'materialized view. A pg_cron job of the owner runs them within a minute. Any refresh of the '
    'view removes the request.';
comment on column tinydevcrm.refresh_requests.matview_id is
    'The materialized view.';
comment on column tinydevcrm.refresh_requests.requested_by is
    'Role that requested it first.';
comment on column tinydevcrm.refresh_requests.requested_at is
    'When it was first requested.';

alter table tinydevcrm.refresh_requests enable row level security;

create policy refresh_requests_owner on tinydevcrm.refresh_requests
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = refresh_requests.matview_id
           and pg_has_role(matviews.owner, 'usage')
    ));

create policy refresh_requests_admin on tinydevcrm.refresh_requests
    to tinydevcrm_admin
    using (true);

grant select, insert (matview_id) on tinydevcrm.refresh_requests to tinydevcrm_user;

create function tinydevcrm._request_refresh(matview tinydevcrm.matviews)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into tinydevcrm.refresh_requests (matview_id)
    values ((matview).id)
    on conflict on constraint refresh_requests_pkey do nothing;

    raise notice '% will be refreshed within a minute, by a job of its owner %',
        (matview).relation, (matview).owner;
exception
    when insufficient_privilege then
        raise exception using
            errcode = '42501',
            message = format('must be owner of materialized view %s', (matview).relation);
end
$$;

comment on function tinydevcrm._request_refresh(tinydevcrm.matviews) is
    'Requests a refresh by a job of the owner, and says so in a notice. Raises 42501 when the '
    'caller is not an administrator and does not have the owner''s rights.';

create function tinydevcrm._matview_refresh_events_remember()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.outcome = 'skipped' then
        update tinydevcrm.matviews
           set last_scheduled_at = new.started_at
         where matviews.id = new.matview_id
           and new.schedule_id is not null;
        return null;
    end if;

    update tinydevcrm.matviews
       set last_scheduled_at = case
               when new.schedule_id is null then matviews.last_scheduled_at
               else new.started_at
           end,
           last_outcome = new.outcome,
           last_refreshed_at = new.started_at,
           last_notified_at = case
               when new.is_notified and new.outcome <> 'failed' then new.started_at
               else matviews.last_notified_at
           end,
           failing_since = case new.outcome
               when 'failed' then coalesce(matviews.failing_since, new.started_at)
           end
     where matviews.id = new.matview_id;

    delete
      from tinydevcrm.refresh_requests
     where refresh_requests.matview_id = new.matview_id;

    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_remember() is
    'Writes outcomes and times of an event into the registry. Security definer: users write '
    'neither. As a trigger it runs only for an event that row-level security has let through, and '
    'writes only the registration that the event names.';

create trigger _500_remember
    after insert on tinydevcrm.matview_refresh_events
    for each row
    execute function tinydevcrm._matview_refresh_events_remember();

create function tinydevcrm._cut_text(text text)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when octet_length(_cut_text.text) <= 10000 then _cut_text.text
        else left(_cut_text.text, 2500)
    end;
end
$$;

comment on function tinydevcrm._cut_text(text) is
    'A text of up to 10,000 bytes as it is, or the first 2,500 characters of a longer one.';

create function tinydevcrm._begin_refresh(matview tinydevcrm.matviews)
    returns tinydevcrm._refresh
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refresh tinydevcrm._refresh;
    v_is_own  boolean;
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
           coalesce(
               registered.last_notified_at + registered.notify_interval > clock_timestamp(),
               false) as is_quiet,
           registered.has_baseline,
           carried.columns,
           carried.column_names,
           settings.event_row_limit as row_limit,
           settings.event_byte_limit as byte_limit,
           tinydevcrm._is_session_of(pg_class.relowner)
      into v_refresh.plain_reason,
           v_refresh.notify_when,
           v_refresh.ignored_columns,
           v_refresh.is_quiet,
           v_refresh.has_baseline,
           v_refresh.columns,
           v_refresh.column_names,
           v_refresh.row_limit,
           v_refresh.byte_limit,
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
     where registered.id = (matview).id;

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
    -- Within the notify_interval nothing is compared: the first refresh after it finds the changes.
    v_refresh.compares :=
        not v_refresh.is_quiet
        and (
            select notify_rules.compares
              from tinydevcrm.notify_rules
             where notify_rules.name = v_refresh.notify_when
        );
    return v_refresh;
end
$$;

comment on function tinydevcrm._begin_refresh(tinydevcrm.matviews) is
    'Takes the right to refresh a materialized view until the transaction ends, and chooses the '
    'method. Concurrently, so that readers do not wait, when the view is populated and has a '
    'unique index on plain columns without a where clause; else plain, with the reason. Null when '
    'another session has the right. Raises 42501 when the session has not logged in as the owner.';

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
      using case when v_refresh.notify_when = 'rows_added' then 0 else v_refresh.row_limit end;

    if octet_length(v_refresh.rows::text) > v_refresh.byte_limit then
        v_refresh.rows := tinydevcrm._cut_rows(v_refresh.rows, v_refresh.byte_limit);
    end if;
    return v_refresh;
exception
    -- A value that jsonb cannot hold, such as a json text with \u0000, does not make the refresh
    -- fail.
    when program_limit_exceeded or untranslatable_character or invalid_text_representation then
        execute format('select count(*) from %s', _read_rows.relation)
           into v_refresh.row_count;
        v_refresh.rows := null;
        return v_refresh;
end
$$;

comment on function tinydevcrm._read_rows(regclass, tinydevcrm._refresh) is
    'Adds to a refresh the number of rows, and the first rows as an array of objects within the '
    'limits. No rows when one of them cannot be jsonb, or when the event carries added rows '
    'instead. Raises 42501 when the session has not logged in as the owner.';

create function tinydevcrm._remember_refresh(
    matview tinydevcrm.matviews,
    refresh tinydevcrm._refresh
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_known tinydevcrm.matviews := matview;
begin
    -- Rows that come within the notify_interval stay new until a refresh notifies of them.
    if not (refresh).is_quiet or (refresh).row_count = 0 then
        v_known.last_row_count := (refresh).row_count;
    end if;

    v_known.has_baseline := (matview).has_baseline
        or (refresh).compares
           and (refresh).notify_when = (matview).notify_when
           and (refresh).ignored_columns = (matview).ignored_columns;
    v_known.plain_reason := tinydevcrm._cut_text((refresh).plain_reason);

    if v_known is distinct from matview then
        update tinydevcrm.matviews
           set last_row_count = v_known.last_row_count,
               has_baseline = v_known.has_baseline,
               plain_reason = v_known.plain_reason
         where matviews.id = v_known.id;
    end if;
end
$$;

comment on function tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh) is
    'Writes to the registry what the next refresh is compared with, where it has changed.';

create function tinydevcrm._record_refresh(
    matview     tinydevcrm.matviews,
    schedule_id bigint,
    started_at  timestamptz,
    refresh     tinydevcrm._refresh
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview      tinydevcrm.matviews;
    v_outcome      text;
    v_is_notified      boolean;
    v_is_plain_now boolean;
    v_event        tinydevcrm.matview_refresh_events;
begin
    -- Reads the registry once more, for a skip too. When the registration has been dropped, there
    -- is nothing to record.
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.id = (matview).id;

    if not found then
        return null;
    end if;

    v_outcome := case
        when (refresh).method is null then 'skipped'
        when (refresh).error_code is not null then 'failed'
        when v_matview.last_outcome = 'failed' then 'recovered'
        else 'refreshed'
    end;
    -- A key that rows have come to share notifies once.
    v_is_plain_now := v_matview.key is not null
        and v_matview.plain_reason is null
        and v_outcome = 'refreshed'
        and (refresh).plain_reason is not null;
    v_is_notified := tinydevcrm._should_notify(v_matview, refresh, v_outcome) or v_is_plain_now;

    if v_outcome in ('refreshed', 'recovered') then
        perform tinydevcrm._remember_refresh(v_matview, refresh);
    end if;

    insert into tinydevcrm.matview_refresh_events (
               matview_id, schedule_id, outcome, is_notified, method, plain_reason,
               row_count, added_count, removed_count, columns, rows, is_cut,
               error_code, error_message, duration)
    values (
               v_matview.id,
               _record_refresh.schedule_id,
               v_outcome,
               v_is_notified,
               (refresh).method,
               case when v_is_plain_now then tinydevcrm._cut_text((refresh).plain_reason) end,
               (refresh).row_count,
               (refresh).added_count,
               (refresh).removed_count,
               case when v_is_notified and (refresh).rows is not null then (refresh).column_names end,
               case when v_is_notified then (refresh).rows end,
               v_is_notified
               and coalesce(jsonb_array_length((refresh).rows), 0) < coalesce(
                   case
                       when (refresh).notify_when = 'rows_added' then (refresh).added_count
                       else (refresh).row_count
                   end,
                   0),
               (refresh).error_code,
               tinydevcrm._cut_text((refresh).error_message),
               -- Not negative, even when the clock is set back.
               greatest(
                   least(clock_timestamp() - _record_refresh.started_at, interval '7 days'),
                   interval '0'))
    returning matview_refresh_events.*
         into v_event;

    return v_event;
end
$$;

comment on function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh
) is
    'Writes the event of a refresh, and what the next refresh is compared with. A null refresh is '
    'a skip. Writes nothing and returns null when the registration is gone. The only function that '
    'writes tinydevcrm.matview_refresh_events.';

-- Runs the view's query, whose functions may rely on the caller's search_path. So it sets no
-- search_path and qualifies all names.
--
-- The setting belongs to Citus and does nothing without it. With the default, Citus would treat the
-- view as a local table to join with. A worker that is down would then end the whole transaction,
-- and with it the event of the failure.
create function tinydevcrm._refresh_matview(
    matview     tinydevcrm.matviews,
    schedule_id bigint default null,
    is_job      boolean default false
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
    set citus.local_table_join_policy = 'never'
as $$
#variable_conflict use_variable
declare
    v_started_at timestamptz := pg_catalog.clock_timestamp();
    v_refresh    tinydevcrm._refresh := tinydevcrm._begin_refresh(matview);
    v_begun      tinydevcrm._refresh := v_refresh;
    v_name       text := (matview).relation::pg_catalog.text;
begin
    if v_refresh.method is null then
        return tinydevcrm._record_refresh(matview, schedule_id, v_started_at, null);
    end if;

    begin
        if v_refresh.method = 'plain' then
            execute pg_catalog.format('refresh materialized view %s', (matview).relation);
        else
            v_refresh.method := tinydevcrm._refresh_concurrently(matview);
        end if;

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
    exception
        -- The event reports every error that stopped the refresh. "Others" does not include a
        -- cancel, which is how a statement timeout shows. A cancel outside of a job is raised: the
        -- caller caused it.
        when query_canceled or others then
            if sqlstate = '57014' and not is_job then
                raise;
            end if;
            v_refresh := v_begun;
            get stacked diagnostics
                v_refresh.error_code    = returned_sqlstate,
                v_refresh.error_message = message_text;
    end;

    return tinydevcrm._record_refresh(matview, schedule_id, v_started_at, v_refresh);
end
$$;

comment on function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean) is
    'Refreshes a materialized view and records how it went. Does not raise the errors of the '
    'refresh, except a cancel outside of a job. Raises 42501 when the session has not logged in as '
    'the owner.';

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

create procedure tinydevcrm.refresh_requested()
    language plpgsql
as $$
-- Commits, so it cannot set a search_path and qualifies all names.
declare
    v_matview tinydevcrm.matviews;
    v_last_id bigint := 0;
begin
    loop
        v_matview := tinydevcrm._find_requested_matview(v_last_id);
        exit when v_matview.id is null;

        v_last_id := v_matview.id;
        perform tinydevcrm._refresh_matview(v_matview, is_job => true);
        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_requested() is
    'Refreshes the materialized views of this session''s role that others have requested, each in '
    'a transaction of its own: see tinydevcrm.refresh_requests. A pg_cron job of the owner calls '
    'it while there are requests.';

create function tinydevcrm._find_requested_matview(after_id bigint)
    returns tinydevcrm.matviews
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select matviews.*
      from tinydevcrm.refresh_requests
      join tinydevcrm.matviews
        on matviews.id = refresh_requests.matview_id
      -- A view that has just got another owner waits for settle_jobs().
      join pg_class
        on pg_class.oid = matviews.relation
       and pg_class.relowner = matviews.owner
     where matviews.id > _find_requested_matview.after_id
       and tinydevcrm._is_session_of(matviews.owner)
     order by matviews.id
     limit 1
$$;

comment on function tinydevcrm._find_requested_matview(bigint) is
    'The next materialized view of this session''s role whose refresh is requested; null when '
    'there is none.';

revoke execute on procedure tinydevcrm.refresh_requested() from public;
revoke execute on function
    tinydevcrm._request_refresh(tinydevcrm.matviews),
    tinydevcrm._matview_refresh_events_remember(),
    tinydevcrm._cut_text(text),
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._read_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean),
    tinydevcrm.refresh_matview(regclass),
    tinydevcrm._find_requested_matview(bigint)
from public;

grant execute on procedure tinydevcrm.refresh_requested() to tinydevcrm_user;
grant execute on function
    tinydevcrm._request_refresh(tinydevcrm.matviews),
    tinydevcrm._cut_text(text),
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._read_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint, boolean),
    tinydevcrm.refresh_matview(regclass),
    tinydevcrm._find_requested_matview(bigint)
to tinydevcrm_user;
