-- Widgets show the rows of a materialized view on other sites, if its owner allows that. Each
-- refresh copies the rows to this table, with its own rights, so that the program which serves a
-- widget reads no relation of a user.

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
    'Whether these are origins for a browser''s frame-ancestors: 1 to 50, of 4000 bytes together, '
    'each scheme://host[:port] in lower case, with *. before the host for all hosts below it; or * '
    'alone, for any.';

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
    is_dropped   boolean not null default false,

    constraint embeds_pkey primary key (matview_id),
    constraint embeds_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete cascade,
    constraint embeds_relation_unique unique (relation),
    constraint embeds_are_origins check (tinydevcrm._are_origins(origins)),
    constraint embeds_columns_are_array check (jsonb_typeof(columns) = 'array'),
    constraint embeds_columns_short check (octet_length(columns::text) <= 1048576),
    constraint embeds_rows_are_array check (jsonb_typeof(rows) = 'array'),
    constraint embeds_rows_short check (octet_length(rows::text) <= 2097152),
    constraint embeds_row_count_not_negative check (row_count >= 0)
);

comment on table tinydevcrm.embeds is
    'Materialized views that are public as widgets, with the rows of their last refresh. Anyone '
    'who has the address can read them; the origins only limit the sites on which browsers show '
    'them. Written by tinydevcrm.allow_embedding() and by each refresh.';
comment on column tinydevcrm.embeds.matview_id is
    'The registration of the materialized view.';
comment on column tinydevcrm.embeds.owner is
    'Owner of the materialized view who allowed it. It is not valid for another owner.';
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
    'When the refresh that gave these rows began; null when no rows have been copied yet.';
comment on column tinydevcrm.embeds.version is
    'Number of the transaction that wrote this row. Each refresh changes it.';
comment on column tinydevcrm.embeds.is_dropped is
    'Set by tinydevcrm.forbid_embedding(): the same statement removes the row.';

alter table tinydevcrm.embeds enable row level security;

