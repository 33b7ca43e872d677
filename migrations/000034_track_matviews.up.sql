-- Which watched views are stale: a table that they read has changed since their last refresh.

create table tinydevcrm.matview_sources (
    matview_id bigint not null,
    relation   regclass not null,

    constraint matview_sources_pkey primary key (matview_id, relation),
    constraint matview_sources_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade
);

comment on table tinydevcrm.matview_sources is
    'What a refresh of each view reads: tables with their partitions, views, and materialized '
    'views, but not what the latter read. Triggers keep it true.';
comment on column tinydevcrm.matview_sources.matview_id is
    'The view that reads.';
comment on column tinydevcrm.matview_sources.relation is
    'What it reads.';

create index matview_sources_relation_idx on tinydevcrm.matview_sources (relation);

alter table tinydevcrm.matview_sources enable row level security;

create policy matview_sources_owner on tinydevcrm.matview_sources
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = matview_sources.matview_id
    ));

grant select on tinydevcrm.matview_sources to tinydevcrm_user;

create table tinydevcrm._analysis_requests (
    id         bigint generated always as identity,
    matview_id bigint not null,

    constraint _analysis_requests_pkey primary key (id)
);

comment on table tinydevcrm._analysis_requests is
    'Views to analyze again whose rows in the registry another session had locked when a command '
    'changed what they read. Such a view is stale until upkeep has analyzed it. No constraint '
    'makes the command wait.';
comment on column tinydevcrm._analysis_requests.id is
    'Number of the request.';
comment on column tinydevcrm._analysis_requests.matview_id is
    'The view: tinydevcrm.matviews.id. It may have been dropped since.';

create index _analysis_requests_matview_idx on tinydevcrm._analysis_requests (matview_id);

alter table tinydevcrm._analysis_requests enable row level security;

create policy _analysis_requests_read on tinydevcrm._analysis_requests
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = _analysis_requests.matview_id
    ));

grant select on tinydevcrm._analysis_requests to tinydevcrm_user;

-- The policy of what views read decides whose changes the caller sees.
create policy table_changes_reader on tinydevcrm.table_changes
    for select
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matview_sources
         where matview_sources.relation = table_changes.relation
    ));

grant select on tinydevcrm.table_changes to tinydevcrm_user;

alter table tinydevcrm.matviews
    add column untracked_reason text default 'it has not been analyzed yet',
    add column is_tracked boolean not null generated always as (untracked_reason is null) stored,
    add column is_analyzed boolean not null default false,
    add column depth integer not null default 0,
    add column seen_snapshot text,
    add column content_hash text,
    add column notify_deadline interval not null default interval '0',
    add column deadline_set_at timestamptz,
    add column silent_noted_at timestamptz,
    add constraint matviews_notify_deadline_range check (
        notify_deadline = interval '0'
        or notify_deadline between interval '2 minutes' and interval '10 years'
    ),
    add column is_on_change boolean not null default false,
    add column refresh_interval interval not null default interval '1 second',
    add column tried_snapshot text,
    add constraint matviews_refresh_interval_range check (
        refresh_interval between interval '100 milliseconds' and interval '7 days'
    ),
    add constraint matviews_tried_snapshot_readable check (
        tried_snapshot is null
        or octet_length(tried_snapshot) <= 1000000
           and tried_snapshot::txid_snapshot is not null
    ),
    add constraint matviews_content_hash_short check (octet_length(content_hash) <= 200),
    add constraint matviews_seen_snapshot_readable check (
        seen_snapshot is null
        or octet_length(seen_snapshot) <= 1000000
           and seen_snapshot::txid_snapshot is not null
    );

comment on column tinydevcrm.matviews.untracked_reason is
    'Why its result may change although no tracked table does; null when it is tracked.';
comment on column tinydevcrm.matviews.is_tracked is
    'Whether its result depends only on tables whose changes are tracked. Its schedule then '
    'refreshes it only after a change.';
comment on column tinydevcrm.matviews.is_analyzed is
    'Whether matview_sources and untracked_reason are true. Set it to false to have them found again.';
comment on column tinydevcrm.matviews.seen_snapshot is
    'The transactions whose changes its rows contain for certain, as a txid_snapshot. Null: none, so '
    'it is stale.';

comment on column tinydevcrm.matviews.depth is
    '0 when it reads no watched view, else one more than the deepest of those that it reads. A round '
    'refreshes views in this order.';
comment on column tinydevcrm.matviews.content_hash is
    'Hash of its rows after its last refresh, while another watched view reads it: see '
    'tinydevcrm._detect_change(). Null when that is not known.';

comment on column tinydevcrm.matviews.notify_deadline is
    'When none of the tables that it reads has changed for so long, an event notifies, and another '
    'one when they change again: 2 minutes to 10 years; 0 for none. See tinydevcrm._note_silent().';
comment on column tinydevcrm.matviews.deadline_set_at is
    'When notify_deadline was last changed; null when it was not since the registration.';
comment on column tinydevcrm.matviews.silent_noted_at is
    'When an event said that its tables have not changed within notify_deadline; null once they '
    'have.';
comment on column tinydevcrm.matviews.is_on_change is
    'Whether its schedule is "on change". A trigger sets it.';
comment on column tinydevcrm.matviews.refresh_interval is
    'On change: shortest time between the starts of two refreshes, 100 ms to 7 days. The first '
    'change after that is refreshed at once.';
comment on column tinydevcrm.matviews.tried_snapshot is
    'On change: what its last refresh has read, as a txid_snapshot, also when that failed or could '
    'not notify. Null before the first, and while something else has made the view stale.';

