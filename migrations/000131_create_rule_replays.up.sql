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

create type tinydevcrm._replay as (
    matview       tinydevcrm.matviews,
    compares      boolean,
    before        tinydevcrm.matview_refresh_events,
    base          tinydevcrm.matview_refresh_events,
    level_id      bigint,
    added_count   bigint,
    removed_count bigint,
    is_exact      boolean,
    outcome       text,
    suppressed_by text,
    is_known      boolean
);

comment on type tinydevcrm._replay is
    'A running replay of a notify rule: the registration as it would have been with the rule, and '
    'whether the rule compares; the last refresh (before), the one whose rows the rule compares with '
    '(base), and the one with whose rows the recorded counts compare (level_id); what was added and '
    'removed since base, at most so many unless is_exact; and how the last event was judged.';

create function tinydevcrm._count_replayed(
    replay tinydevcrm._replay,
    event  tinydevcrm.matview_refresh_events
)
    returns tinydevcrm._replay
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_replay tinydevcrm._replay := replay;
    v_step   record;
begin
    if (event).added_count is not null and (replay).level_id = ((replay).base).id then
        v_replay.added_count := (event).added_count;
        v_replay.removed_count := (event).removed_count;
        v_replay.is_exact := true;
        return v_replay;
    end if;

    v_step := tinydevcrm._find_step(
        event, (replay).before, coalesce((replay).level_id = ((replay).before).id, false));
    -- What was added and then removed, or the other way round, may be the same rows.
    v_replay.is_exact := v_step.is_exact
        and ((replay).is_exact or (replay).added_count + (replay).removed_count = 0)
        and ((replay).added_count = 0 or v_step.removed_count = 0)
        and ((replay).removed_count = 0 or v_step.added_count = 0);
    v_replay.added_count := (replay).added_count + v_step.added_count;
    v_replay.removed_count := (replay).removed_count + v_step.removed_count;
    return v_replay;
end
$$;

comment on function tinydevcrm._count_replayed(
    tinydevcrm._replay, tinydevcrm.matview_refresh_events
) is
    'The replay with what a refresh that succeeded has added and removed.';

create function tinydevcrm._judge_replayed(
    replay tinydevcrm._replay,
    event  tinydevcrm.matview_refresh_events
)
    returns tinydevcrm._replay
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_replay   tinydevcrm._replay := replay;
    v_matview  tinydevcrm.matviews := (replay).matview;
    v_most     tinydevcrm._refresh;
    v_least    tinydevcrm._refresh;
    v_is_other boolean;
begin
    v_replay.outcome := case
        when (event).outcome = 'failed' then 'failed'
        when v_matview.last_outcome = 'failed' or v_matview.is_failure_notified then 'recovered'
        else 'refreshed'
    end;
    v_most.notify_when := v_matview.notify_when;
    v_most.row_count := (event).row_count;
    v_most.is_early := not v_matview.is_failure_notified
        and v_matview.rule_count + 1 < v_matview.notify_after;
    v_most.quiet_by := case
        when v_matview.last_notified_at + v_matview.notify_interval > (event).started_at then
            'interval'
    end;
    v_most.rule_compares := (replay).compares;

    if v_replay.outcome <> 'failed' and ((replay).before).id is not null then
        v_replay := tinydevcrm._count_replayed(v_replay, event);
        -- While it is quiet, nothing is compared.
        if v_most.quiet_by is null then
            v_most.added_count := v_replay.added_count;
            v_most.removed_count := v_replay.removed_count;
        end if;
    end if;

    v_least := v_most;
    if v_most.added_count is not null and not v_replay.is_exact then
        -- By a hash of all rows, since the refresh before.
        v_is_other := (replay).added_count + (replay).removed_count = 0
            and (event).is_changed
            and (event).added_count is null
            and (event).row_count = ((replay).base).row_count
            and v_matview.ignored_columns = '{}';
        -- Each rule that compares holds for more rows if it holds for fewer.
        v_least.added_count := greatest(
            (event).row_count - ((replay).base).row_count, v_is_other::integer, 0);
        v_least.removed_count := greatest(
            ((replay).base).row_count - (event).row_count, v_is_other::integer, 0);
    end if;

    v_replay.suppressed_by := tinydevcrm._find_suppression(v_matview, v_least, v_replay.outcome);
    v_replay.is_known := v_replay.suppressed_by is not distinct from
        tinydevcrm._find_suppression(v_matview, v_most, v_replay.outcome);
    if v_replay.outcome <> 'failed' then
        v_replay.matview := tinydevcrm._advance_rule(v_matview, v_least, v_replay.suppressed_by);
        -- What may not notify yet stays a difference.
        if ((replay).before).id is null
           or v_most.quiet_by is null and coalesce(v_replay.suppressed_by, 'rule') = 'rule'
        then
            v_replay.base := event;
        end if;
    end if;
    return v_replay;
