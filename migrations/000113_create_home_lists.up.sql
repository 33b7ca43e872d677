-- What the home page lists of all kinds: what needs attention, and what its search finds.

create function tinydevcrm._list_troubled(row_limit integer)
    returns table (
        kind     text,
        key      text,
        relation regclass,
        state    text,
        reason   text,
        since    timestamptz
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with seen as (
        select pg_roles.oid
          from pg_roles
         where tinydevcrm._may_see(pg_roles.oid)
    ),
    troubled as (
        select judged.relation,
               judged.state
          from (
            select ordered.relation,
                   tinydevcrm._matview_state(ordered.matview, ordered.is_late) as state
              from (
                select matviews.relation,
                       matviews as matview,
                       late.matview_id is not null as is_late
                  from tinydevcrm.matviews
                  left join tinydevcrm._list_late_matviews() as late
                    on late.matview_id = matviews.id
                 where matviews.owner = any (array(select seen.oid from seen))
                 -- So the states of the others are computed only when there is room for them.
                 order by matviews.last_outcome = 'failed' desc nulls last,
                          late.matview_id is not null desc,
                          matviews.relation
              ) as ordered
             -- Keeps the state, here and below, from being computed for each use.
            offset 0
          ) as judged
         where tinydevcrm._needs_attention(judged.state)
            or judged.state = 'not populated'
         limit _list_troubled.row_limit
    ),
    subscribed as (
        select subscriptions.name,
               tinydevcrm._subscription_state(subscriptions) as state
          from tinydevcrm.subscriptions
         where subscriptions.owner = quote_ident(current_user)::regrole
        offset 0
    ),
    named as (
        select subscribed.*
          from subscribed
         where tinydevcrm._needs_attention(subscribed.state)
         order by subscribed.name
         limit _list_troubled.row_limit
    )
    select listed.*
      from (
        select 'view' as kind,
               format('%I.%I', pg_namespace.nspname, pg_class.relname) as key,
               troubled.relation,
               troubled.state,
               coalesce(
                   case troubled.state
                       when 'failing' then matview_status.error_message
                       when 'late' then matview_status.late_reason
                       when 'reads renamed table' then 'it ' || matview_status.renamed_read
                       when 'silent' then 'its tables have not changed for '
                                          || matview_status.notify_deadline
                       else 'it has no rows before its first refresh'
                   end,
                   ''),
               case troubled.state
                   when 'failing' then matview_status.failing_since
                   when 'late' then matview_status.late_since
                   when 'silent' then matview_status.last_changed_at
               end as since
          from troubled
          join tinydevcrm.matview_status
            on matview_status.relation = troubled.relation
           -- Goes into the view, which would be read whole otherwise.
           and matview_status.relation = any (array(select troubled.relation from troubled))
          join pg_class
            on pg_class.oid = troubled.relation
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
        union all
        select 'subscription',
               named.name,
               null,
               named.state,
               coalesce(subscription_status.last_error, subscription_status.pause_reason, ''),
               subscription_status.oldest_pending_at
          from named
          join tinydevcrm.subscription_status
            on subscription_status.subscription = named.name
           and subscription_status.subscription = any (array(select named.name from named))
           and subscription_status.owner = quote_ident(current_user)::regrole
        union all
        (
            select 'source',
                   source_status.name,
                   null,
                   source_status.status,
                   case source_status.status
                       when 'failing' then
                           coalesce(split_part(source_status.error_message, e'\n', 1), '')
                       when 'late' then
                           'nothing has fetched it, or nothing has imported what was fetched'
                       else 'nothing new has come for ' || source_status.notify_deadline
                   end,
                   case source_status.status
                       when 'failing' then source_status.failing_since
                       when 'silent' then source_status.imported_at
                   end
              from tinydevcrm.source_status
             where source_status.owner = quote_ident(current_user)::regrole
               and source_status.is_troubled
             order by source_status.name
             limit _list_troubled.row_limit
        )
      ) as listed
     order by array_position('{failing,late}', listed.state) nulls last,
              listed.since,
              listed.key
$$;

comment on function tinydevcrm._list_troubled(integer) is
    'The views that you may see and your subscriptions and sources that need attention, with the '
    'reason and since when: up to row_limit of each kind, failing and late ones first.';

create function tinydevcrm._search(part text, row_limit integer)
    returns table (kind text, key text, relation regclass, note text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select 'view',
           found.key,
           (found.matview).relation,
           (found.matview).status
      from tinydevcrm._find_matviews('', _search.part, _search.row_limit) as found
     where found.is_listed
    union all
    select 'table',
           found.key,
           found.relation,
           found.source
      from tinydevcrm._list_tables(_search.part, row_limit => _search.row_limit) as found
    union all
    select 'subscription',
           listed.name,
           null,
           listed.target
      from (
        select subscriptions.name,
               coalesce(tinydevcrm._show_url(webhooks.url, webhooks.format), 'worker')
                   as target
          from tinydevcrm.subscriptions
          left join tinydevcrm.webhooks
            on webhooks.subscription_id = subscriptions.id
         where subscriptions.owner = quote_ident(current_user)::regrole
           and position(lower(_search.part) in lower(subscriptions.name)) > 0
         order by subscriptions.name
         limit _search.row_limit
      ) as listed
    union all
    select 'source',
           listed.name,
           null,
           listed.state
      from (
        select sources.name,
               tinydevcrm._source_state(sources) as state
          from tinydevcrm.sources
         where sources.owner = quote_ident(current_user)::regrole
           and position(lower(_search.part) in lower(sources.name)) > 0
         order by sources.name
         limit _search.row_limit
      ) as listed
$$;

comment on function tinydevcrm._search(text, integer) is
    'The views that you may see and your tables, subscriptions and sources whose names contain a part: up to '
    'row_limit of each kind. note is the state, the file, or the URL as lists show it.';

revoke execute on function
    tinydevcrm._list_troubled(integer),
    tinydevcrm._search(text, integer)
from public;

grant execute on function
    tinydevcrm._list_troubled(integer),
    tinydevcrm._search(text, integer)
to tinydevcrm_user;
