-- When a notify rule would have notified, from the events that are recorded.

create function tinydevcrm._find_step(
    event       tinydevcrm.matview_refresh_events,
    before      tinydevcrm.matview_refresh_events,
    is_adjacent boolean,
    out added_count   bigint,
    out removed_count bigint,
    out is_exact      boolean
)
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when counted.is_equal then 0
               when counted.is_exact then (event).added_count
               else (event).row_count
           end,
           case
               when counted.is_equal then 0
               when counted.is_exact then (event).removed_count
               else (before).row_count
           end,
           counted.is_exact
               or counted.is_equal
               or (event).row_count = 0
               or (before).row_count = 0
      from (
        select _find_step.is_adjacent and (event).added_count is not null as is_exact,
               (event).is_changed is false and (event).added_count is null as is_equal
      ) as counted
$$;

comment on function tinydevcrm._find_step(
    tinydevcrm.matview_refresh_events, tinydevcrm.matview_refresh_events, boolean
) is
    'How many rows a refresh has added and removed since the one before, and whether that is exact; '
    'else at most so many. The recorded counts are exact when they compare with the refresh before '
    '(is_adjacent), and so is the number of rows when one of the two had none.';

create function tinydevcrm.replay_rule(
    relation        regclass,
    notify_when     text default null,
    since           timestamptz default now() - interval '7 days',
    notify_after    integer default null,
    notify_interval interval default null
)
    returns table (
        event_id      bigint,
        started_at    timestamptz,
        is_known      boolean,
        why           text,
        row_count     bigint,
        added_count   bigint,
        removed_count bigint
    )
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- The registration, as it would have been with the rule.
    v_state     tinydevcrm.matviews := tinydevcrm._find_registration(replay_rule.relation);
    v_rule      tinydevcrm.notify_rules;
    v_event     tinydevcrm.matview_refresh_events;
    v_before    tinydevcrm.matview_refresh_events;
    v_least     tinydevcrm._refresh;
    v_most      tinydevcrm._refresh;
    v_step      record;
    v_outcome   text;
    v_by        text;
    -- The event whose rows the rule would compare with, and what was added and removed since.
    v_base      tinydevcrm.matview_refresh_events;
    v_added     bigint := 0;
    v_removed   bigint := 0;
    v_is_exact  boolean := true;
    v_is_other  boolean;
    -- The event with whose rows the recorded counts compare.
    v_level_id  bigint;