end
$$;

comment on function tinydevcrm._judge_replayed(
    tinydevcrm._replay, tinydevcrm.matview_refresh_events
) is
    'The replay with how the rule judges an event. Known is what is the same for the fewest and for '
    'the most rows that may have been added and removed.';

create function tinydevcrm._advance_replay(
    replay tinydevcrm._replay,
    event  tinydevcrm.matview_refresh_events
)
    returns tinydevcrm._replay
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_replay      tinydevcrm._replay := replay;
    v_matview     tinydevcrm.matviews := (replay).matview;
    v_is_notified boolean := (replay).suppressed_by is null;
begin
    if (replay).outcome = 'failed' then
        v_matview.failure_count := v_matview.failure_count + 1;
        v_matview.is_failure_notified := v_matview.is_failure_notified or v_is_notified;
    else
        v_matview.failure_count := 0;
        v_matview.is_failure_notified := v_matview.is_failure_notified
            and not ((replay).outcome = 'recovered' and v_is_notified);
        if v_is_notified then
            v_matview.last_notified_at := (event).started_at;
        end if;
        if ((replay).base).id = (event).id then
            v_replay.added_count := 0;
            v_replay.removed_count := 0;
            v_replay.is_exact := true;
        end if;
        -- A recovery notifies, and does not compare, within an interval.
        if coalesce((event).suppressed_by, 'rule') = 'rule'
           and ((event).added_count is not null
                or (event).outcome = 'refreshed' and (event).plain_reason is null)
        then
            v_replay.level_id := (event).id;
        end if;
        v_replay.before := event;
    end if;

    v_matview.last_outcome := (replay).outcome;
    v_replay.matview := v_matview;
    return v_replay;
end
$$;

comment on function tinydevcrm._advance_replay(
    tinydevcrm._replay, tinydevcrm.matview_refresh_events
) is
    'The replay after an event that has been judged: with what the registry would remember, as '
    'tinydevcrm._matview_refresh_events_remember() does.';

create function tinydevcrm._begin_replay(
    relation        regclass,
    notify_when     text,
    notify_after    integer,
    notify_interval interval
)
    returns tinydevcrm._replay
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_replay  tinydevcrm._replay;
    v_matview tinydevcrm.matviews := tinydevcrm._find_registration(_begin_replay.relation);
begin
    v_matview.notify_when := coalesce(_begin_replay.notify_when, v_matview.notify_when);
    v_matview.notify_after := coalesce(_begin_replay.notify_after, v_matview.notify_after);
    v_matview.notify_interval := coalesce(
        _begin_replay.notify_interval, v_matview.notify_interval);
    select notify_rules.compares
      into v_replay.compares
      from tinydevcrm.notify_rules
     where notify_rules.name = v_matview.notify_when;

    if not found
       or v_matview.notify_after not between 1 and 1000
       or v_matview.notify_interval not between interval '0' and interval '10 years'
    then
        raise exception using
            errcode = 'TD007',
            message = format(
                'there is no rule %L with the interval %s after %s refreshes in a row',
                v_matview.notify_when, v_matview.notify_interval, v_matview.notify_after),
            hint    = 'tinydevcrm.notify_rules lists the rules; an interval is 0 to 10 years; '
                      'notify_after is 1 to 1000.';
    end if;

    v_matview.muted_until := null;
    v_matview.last_outcome := null;
    v_matview.last_row_count := null;
    v_matview.last_notified_at := null;
    v_matview.rule_count := 0;
    v_matview.failure_count := 0;
    v_matview.is_failure_notified := false;
    v_replay.matview := v_matview;
    v_replay.added_count := 0;
    v_replay.removed_count := 0;
    v_replay.is_exact := true;
    return v_replay;
