-- Widgets: the rows of a materialized view on other sites, if its owner allows that. They are a
-- copy that each refresh makes with its own rights, so that whoever serves a widget reads this
-- table and nothing of the user's.

create function tinydevcrm._are_origins(origins text[])
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               _are_origins.origins = '{*}'
               or array_ndims(_are_origins.origins) = 1
                  and cardinality(_are_origins.origins) <= 50
                  and octet_length(array_to_string(_are_origins.origins, ' ', '')) <= 4000
                  and (
                      select bool_and(coalesce(
                                 origin ~ ('^https?://(\*\.)?' || label || '(\.' || label
                                           || ')*(:[0-9]{1,5})?$'),
                                 false))
                        from unnest(_are_origins.origins) as origin
                       cross join (values ('[a-z0-9]([a-z0-9-]*[a-z0-9])?')) as hosts (label)
                  ),
               false)
$$;

comment on function tinydevcrm._are_origins(text[]) is
    'Whether these are origins as a browser''s frame-ancestors takes them: 1 to 50, of 4000 bytes '
    'together, each scheme://host[:port] in small letters, *. before the host for all below it; or '
    '* alone, for any.';

create table tinydevcrm.embeds (
    matview_id   bigint not null,
    owner        regrole not null,
    relation     regclass not null,
    origins      text[] not null,
    columns      jsonb not null default '[]',
    rows         jsonb not null default '[]',
    row_count    bigint not null default 0,
    refreshed_at timestamptz,
    version      bigint not null default txid_current(),

    constraint embeds_pkey primary key (matview_id),
    constraint embeds_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade,
    constraint embeds_relation_unique unique (relation),
    constraint embeds_are_origins check (tinydevcrm._are_origins(origins)),
    constraint embeds_columns_are_array check (jsonb_typeof(columns) = 'array'),
    constraint embeds_columns_short check (octet_length(columns::text) <= 1048576),
    constraint embeds_rows_are_array check (jsonb_typeof(rows) = 'array'),
    constraint embeds_rows_short check (octet_length(rows::text) <= 2097152)
);

comment on table tinydevcrm.embeds is
    'Materialized views that are public as widgets, with the rows of their last refresh. Whoever '
    'has the address can read them; the origins only say on which sites browsers show them. '
    'Written by tinydevcrm.allow_embedding() and by each refresh.';
comment on column tinydevcrm.embeds.matview_id is
    'The registration of the materialized view.';
comment on column tinydevcrm.embeds.owner is
    'Its owner, who allowed it. For another owner it does not count.';
comment on column tinydevcrm.embeds.relation is
    'The materialized view.';
comment on column tinydevcrm.embeds.origins is
    'Sites on whose pages browsers show it, such as https://example.com; {*} for any.';
comment on column tinydevcrm.embeds.columns is
    'Its columns: an array of {"name", "type"}.';
comment on column tinydevcrm.embeds.rows is
    'Its first rows: an array of arrays of texts, cut to 201 characters, or nulls; at most '
    'tinydevcrm.settings.embed_row_limit of them and embed_byte_limit bytes.';
comment on column tinydevcrm.embeds.row_count is
    'How many rows it has in all.';
comment on column tinydevcrm.embeds.refreshed_at is
    'When the refresh began that these rows are of; null when it has not been filled yet.';
comment on column tinydevcrm.embeds.version is
    'Number of the transaction that wrote this: another one after each refresh.';

alter table tinydevcrm.embeds enable row level security;

-- By the owner of the view, who may be another than the one who allowed it.
create policy embeds_owner on tinydevcrm.embeds
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = embeds.matview_id
           and pg_has_role(matviews.owner, 'usage')
    ))
    with check (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = embeds.matview_id
           and matviews.owner = embeds.owner
           and matviews.relation = embeds.relation
           and pg_has_role(matviews.owner, 'usage')
    ));

create policy embeds_admin on tinydevcrm.embeds
    for select
    to tinydevcrm_admin
    using (true);

