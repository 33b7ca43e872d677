-- All that is set for one view, for who wants to change it.

-- Prints names as the session would write them. So these functions set no search_path and qualify
-- all names.
create function tinydevcrm._show_query(relation regclass)
    returns text
    language sql
    stable
as $$
    select pg_catalog.btrim(pg_catalog.pg_get_viewdef(_show_query.relation, true), E' \n;')
$$;

comment on function tinydevcrm._show_query(regclass) is
    'The query of a materialized view, as Postgres prints it, to read and to edit. A name has its '
    'schema where the session needs it.';

create function tinydevcrm.describe_matview(relation regclass)
    returns json
    language plpgsql
    stable
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(describe_matview.relation);
begin
    return (
        select pg_catalog.json_build_object(
                   'relation', status.relation::pg_catalog.text,
                   'query', tinydevcrm._show_query(status.relation),
                   'reads', status.reads::pg_catalog.text[],
                   'is_tracked', v_matview.is_tracked,
                   'untracked_reason', v_matview.untracked_reason,
                   'notify_when', status.notify_when,
                   'ignored_columns', v_matview.ignored_columns,
                   'notify_interval', nullif(
                       v_matview.notify_interval, pg_catalog.interval '0')::pg_catalog.text,
                   'notify_after', v_matview.notify_after,
                   'notify_deadline', nullif(
                       v_matview.notify_deadline, pg_catalog.interval '0')::pg_catalog.text,
                   'muted_until', status.muted_until,
                   'key', v_matview.key,
                   'schedule', status.schedule,
                   'next_due_at', status.next_due_at,
                   'status', status.status,
                   'is_managed', status.is_managed,
                   'subscriptions', array(
                       select subscriptions.name
                         from tinydevcrm.subscriptions
                        where subscriptions.matview_id operator(pg_catalog.=) v_matview.id
                           or subscriptions.matview_id is null
                          and subscriptions.owner operator(pg_catalog.=) v_matview.owner
                        order by subscriptions.name
                   ))
          from tinydevcrm.matview_status as status
         where status.relation operator(pg_catalog.=) v_matview.relation
    );
end
$$;

comment on function tinydevcrm.describe_matview(regclass) is
    'A view as one JSON object: its query, what it reads, whether it is tracked or why not, rule, '
    'schedule, and the subscriptions that get its events. Raises TD001 when it is not watched.';

revoke execute on function
    tinydevcrm._show_query(regclass),
    tinydevcrm.describe_matview(regclass)
from public;

grant execute on function
    tinydevcrm._show_query(regclass),
    tinydevcrm.describe_matview(regclass)
to tinydevcrm_user;