grant insert (notify_deadline),
      update (
          notify_deadline, is_analyzed, seen_snapshot, content_hash, refresh_interval,
          tried_snapshot)
   on tinydevcrm.matviews to tinydevcrm_user;

create function tinydevcrm._matviews_set_deadline()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.deadline_set_at := now();
    new.silent_noted_at := null;
    return new;
end
$$;

comment on function tinydevcrm._matviews_set_deadline() is
    'Begins anew to wait for a change of the tables when notify_deadline is changed.';

create trigger _100_set_deadline
    before update of notify_deadline on tinydevcrm.matviews
    for each row
    when (new.notify_deadline <> old.notify_deadline)
    execute function tinydevcrm._matviews_set_deadline();

create function tinydevcrm._find_untracked_reason(relation regclass, reads oid[])
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
               tinydevcrm._find_call_reason(
                   _find_untracked_reason.relation, _find_untracked_reason.reads),
               tinydevcrm._find_read_reason(
                   _find_untracked_reason.relation, _find_untracked_reason.reads),
               (
                   select case pg_class.relkind
                              when 'm' then
                                  format(
                                      'it reads the materialized view %s, which is not watched',
                                      pg_class.oid::regclass)
                              else
                                  format('the table %s is not tracked', pg_class.oid::regclass)
                          end
                     from pg_class
                    where pg_class.oid = any (_find_untracked_reason.reads)
                      and (
                          pg_class.relkind in ('r', 'p')
                          and not tinydevcrm._is_table_tracked(pg_class.oid)
                          or pg_class.relkind = 'm'
                          and not exists (
                              select
                                from tinydevcrm.matviews
                               where matviews.relation = pg_class.oid
                          )
                      )
                    order by pg_class.oid
                    limit 1
               ));
end
$$;

comment on function tinydevcrm._find_untracked_reason(regclass, oid[]) is
    'Why a materialized view that reads these relations cannot be tracked; null when it can.';

create function tinydevcrm._matviews_analyze()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_reads oid[] := array(
        select reads.oid
          from tinydevcrm._list_reads(new.relation) as reads
    );
    v_depth integer;
begin
    delete
      from tinydevcrm.matview_sources
     where matview_sources.matview_id = new.id
       and matview_sources.relation <> all (v_reads);

    insert into tinydevcrm.matview_sources (matview_id, relation)
    select new.id,
           reads.oid
      from unnest(v_reads) as reads (oid)
    on conflict on constraint matview_sources_pkey do nothing;

    select coalesce(max(matviews.depth) + 1, 0)
      into v_depth
      from tinydevcrm.matviews
     where matviews.relation = any (v_reads);

    update tinydevcrm.matviews
       set untracked_reason = tinydevcrm._find_untracked_reason(new.relation, v_reads),
           depth = v_depth,
           is_analyzed = true
     where matviews.id = new.id;

    -- Views that read this one can be tracked from now on, or are deeper.
    if tg_op = 'INSERT' or v_depth <> new.depth then
        update tinydevcrm.matviews
           set is_analyzed = false
          from tinydevcrm.matview_sources
         where matview_sources.matview_id = matviews.id
           and matview_sources.relation = new.relation;
    end if;

    return null;
end
$$;

comment on function tinydevcrm._matviews_analyze() is
    'Finds what a view reads, and whether it is tracked. Reads catalogs only. Security definer: '
    'users write neither. As a trigger it runs only for a registration that row-level security has '
    'let through.';

create trigger _600_analyze
    after insert on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_analyze();

create trigger _600_analyze_again
    after update of is_analyzed, owner on tinydevcrm.matviews
    for each row
    when (not new.is_analyzed or new.owner <> old.owner)
    execute function tinydevcrm._matviews_analyze();

create function tinydevcrm._is_analysis_requested(matview_id bigint)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
          from tinydevcrm._analysis_requests
         where _analysis_requests.matview_id = _is_analysis_requested.matview_id
    );
end
$$;

comment on function tinydevcrm._is_analysis_requested(bigint) is
    'Whether a view is to be analyzed again: see tinydevcrm._analysis_requests.';

create function tinydevcrm._analyze_again(ids bigint[])
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[];
begin
    with free as materialized (
        select matviews.id
          from tinydevcrm.matviews
         where matviews.id = any (_analyze_again.ids)
           for no key update skip locked
    ),
    analyzed as (
        update tinydevcrm.matviews
           set is_analyzed = false,
               seen_snapshot = null,
               tried_snapshot = null,
               content_hash = null
          from free
         where matviews.id = free.id
        returning matviews.id
    )
    select array_agg(analyzed.id)
      into v_ids
      from analyzed;

    insert into tinydevcrm._analysis_requests (matview_id)
    select wanted.id
      from unnest(_analyze_again.ids) as wanted (id)
     where wanted.id <> all (coalesce(v_ids, '{}'));
exception
    -- In a transaction that keeps one snapshot, another one has changed the registry since.
    when serialization_failure then
        insert into tinydevcrm._analysis_requests (matview_id)
        select unnest(_analyze_again.ids);
end
$$;

comment on function tinydevcrm._analyze_again(bigint[]) is
    'Makes views stale and analyzes them again: at once, or by upkeep when another session has '
    'locked them. Never waits.';

revoke execute on function
    tinydevcrm._find_untracked_reason(regclass, oid[]),
    tinydevcrm._is_analysis_requested(bigint),
    tinydevcrm._analyze_again(bigint[]),
    tinydevcrm._matviews_analyze(),
    tinydevcrm._matviews_set_deadline()
from public;

grant execute on function
    tinydevcrm._find_untracked_reason(regclass, oid[]),
    tinydevcrm._is_analysis_requested(bigint)
to tinydevcrm_user;