create policy embeds_orchestrator on tinydevcrm.embeds
    for select
    to tinydevcrm_orchestrator
    using (true);

grant select, insert, update, delete on tinydevcrm.embeds to tinydevcrm_user;

create function tinydevcrm._copy_rows(
    matview_id   bigint,
    refreshed_at timestamptz,
    row_count    bigint default null
)
    returns tinydevcrm.embeds
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
    set synchronize_seqscans = off
as $$
declare
    v_settings tinydevcrm.settings;
    v_read     record;
    v_rows     jsonb := '[]';
    v_count    bigint := _copy_rows.row_count;
    v_embed    tinydevcrm.embeds;
begin
    select settings.*
      into v_settings
      from tinydevcrm.settings;

    select read.*
      into v_read
      from tinydevcrm.embeds
     cross join lateral tinydevcrm._rows_statement(
               embeds.relation, cell_limit => 201) as read
     where embeds.matview_id = _copy_rows.matview_id;

    if not found then
        return null;
    end if;

    begin
        execute format(
            'select jsonb_agg(to_jsonb(cells))
               from (select cells from (%s) as read (cells) limit $1) as first',
            v_read.statement)
           into v_rows
          using v_settings.embed_row_limit;
    exception
        -- More than jsonb can hold: rows of hundreds of long columns.
        when program_limit_exceeded then
            null;
    end;

    if v_count is null then
        execute format('select count(*) from (%s) as read', v_read.statement)
           into v_count;
    end if;

    update tinydevcrm.embeds
       set columns = tinydevcrm._named_columns(v_read.names, v_read.types),
           rows = coalesce(tinydevcrm._cut_rows(v_rows, v_settings.embed_byte_limit), '[]'),
           row_count = v_count,
           refreshed_at = _copy_rows.refreshed_at,
           version = txid_current()
     where embeds.matview_id = _copy_rows.matview_id
    returning embeds.*
         into v_embed;

    return v_embed;
end
$$;

comment on function tinydevcrm._copy_rows(bigint, timestamptz, bigint) is
    'Copies the rows of a materialized view, which has this number of them and is of a refresh of '
    'this time, to its widget, if it has one.';

create function tinydevcrm._matview_refresh_events_copy_rows()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._copy_rows(new.matview_id, new.started_at, new.row_count)
       from tinydevcrm.embeds
      where embeds.matview_id = new.matview_id
        and embeds.owner = new.owner;
    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_copy_rows() is
    'Copies the rows of a refresh that succeeded to the widget, if there is one: one look into an '
    'index otherwise.';

create trigger _500_copy_rows
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.row_count is not null)
    execute function tinydevcrm._matview_refresh_events_copy_rows();

create function tinydevcrm._matviews_end_embedding()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.embeds
     where embeds.matview_id = new.id;
    return null;
end
$$;

comment on function tinydevcrm._matviews_end_embedding() is
    'Whoever gets a materialized view decides anew whether it is public.';

create trigger _500_end_embedding
    after update of owner on tinydevcrm.matviews
    for each row
    when (old.owner <> new.owner)
    execute function tinydevcrm._matviews_end_embedding();

create function tinydevcrm._own_matview(relation regclass)
    returns tinydevcrm.matviews
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._watched_matview(_own_matview.relation);
begin
    -- An administrator sees the registrations of others too.
    if not pg_has_role(v_matview.owner, 'usage') then
        raise exception using
            errcode = '42501',
            message = format('must be owner of materialized view %s', _own_matview.relation);
    end if;

    return v_matview;
end
$$;

comment on function tinydevcrm._own_matview(regclass) is
    'Registration of a materialized view of yours. Raises TD001 when it is not watched, 42501 when '
    'it is not yours.';

create function tinydevcrm.allow_embedding(relation regclass, origins text[])
    returns tinydevcrm.embeds
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._own_matview(allow_embedding.relation);
    v_origins text[] := array(
        select regexp_replace(lower(origin), '/$', '')
          from unnest(allow_embedding.origins) with ordinality as given (origin, place)
         order by place
    );
    v_embed   tinydevcrm.embeds;