end
$$;

comment on function tinydevcrm._begin_replay(regclass, text, integer, interval) is
    'A replay of a rule for a view, before its first event: see tinydevcrm.replay_rule().';

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
    v_replay tinydevcrm._replay := tinydevcrm._begin_replay(
        replay_rule.relation, replay_rule.notify_when, replay_rule.notify_after,
        replay_rule.notify_interval);
    v_event  tinydevcrm.matview_refresh_events;
    v_first  bigint;
    v_label  text;
    v_is_end boolean;
begin
    select notify_rules.label
      into v_label
      from tinydevcrm.notify_rules
     where notify_rules.name = (v_replay.matview).notify_when;

    -- The first refresh is compared with the last one before it.
    select max(events.id)
      into v_first
      from tinydevcrm.matview_refresh_events as events
     where events.matview_id = (v_replay.matview).id
       and events.row_count is not null
       and events.started_at < replay_rule.since;

    for v_event in
        select events.*
          from tinydevcrm.matview_refresh_events as events
         where events.matview_id = (v_replay.matview).id
           and events.outcome in ('refreshed', 'recovered', 'failed')
           and events.id >= coalesce(v_first, 0)
         order by events.id
    loop
        v_is_end := (v_replay.matview).is_failure_notified;
        v_replay := tinydevcrm._judge_replayed(v_replay, v_event);

        if v_event.started_at >= replay_rule.since
           and (v_replay.suppressed_by is null or not v_replay.is_known)
        then
            replay_rule.event_id := v_event.id;
            replay_rule.started_at := v_event.started_at;
            replay_rule.is_known := v_replay.is_known;
            replay_rule.row_count := v_event.row_count;
            replay_rule.added_count := null;
            replay_rule.removed_count := null;
            if v_replay.is_exact
               and v_event.row_count is not null
               and (v_replay.before).id is not null
            then
                replay_rule.added_count := v_replay.added_count;
                replay_rule.removed_count := v_replay.removed_count;
            end if;
            replay_rule.why := case
                when not v_replay.is_known then 'unknown: the rows were not compared'
                when v_replay.outcome = 'failed' then 'the refresh failed'
                when v_replay.outcome = 'recovered' and v_is_end then 'it succeeded after a failure'
                else v_label
            end;
            return next;
        end if;

        v_replay := tinydevcrm._advance_replay(v_replay, v_event);
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
    tinydevcrm._count_replayed(tinydevcrm._replay, tinydevcrm.matview_refresh_events),
    tinydevcrm._judge_replayed(tinydevcrm._replay, tinydevcrm.matview_refresh_events),
    tinydevcrm._advance_replay(tinydevcrm._replay, tinydevcrm.matview_refresh_events),
    tinydevcrm._begin_replay(regclass, text, integer, interval),
    tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval)
from public;

grant execute on function
    tinydevcrm._find_step(
        tinydevcrm.matview_refresh_events, tinydevcrm.matview_refresh_events, boolean),
    tinydevcrm._count_replayed(tinydevcrm._replay, tinydevcrm.matview_refresh_events),
    tinydevcrm._judge_replayed(tinydevcrm._replay, tinydevcrm.matview_refresh_events),
    tinydevcrm._advance_replay(tinydevcrm._replay, tinydevcrm.matview_refresh_events),
    tinydevcrm._begin_replay(regclass, text, integer, interval),
    tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval)
to tinydevcrm_user;
