-- What the pages of views read beside the list: what a view reads and who gets its events, names for the query editor,
-- a rule tried on what was recorded. And one form that makes a view with its schedule and first subscription.

create function tinydevcrm._describe_reads(relation regclass)
    returns table (kind text, key text, relation regclass)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when matviews.id is not null then 'view'
               when pg_class.relkind = 'm' then 'materialized view'
               when pg_class.relkind = 'f' then 'foreign table'
               else 'table'
           end,
           format('%I.%I', pg_namespace.nspname, pg_class.relname),
           pg_class.oid::regclass
      from unnest(
               tinydevcrm._list_read_relations(_describe_reads.relation, '{r,p,f,m}')) as read (oid)
      join pg_class
        on pg_class.oid = read.oid
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
      left join tinydevcrm.matviews
        on matviews.relation = pg_class.oid
     order by 1 desc,
              2
$$;

comment on function tinydevcrm._describe_reads(regclass) is
    'The tables and materialized views that the query of a view reads, also through views. kind is '
    'view for a watched materialized view; key is the name with its schema.';

create function tinydevcrm._list_subscribed(relation regclass, row_limit integer)
    returns table (name text, status text, is_troubled boolean, gets_all boolean)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select listed.name,
           judged.status,
           tinydevcrm._needs_attention(judged.status),
           listed.matview_id is null
      from (
        select subscriptions.*
          from tinydevcrm.matviews
          join tinydevcrm.subscriptions
            on subscriptions.matview_id = matviews.id
            or subscriptions.matview_id is null
           and subscriptions.owner = matviews.owner
         where matviews.relation = _list_subscribed.relation
           and subscriptions.owner = quote_ident(current_user)::regrole
         order by subscriptions.matview_id is null,
                  subscriptions.name
         limit _list_subscribed.row_limit
      ) as listed
     cross join lateral (
         select tinydevcrm._subscription_state(subscriptions) as status
           from tinydevcrm.subscriptions
          where subscriptions.id = listed.id
     ) as judged
     order by listed.matview_id is null,
              listed.name
$$;

comment on function tinydevcrm._list_subscribed(regclass, integer) is
    'Your subscriptions that get the events of a view: first those to it alone, then those to all '
    'of your views (gets_all).';

create function tinydevcrm._list_names(row_limit integer, column_limit integer)
    returns table (relation regclass, columns text[], types text[])
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select own.oid::regclass,
           coalesce(described.columns, '{}'),
           coalesce(described.types, '{}')
      from (
        select pg_class.oid
          from pg_class
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where pg_class.relkind in ('r', 'p', 'v', 'm', 'f')
           and not pg_class.relispartition
           and pg_class.relpersistence <> 't'
           and pg_namespace.nspname not in (
               'tinydevcrm', 'cron', 'pg_catalog', 'information_schema')
           and (pg_namespace.nspname, pg_class.relname) <> ('public', 'schema_migrations')
           and tinydevcrm._is_session_of(pg_class.relowner)
           and not exists (
               select
                 from pg_depend
                where pg_depend.classid = 'pg_class'::regclass
                  and pg_depend.objid = pg_class.oid
                  and pg_depend.deptype = 'e'
           )
         order by pg_class.oid desc
         limit _list_names.row_limit
      ) as own
     cross join lateral (
         select array_agg(quote_ident(first.attname) order by first.attnum) as columns,
                array_agg(format_type(first.atttypid, first.atttypmod) order by first.attnum)
                    as types
           from (
             select pg_attribute.*
               from pg_attribute
              where pg_attribute.attrelid = own.oid
                and pg_attribute.attnum > 0
                and not pg_attribute.attisdropped
              order by pg_attribute.attnum
              limit _list_names.column_limit
           ) as first
     ) as described
     order by own.oid desc
$$;

comment on function tinydevcrm._list_names(integer, integer) is
    'The tables and views of the role that has logged in, newest first, each with its columns, as a '
    'query writes them: what the query editor completes.';

