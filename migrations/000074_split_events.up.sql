-- Which subscriptions get an event, and which of its rows: all, each alone, or those of an address.

create function tinydevcrm._list_held_rules(event tinydevcrm.matview_refresh_events)
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (event).outcome = 'refreshed' or not (event).is_notified then
        return (event).held_rules;
    end if;

    return (event).held_rules || array(
        select outcome_rules.name
          from tinydevcrm.outcome_rules
         where (event).outcome = any (outcome_rules.outcomes)
           -- A recovery may notify by the rule of the view, after a failure that did not.
           and (
               (event).outcome <> 'recovered'
               or coalesce(
                   (
                       select events.outcome = 'failed'
                         from tinydevcrm.matview_refresh_events as events
                        where events.owner = (event).owner
                          and events.matview_id = (event).matview_id
                          and events.is_notified
                          and events.outcome <> 'refreshed'
                          and events.outcome in ('failed', 'recovered')
                          and events.id < (event).id
                        order by events.id desc
                        limit 1
                   ),
                   true)
           )
    );
end
$$;

comment on function tinydevcrm._list_held_rules(tinydevcrm.matview_refresh_events) is
    'The rules of subscriptions that hold for an event: those about rows, which it has recorded, and '
    'those about its outcome.';

create function tinydevcrm._list_event_rows(event tinydevcrm.matview_refresh_events)
    returns table (number bigint, kind text, entry text)
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select row_number() over (order by lists.place, entries.number),
           lists.kind,
           entries.value::text
      from (
        values (1, 'rows', (event).rows::text),
               (2, 'added', (event).added_rows),
               (3, 'updated', (event).updated_rows),
               (4, 'removed', (event).removed_rows)
      ) as lists (place, kind, list)
     cross join lateral json_array_elements(lists.list::json)
           with ordinality as entries (value, number)
     where entries.number <= 1000
$$;

comment on function tinydevcrm._list_event_rows(tinydevcrm.matview_refresh_events) is
    'What an event carries, numbered: its rows, then its added, updated and removed ones, as JSON.';

create function tinydevcrm._read_cell(document text, name text)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case json_typeof(_read_cell.document::json)
        when 'object' then _read_cell.document::json ->> _read_cell.name
    end;
exception
    when untranslatable_character or invalid_text_representation then
        return null;
end
$$;

comment on function tinydevcrm._read_cell(text, text) is
    'A value of a row, given as JSON; null when there is none, or when Postgres cannot read the '
    'JSON, as with \u0000.';