-- The owner of the view now, who may not be the one who allowed the widget.
create policy embeds_owner on tinydevcrm.embeds
    to tinydevcrm_user
    using (exists (
        select
          from tinydevcrm.matviews
         where matviews.id = embeds.matview_id
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

grant select,
      insert (matview_id, origins),
      update (origins, columns, rows, row_count, is_dropped)
   on tinydevcrm.embeds to tinydevcrm_user;

create function tinydevcrm._embeds_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    select matviews.owner,
           matviews.relation
      into new.owner,
           new.relation
      from tinydevcrm.matviews
     where matviews.id = new.matview_id;

    new.version := txid_current();
    return new;
end
$$;

comment on function tinydevcrm._embeds_fill_in() is
    'Fills in owner, relation and version of a widget, which users cannot write. Only a role with '
    'the rights of the materialized view''s owner can set the origins.';

create trigger _100_fill_in
    before insert or update of origins on tinydevcrm.embeds
    for each row
    execute function tinydevcrm._embeds_fill_in();

create function tinydevcrm._embeds_date_rows()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    select coalesce(
               (
                   select events.started_at
                     from tinydevcrm.matview_refresh_events as events
                    where events.matview_id = matviews.id
                      and events.row_count is not null
                    order by events.id desc
                    limit 1
               ),
               matviews.created_at)
      into new.refreshed_at
      from tinydevcrm.matviews
     where matviews.id = new.matview_id;

    new.version := txid_current();
    return new;
end
$$;

comment on function tinydevcrm._embeds_date_rows() is
    'Sets refreshed_at to when the last successful refresh began, or to when the materialized view '
    'was registered if there was none.';

create trigger _100_date_rows
    before update of rows on tinydevcrm.embeds
    for each row
    execute function tinydevcrm._embeds_date_rows();

create function tinydevcrm._embeds_remove_dropped()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete
      from tinydevcrm.embeds
     where embeds.matview_id = new.matview_id;
    return null;
end
$$;

comment on function tinydevcrm._embeds_remove_dropped() is
    'Removes a widget that is dropped. Security definer: users cannot delete rows of ours. As a '
    'trigger it runs only for a row whose update row-level security has let through.';

create trigger _900_remove_dropped
    after update of is_dropped on tinydevcrm.embeds
    for each row
    when (new.is_dropped)
    execute function tinydevcrm._embeds_remove_dropped();

create function tinydevcrm._copy_rows(matview_id bigint, row_count bigint default null)
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
     cross join lateral tinydevcrm._build_rows_statement(
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
       set columns = tinydevcrm._describe_columns(v_read.names, v_read.types),
           rows = coalesce(tinydevcrm._cut_rows(v_rows, v_settings.embed_byte_limit), '[]'),
           row_count = v_count
     where embeds.matview_id = _copy_rows.matview_id
    returning embeds.*
         into v_embed;

    return v_embed;
end
$$;

comment on function tinydevcrm._copy_rows(bigint, bigint) is
    'Copies the first rows of a materialized view to its widget, if it has one. row_count is the '
    'number of all its rows; null counts them. Raises 42501 in a session that has not logged in as '
    'its owner.';

create function tinydevcrm._matview_refresh_events_copy_rows()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Refreshes run in sessions of the owner: an event of another session has no rows to copy.
    perform tinydevcrm._copy_rows(new.matview_id, new.row_count)
       from tinydevcrm.embeds
      where embeds.matview_id = new.matview_id
        and embeds.owner = new.owner
        and tinydevcrm._is_session_of(embeds.owner);
    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_copy_rows() is
    'Copies the rows of a successful refresh to the widget. Costs one index lookup when there is '
    'no widget.';

create trigger _500_copy_rows
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.row_count is not null)
    execute function tinydevcrm._matview_refresh_events_copy_rows();

create function tinydevcrm._matviews_end_embedding()
    returns trigger
    language plpgsql
    volatile
    security definer
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
    'Removes the widget when a materialized view gets a new owner, who decides anew whether it is '
    'public. Security definer: users cannot delete rows of ours. As a trigger it runs only when '
    'the owner of a registration changes, which users cannot write.';

create trigger _500_end_embedding
    after update of owner on tinydevcrm.matviews
    for each row
    when (old.owner <> new.owner)
    execute function tinydevcrm._matviews_end_embedding();

create function tinydevcrm.allow_embedding(relation regclass, origins text[])
    returns tinydevcrm.embeds
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(allow_embedding.relation);
    v_origins text[] := array(
        select regexp_replace(lower(origin), '/$', '')
          from unnest(allow_embedding.origins) with ordinality as given (origin, ordinal)
         order by ordinal
    );
    v_embed   tinydevcrm.embeds;
begin
    if not tinydevcrm._are_origins(v_origins) then
        raise exception using
            errcode = 'TD007',
            message = format(
                'these are not origins: %s',
                coalesce(nullif(array_to_string(v_origins, ', ', 'null'), ''), 'none')),
            hint    = 'Write up to 50 such as https://example.com, https://*.example.com or '
                      'http://localhost:8000, or * alone for any.';
    end if;

    -- A refresh takes the same lock, so that the two wait for each other.
    perform
       from tinydevcrm._locks
      where _locks.what = 'matview'
        and _locks.id = v_matview.id
        for update;

    insert into tinydevcrm.embeds (matview_id, origins)
    values (v_matview.id, v_origins)
    on conflict on constraint embeds_pkey do update
       set origins = excluded.origins
    returning embeds.*
         into v_embed;

    if not tinydevcrm._is_session_of(v_matview.owner) then
        perform tinydevcrm._request_refresh(v_matview);
    elsif exists (
        select
          from pg_class
         where pg_class.oid = v_matview.relation
           and pg_class.relispopulated
    ) then
        v_embed := tinydevcrm._copy_rows(v_matview.id);
    end if;

    return v_embed;
end
$$;

comment on function tinydevcrm.allow_embedding(regclass, text[]) is
    'Makes the rows of a materialized view of yours public, as a widget that pages of these '
    'origins may embed: /embed/schema.name at the orchestrator. Anyone who has the address can '
    'read them; the origins only limit the sites on which browsers show them. Call it again to '
    'change the origins. In a session that has not logged in as the owner it copies no rows, but '
    'requests a refresh, which copies them: see tinydevcrm.refresh_matview(). Raises TD001 when it '
    'is not watched, TD007 for a text that is not an origin, 42501 when it is not yours.';

create function tinydevcrm.forbid_embedding(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(forbid_embedding.relation);
begin
    perform
       from tinydevcrm._locks
      where _locks.what = 'matview'
        and _locks.id = v_matview.id
        for update;

    update tinydevcrm.embeds
       set is_dropped = true
     where embeds.matview_id = v_matview.id;
end
$$;

comment on function tinydevcrm.forbid_embedding(regclass) is
    'Makes the rows of a materialized view private again. Does nothing when they were not public. '
    'Raises TD001 when it is not watched, 42501 when it is not yours.';

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
    'Number of the registration whose widget has this name in its address: schema.name, quoted or '
    'not. Null when there is no such widget.';

revoke execute on function
    tinydevcrm._are_origins(text[]),
    tinydevcrm._embeds_fill_in(),
    tinydevcrm._embeds_date_rows(),
    tinydevcrm._embeds_remove_dropped(),
    tinydevcrm._copy_rows(bigint, bigint),
    tinydevcrm._matview_refresh_events_copy_rows(),
    tinydevcrm._matviews_end_embedding(),
    tinydevcrm.allow_embedding(regclass, text[]),
    tinydevcrm.forbid_embedding(regclass),
    tinydevcrm._find_embed(text)
from public;

grant execute on function
    tinydevcrm._are_origins(text[]),
    tinydevcrm._copy_rows(bigint, bigint),
    tinydevcrm.allow_embedding(regclass, text[]),
    tinydevcrm.forbid_embedding(regclass),
    tinydevcrm._find_embed(text)
to tinydevcrm_user;