begin
    v_state.notify_when := coalesce(replay_rule.notify_when, v_state.notify_when);
    v_state.notify_after := coalesce(replay_rule.notify_after, v_state.notify_after);
    v_state.notify_interval := coalesce(replay_rule.notify_interval, v_state.notify_interval);
    select notify_rules.*
      into v_rule
      from tinydevcrm.notify_rules
     where notify_rules.name = v_state.notify_when;

    if not found
       or v_state.notify_after not between 1 and 1000
       or v_state.notify_interval not between interval '0' and interval '10 years'
    then
        raise exception using
            errcode = 'TD007',
            message = format(
                'there is no rule %L with the interval %s after %s refreshes in a row',
                v_state.notify_when, v_state.notify_interval, v_state.notify_after),
            hint    = 'tinydevcrm.notify_rules lists the rules; an interval is 0 to 10 years; '
                      'notify_after is 1 to 1000.';
    end if;

    v_state.muted_until := null;
    v_state.last_outcome := null;
    v_state.last_row_count := null;
    v_state.last_notified_at := null;
    v_state.rule_count := 0;
    v_state.failure_count := 0;
    v_state.is_failure_notified := false;

    for v_event in
        select events.*
          from tinydevcrm.matview_refresh_events as events
         where events.matview_id = v_state.id
           and events.outcome in ('refreshed', 'recovered', 'failed')
           -- The first refresh is compared with the last one before it.
           and events.id >= coalesce(
               (
                   select max(earlier.id)
                     from tinydevcrm.matview_refresh_events as earlier
                    where earlier.matview_id = v_state.id
                      and earlier.row_count is not null
                      and earlier.started_at < replay_rule.since
               ),
               0)
         order by events.id
    loop
        v_outcome := case
            when v_event.outcome = 'failed' then 'failed'
            when v_state.last_outcome = 'failed' or v_state.is_failure_notified then 'recovered'
            else 'refreshed'
        end;
        v_most := null;
        v_most.notify_when := v_state.notify_when;
        v_most.row_count := v_event.row_count;
        v_most.is_early := not v_state.is_failure_notified
            and v_state.rule_count + 1 < v_state.notify_after;
        v_most.quiet_by := case
            when v_state.last_notified_at + v_state.notify_interval > v_event.started_at then
                'interval'
        end;
        v_most.compares := v_rule.compares and v_most.quiet_by is null;

        if v_event.outcome <> 'failed' and v_before.id is not null then
            v_step := tinydevcrm._find_step(
                v_event, v_before, coalesce(v_level_id = v_before.id, false));
            v_is_other := v_added + v_removed = 0
                and v_event.is_changed
                and v_event.added_count is null
                and v_event.row_count = v_base.row_count
                and v_state.ignored_columns = '{}';
            v_is_exact := v_step.is_exact and (v_is_exact or v_added + v_removed = 0)
                and (v_added = 0 or v_step.removed_count = 0)
                and (v_removed = 0 or v_step.added_count = 0);
            v_added := v_added + v_step.added_count;
            v_removed := v_removed + v_step.removed_count;
            -- While it is quiet, nothing is compared.
            if v_most.quiet_by is null then
                v_most.added_count := v_added;
                v_most.removed_count := v_removed;
            end if;
        end if;
        if v_most.added_count is not null
           and v_event.added_count is not null
           and v_level_id = v_base.id
        then
            v_added := v_event.added_count;
            v_removed := v_event.removed_count;
            v_most.added_count := v_added;
            v_most.removed_count := v_removed;
            v_is_exact := true;
        end if;
        v_least := v_most;
        if v_most.added_count is not null and not v_is_exact then
            -- Each rule that compares holds for more rows if it holds for fewer.
            v_least.added_count := greatest(
                v_event.row_count - v_base.row_count, v_is_other::integer, 0);
            v_least.removed_count := greatest(
                v_base.row_count - v_event.row_count, v_is_other::integer, 0);
        end if;

        v_by := tinydevcrm._find_suppression(v_state, v_least, v_outcome);
        replay_rule.is_known := v_by is not distinct from
            tinydevcrm._find_suppression(v_state, v_most, v_outcome);
        if v_event.started_at >= replay_rule.since and (v_by is null or not replay_rule.is_known)
        then
            replay_rule.event_id := v_event.id;
            replay_rule.started_at := v_event.started_at;
            replay_rule.row_count := v_event.row_count;
            replay_rule.added_count := case when v_is_exact then v_most.added_count end;
            replay_rule.removed_count := case when v_is_exact then v_most.removed_count end;
            replay_rule.why := case
                when not replay_rule.is_known then 'unknown: the rows were not compared'
                when v_outcome = 'failed' then 'the refresh failed'
                when v_outcome = 'recovered' and v_state.is_failure_notified then
                    'it succeeded after a failure'
                else v_rule.label
            end;
            return next;
        end if;

        -- What the registry would remember, as tinydevcrm._matview_refresh_events_remember() does.
        if v_outcome = 'failed' then
            v_state.failure_count := v_state.failure_count + 1;
            v_state.is_failure_notified := v_state.is_failure_notified or v_by is null;
        else
            v_state := tinydevcrm._advance_rule(v_state, v_least, v_by);
            v_state.failure_count := 0;
            if v_outcome = 'recovered' and v_by is null then
                v_state.is_failure_notified := false;
            end if;
            if v_by is null then
                v_state.last_notified_at := v_event.started_at;
            end if;
            -- What may not notify yet stays a difference.
            if v_before.id is null
               or v_most.quiet_by is null and coalesce(v_by, 'rule') = 'rule'
            then
                v_base := v_event;
                v_added := 0;
                v_removed := 0;
                v_is_exact := true;
            end if;
            -- A recovery notifies, and does not compare, within an interval.
            if coalesce(v_event.suppressed_by, 'rule') = 'rule'
               and (v_event.added_count is not null
                    or v_event.outcome = 'refreshed' and v_event.plain_reason is null)
            then
                v_level_id := v_event.id;
            end if;
            v_before := v_event;
        end if;
        v_state.last_outcome := v_outcome;
    end loop;
end
$$;

comment on function tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval) is
    'The recorded refreshes of a view at which a notify rule would have notified, and why; also '
    'those of which that cannot be known (is_known is false), because the rule compares rows and '
    'nothing compared them then. Later refreshes are judged as if those had not notified. A null '
    'argument means the setting of the view. Counts are null where they are not known. It looks at '
    'refreshes only, with the ignored columns of that time, and leaves mutes out of account. Raises '
    'TD001 when the view is not watched, TD007 for an unknown rule or a value out of range.';

revoke execute on function
    tinydevcrm._find_step(
        tinydevcrm.matview_refresh_events, tinydevcrm.matview_refresh_events, boolean),
    tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval)
from public;

grant execute on function
    tinydevcrm._find_step(
        tinydevcrm.matview_refresh_events, tinydevcrm.matview_refresh_events, boolean),
    tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval)
to tinydevcrm_user;