begin
    if not tinydevcrm._are_origins(v_origins) then
        raise exception using
            errcode = 'TD007',
            message = format(
                'these are no origins: %s',
                coalesce(nullif(array_to_string(v_origins, ', ', 'null'), ''), 'none')),
            hint    = 'Write up to 50 such as https://example.com, https://*.example.com or '
                      'http://localhost:8000, or * alone for any.';
    end if;

    -- As a refresh does: the two wait for each other.
    perform pg_advisory_xact_lock(tinydevcrm._lock_key('matviews', v_matview.id));

    insert into tinydevcrm.embeds (matview_id, owner, relation, origins)
    values (v_matview.id, v_matview.owner, v_matview.relation, v_origins)
    on conflict on constraint embeds_pkey do update
       set owner = excluded.owner,
           origins = excluded.origins,
           version = excluded.version
    returning embeds.*
         into v_embed;

    if exists (
        select
          from pg_class
         where pg_class.oid = v_matview.relation
           and pg_class.relispopulated
    ) then
        v_embed := tinydevcrm._copy_rows(
            v_matview.id,
            coalesce(
                (
                    select events.started_at
                      from tinydevcrm.matview_refresh_events as events
                     where events.matview_id = v_matview.id
                       and events.row_count is not null
                     order by events.id desc
                     limit 1
                ),
                v_matview.created_at));
    end if;

    return v_embed;
end
$$;

comment on function tinydevcrm.allow_embedding(regclass, text[]) is
    'Makes the rows of a materialized view of yours public, as a widget that pages of these '
    'origins may embed: /embed/schema.name at the orchestrator. Whoever has the address can read '
    'them; the origins only say where browsers show them. Again changes the origins. Raises TD001 '
    'when it is not watched, TD007 for what is no origin, 42501 when it is not yours.';

create function tinydevcrm.forbid_embedding(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._own_matview(forbid_embedding.relation);
begin
    perform pg_advisory_xact_lock(tinydevcrm._lock_key('matviews', v_matview.id));

    delete
      from tinydevcrm.embeds
     where embeds.matview_id = v_matview.id;
end
$$;

comment on function tinydevcrm.forbid_embedding(regclass) is
    'Ends what tinydevcrm.allow_embedding() began: the rows are public no longer. Does nothing '
    'when they were not. Raises TD001 when the materialized view is not watched, 42501 when it is '
    'not yours.';

create function tinydevcrm._find_embed(name text)
    returns bigint
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select embeds.matview_id
      from tinydevcrm.embeds
      join pg_class
        on pg_class.oid = embeds.relation
       and pg_class.relowner = embeds.owner
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     cross join lateral (
         values
             (1, format('%I.%I', nspname, relname)),
             (2, nspname || '.' || relname)
     ) as called (form, name)
     where called.name = _find_embed.name
     order by called.form,
              embeds.matview_id
     limit 1
$$;

comment on function tinydevcrm._find_embed(text) is
    'Number of the registration that a widget''s address names, schema.name, quoted or not; null '
    'when there is none that may be embedded.';

revoke execute on function
    tinydevcrm._are_origins(text[]),
    tinydevcrm._copy_rows(bigint, timestamptz, bigint),
    tinydevcrm._matview_refresh_events_copy_rows(),
    tinydevcrm._matviews_end_embedding(),
    tinydevcrm._own_matview(regclass),
    tinydevcrm.allow_embedding(regclass, text[]),
    tinydevcrm.forbid_embedding(regclass),
    tinydevcrm._find_embed(text)
from public;

grant execute on function
    tinydevcrm._are_origins(text[]),
    tinydevcrm._copy_rows(bigint, timestamptz, bigint),
    tinydevcrm._own_matview(regclass),
    tinydevcrm.allow_embedding(regclass, text[]),
    tinydevcrm.forbid_embedding(regclass),
    tinydevcrm._find_embed(text)
to tinydevcrm_user;