create function tinydevcrm._try_rule(
    relation        regclass,
    notify_when     text,
    notify_after    integer,
    notify_interval interval,
    event_limit     integer default 20000
)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with begun as (
        select greatest(
                   now() - interval '30 days',
                   (
                       select events.started_at
                         from tinydevcrm.matview_refresh_events as events
                         join tinydevcrm.matviews
                           on matviews.id = events.matview_id
                        where matviews.relation = _try_rule.relation
                        order by events.id desc
                       offset _try_rule.event_limit
                        limit 1
                   )) as since
    ),
    replayed as materialized (
        select replay.*
          from begun
         cross join lateral tinydevcrm.replay_rule(
             _try_rule.relation, _try_rule.notify_when, begun.since, _try_rule.notify_after,
             _try_rule.notify_interval) as replay
    )
    select json_build_object(
               'since', (select begun.since from begun),
               'count', (select count(*) from replayed where replayed.is_known),
               'unknown_count', (select count(*) from replayed where not replayed.is_known),
               'newest', (
                   select coalesce(json_agg(row_to_json(newest)), '[]')
                     from (
                       select replayed.*
                         from replayed
                        order by replayed.event_id desc
                        limit 10
                     ) as newest
               ))
$$;

comment on function tinydevcrm._try_rule(regclass, text, integer, interval, integer) is
    'How often a rule would have notified in the last 30 days, and the last ten times, as JSON: see '
    'tinydevcrm.replay_rule(). since is later than 30 days ago when the view has more than '
    'event_limit events since then, because each takes time.';

-- As create_matview(): it runs the caller's query, so it sets no search_path and qualifies all names.
create function tinydevcrm._set_up_matview(
    name         text,
    query        text,
    notify_when  text,
    schedule     text,
    subscription text,
    url          text
)
    returns json
    language plpgsql
    volatile
as $$
declare
    v_relation  pg_catalog.regclass := tinydevcrm.create_matview(
        name => _set_up_matview.name,
        query => _set_up_matview.query,
        notify_when => nullif(_set_up_matview.notify_when, ''));
    v_rule      record := tinydevcrm._suggest_rule(v_relation);
    v_subscription constant text := coalesce(
        nullif(_set_up_matview.subscription, ''),
        case when _set_up_matview.url operator(pg_catalog.<>) '' then _set_up_matview.name end);
    v_secret    text;
    v_scheduled record;
    v_made      pg_catalog.jsonb := '{}';
begin
    if nullif(_set_up_matview.notify_when, '') is null then
        v_made := pg_catalog.jsonb_build_object('reason', v_rule.reason);
    end if;
    -- Before the schedule, whose first refresh may notify.
    if v_subscription is not null then
        if nullif(_set_up_matview.url, '') is null then
            perform tinydevcrm.create_subscription(v_subscription, v_relation);
        else
            v_secret := tinydevcrm.create_webhook(v_subscription, _set_up_matview.url, v_relation);
        end if;
        v_made := v_made operator(pg_catalog.||) pg_catalog.jsonb_build_object(
            'subscription', v_subscription, 'secret', v_secret);
    end if;
    if nullif(_set_up_matview.schedule, '') is not null then
        v_scheduled := tinydevcrm.schedule_matview(v_relation, _set_up_matview.schedule);
        v_made := v_made operator(pg_catalog.||) pg_catalog.to_jsonb(v_scheduled);
    end if;

    return (
        select v_made operator(pg_catalog.||) pg_catalog.jsonb_build_object(
                   'relation', v_relation::pg_catalog.text,
                   'notify_when', matviews.notify_when)
          from tinydevcrm.matviews
         where matviews.relation operator(pg_catalog.=) v_relation
    );
end
$$;

comment on function tinydevcrm._set_up_matview(text, text, text, text, text, text) is
    'Creates a view with its rule (empty for that of tinydevcrm._suggest_rule()), subscribes to it, '
    'by a webhook if there is a URL, and schedules it; an empty schedule is left out, and so is a '
    'subscription without name and URL. With only a URL it has the name of the view. All or nothing. The JSON has the name of the view, the rule and its reason, the secret of '
    'the webhook, and the first refresh. Raises what create_matview(), create_webhook() and '
    'schedule_matview() raise.';

revoke execute on function
    tinydevcrm._describe_reads(regclass),
    tinydevcrm._list_subscribed(regclass, integer),
    tinydevcrm._list_names(integer, integer),
    tinydevcrm._try_rule(regclass, text, integer, interval, integer),
    tinydevcrm._set_up_matview(text, text, text, text, text, text)
from public;

grant execute on function
    tinydevcrm._describe_reads(regclass),
    tinydevcrm._list_subscribed(regclass, integer),
    tinydevcrm._list_names(integer, integer),
    tinydevcrm._try_rule(regclass, text, integer, interval, integer),
    tinydevcrm._set_up_matview(text, text, text, text, text, text)
to tinydevcrm_user;
