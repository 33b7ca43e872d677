-- Refreshes that somebody other than the owner has requested, for a job of the owner: another role,
-- or upkeep, which makes up for missed ones.

create table tinydevcrm.refresh_requests (
    matview_id   bigint not null,
    requested_by regrole not null default quote_ident(current_user)::regrole,
    requested_at timestamptz not null default clock_timestamp(),
    schedule_id  bigint,

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
comment on column tinydevcrm.refresh_requests.schedule_id is
    'The schedule that was due while the database was down, when upkeep requests it; the refresh '
    'then counts as one by this schedule. Null for the request of a role.';

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

revoke execute on function tinydevcrm._request_refresh(tinydevcrm.matviews) from public;

grant execute on function tinydevcrm._request_refresh(tinydevcrm.matviews) to tinydevcrm_user;