create function tinydevcrm._find_row_kinds(
    event       tinydevcrm.matview_refresh_events,
    notify_when text[]
)
    returns text[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- A row that was added is among the rows of the view too: rules that compare come first.
    with held as (
        select notify_rules.compares,
               notify_rules.row_kinds
          from tinydevcrm.notify_rules
         where case
                   when _find_row_kinds.notify_when is null then notify_rules.name = (
                       select matviews.notify_when
                         from tinydevcrm.matviews
                        where matviews.id = (event).matview_id
                   )
                   else notify_rules.name = any (_find_row_kinds.notify_when)
                        and notify_rules.name = any ((event).held_rules)
               end
    )
    select coalesce(array_agg(distinct kinds.kind), '{}')
      from held
     cross join lateral unnest(held.row_kinds) as kinds (kind)
     where held.compares = (select bool_or(held.compares) from held)
$$;

comment on function tinydevcrm._find_row_kinds(tinydevcrm.matview_refresh_events, text[]) is
    'Which rows of an event a subscription with these rules of its own, or with that of the view, is '
    'notified of: see tinydevcrm.notify_rules.row_kinds.';

create function tinydevcrm._has_more_rows(
    event tinydevcrm.matview_refresh_events,
    kinds text[]
)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when 'rows' = any (_has_more_rows.kinds) then (event).row_count > counted.rows
               else 'added' = any (_has_more_rows.kinds)
                    and (event).added_count > counted.added + counted.updated
                 or 'removed' = any (_has_more_rows.kinds)
                    and (event).removed_count > counted.removed + counted.updated
           end
      from (
        select coalesce(jsonb_array_length((event).rows), 0) as rows,
               coalesce(json_array_length((event).added_rows::json), 0) as added,
               coalesce(json_array_length((event).removed_rows::json), 0) as removed,
               coalesce(json_array_length((event).updated_rows::json), 0) as updated
      ) as counted
$$;

comment on function tinydevcrm._has_more_rows(tinydevcrm.matview_refresh_events, text[]) is
    'Whether there are more rows of these kinds than the event carries.';

create function tinydevcrm._split_event(
    event       tinydevcrm.matview_refresh_events,
    notify_when text[],
    each_row    boolean,
    to_column   text
)
    returns table (row_numbers integer[])
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_kinds constant text[] := tinydevcrm._find_row_kinds(event, _split_event.notify_when);
begin
    return query
        select array_agg(rows.number::integer order by rows.number)
          from tinydevcrm._list_event_rows(event) as rows
         cross join lateral (
             select case
                        when _split_event.to_column is null then null
                        when rows.kind = 'updated' then
                            tinydevcrm._read_cell(
                                tinydevcrm._read_cell(rows.entry, 'new'), _split_event.to_column)
                        else tinydevcrm._read_cell(rows.entry, _split_event.to_column)
                    end as address
         ) as read
         where rows.kind = any (v_kinds)
         group by case
                      when _split_event.each_row then rows.number::text
                      else lower(trim(read.address))
                  end
         order by min(rows.number)
         limit 1000;

    -- The whole event, when it has no such rows, or more than it carries; and the end of a failure,
    -- for those who got that.
    if not found
       or tinydevcrm._has_more_rows(event, v_kinds)
       or (event).outcome = 'recovered' and _split_event.to_column is not null
    then
        _split_event.row_numbers := null;
        return next;
    end if;
end
$$;

comment on function tinydevcrm._split_event(
    tinydevcrm.matview_refresh_events, text[], boolean, text
) is
    'The parts in which a subscription gets an event: the numbers of the rows of each, as in '
    'tinydevcrm._list_event_rows(), and null for the whole event. With each_row a part for each '
    'row, else one for each value of to_column.';

create function tinydevcrm._carry_parts(
    event       tinydevcrm.matview_refresh_events,
    row_numbers integer[]
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_event   tinydevcrm.matview_refresh_events := event;
    v_kinds   text[];
    v_rows    text[];
    v_updated integer;
begin
    select array_agg(rows.kind order by rows.number),
           array_agg(
               case rows.kind
                   when 'updated' then tinydevcrm._read_cell(rows.entry, 'new')
                   else rows.entry
               end
               order by rows.number) filter (where rows.kind <> 'removed'),
           count(*) filter (where rows.kind = 'updated'),
           '[' || string_agg(rows.entry, ', ' order by rows.number)
                      filter (where rows.kind = 'added') || ']',
           '[' || string_agg(rows.entry, ', ' order by rows.number)
                      filter (where rows.kind = 'updated') || ']',
           '[' || string_agg(rows.entry, ', ' order by rows.number)
                      filter (where rows.kind = 'removed') || ']'
      into v_kinds,
           v_rows,
           v_updated,
           v_event.added_rows,
           v_event.updated_rows,
           v_event.removed_rows
      from tinydevcrm._list_event_rows(event) as rows
     where rows.number = any (_carry_parts.row_numbers);

    v_event.rows := tinydevcrm._carry_rows(v_rows, 1048576);
    v_event.is_cut := false;
    v_event.added_count := null;
    v_event.removed_count := null;
    v_event.updated_count := null;
    if v_kinds[1] <> 'rows' then
        v_event.added_count := cardinality(array_positions(v_kinds, 'added')) + v_updated;
        v_event.removed_count := cardinality(array_positions(v_kinds, 'removed')) + v_updated;
        v_event.updated_count := case when (event).updated_count is not null then v_updated end;
        v_event.added_rows := coalesce(v_event.added_rows, '[]');
        v_event.removed_rows := coalesce(
            v_event.removed_rows, case when (event).removed_rows is not null then '[]' end);
        v_event.updated_rows := coalesce(
            v_event.updated_rows, case when (event).updated_rows is not null then '[]' end);
    end if;
    return v_event;
end
$$;

comment on function tinydevcrm._carry_parts(tinydevcrm.matview_refresh_events, integer[]) is
    'An event with these of its rows alone, and with the counts of these.';

create function tinydevcrm._address_event(
    event       tinydevcrm.matview_refresh_events,
    notify_when text[],
    row_numbers integer[]
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_event tinydevcrm.matview_refresh_events := event;
    v_kinds text[];
begin
    if _address_event.row_numbers is not null then
        v_event := tinydevcrm._carry_parts(event, _address_event.row_numbers);
    elsif _address_event.notify_when is not null then
        -- As tinydevcrm._record_refresh() does by the rule of the view.
        v_kinds := tinydevcrm._find_row_kinds(event, _address_event.notify_when);
        if v_kinds <@ '{added,updated}' and v_kinds <> '{}' then
            v_event.rows := tinydevcrm._carry_rows(
                array(
                    select case rows.kind
                               when 'updated' then tinydevcrm._read_cell(rows.entry, 'new')
                               else rows.entry
                           end
                      from tinydevcrm._list_event_rows(event) as rows
                     where rows.kind = any (v_kinds)
                ),
                1048576);
            v_event.is_cut := tinydevcrm._has_more_rows(event, v_kinds);
        elsif v_kinds <@ '{removed,updated}' and v_kinds <> '{}' then
            v_event.rows := null;
            v_event.is_cut := tinydevcrm._has_more_rows(event, v_kinds);
        end if;
    end if;

    v_event.is_notified := true;
    v_event.suppressed_by := null;
    return v_event;
end
$$;

comment on function tinydevcrm._address_event(
    tinydevcrm.matview_refresh_events, text[], integer[]
) is
    'An event as a subscription with these rules of its own gets it, or these rows of it: as if its '
    'rules were that of the view.';

create function tinydevcrm._find_event_recipient(
    event           tinydevcrm.matview_refresh_events,
    row_numbers     integer[],
    to_column       text,
    allowed_domains text[]
)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- The column may have changed since they were put together.
    select case
               when count(distinct lower(found.recipient)) = 1 and count(*) = count(found.recipient)
               then (array_agg(found.recipient order by rows.number))[1]
           end
      from tinydevcrm._list_event_rows(event) as rows
     cross join lateral tinydevcrm._find_recipient(
               tinydevcrm._read_cell(
                   case rows.kind
                       when 'updated' then tinydevcrm._read_cell(rows.entry, 'new')
                       else rows.entry
                   end,
                   _find_event_recipient.to_column),
               _find_event_recipient.allowed_domains) as found (recipient)
     where rows.number = any (_find_event_recipient.row_numbers)
$$;

comment on function tinydevcrm._find_event_recipient(
    tinydevcrm.matview_refresh_events, integer[], text, text[]
) is
    'The address of these rows of an event; null unless all have the same, to which messages may go.';

revoke execute on function
    tinydevcrm._list_held_rules(tinydevcrm.matview_refresh_events),
    tinydevcrm._list_event_rows(tinydevcrm.matview_refresh_events),
    tinydevcrm._read_cell(text, text),
    tinydevcrm._find_row_kinds(tinydevcrm.matview_refresh_events, text[]),
    tinydevcrm._has_more_rows(tinydevcrm.matview_refresh_events, text[]),
    tinydevcrm._split_event(tinydevcrm.matview_refresh_events, text[], boolean, text),
    tinydevcrm._carry_parts(tinydevcrm.matview_refresh_events, integer[]),
    tinydevcrm._address_event(tinydevcrm.matview_refresh_events, text[], integer[]),
    tinydevcrm._find_event_recipient(
        tinydevcrm.matview_refresh_events, integer[], text, text[])
from public;

grant execute on function
    tinydevcrm._list_held_rules(tinydevcrm.matview_refresh_events),
    tinydevcrm._list_event_rows(tinydevcrm.matview_refresh_events),
    tinydevcrm._read_cell(text, text),
    tinydevcrm._find_row_kinds(tinydevcrm.matview_refresh_events, text[]),
    tinydevcrm._has_more_rows(tinydevcrm.matview_refresh_events, text[]),
    tinydevcrm._split_event(tinydevcrm.matview_refresh_events, text[], boolean, text),
    tinydevcrm._carry_parts(tinydevcrm.matview_refresh_events, integer[]),
    tinydevcrm._address_event(tinydevcrm.matview_refresh_events, text[], integer[]),
    tinydevcrm._find_event_recipient(
        tinydevcrm.matview_refresh_events, integer[], text, text[])
to tinydevcrm_user;
