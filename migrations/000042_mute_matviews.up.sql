-- Mutes: until a time, nothing of a view notifies.

create function tinydevcrm._compute_mute(until timestamptz)
    returns interval
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if _compute_mute.until > now()
       and _compute_mute.until <= now() + interval '3650 days'
    then
        -- In seconds: days would change the time when the clocks do.
        return make_interval(secs => extract(epoch from _compute_mute.until - now()));
    end if;

    raise exception using
        errcode = 'TD007',
        message = format(
            'cannot mute until %s', coalesce(_compute_mute.until::text, 'null')),
        hint    = 'Give a time from now to ten years from now, such as now() + ''1 hour''.';
end
$$;

comment on function tinydevcrm._compute_mute(timestamptz) is
    'How long a mute lasts that ends at this time. Raises TD007 unless that is from now to ten '
    'years from now.';

create function tinydevcrm.mute_matview(relation regclass, until timestamptz)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(mute_matview.relation);
begin
    update tinydevcrm.matviews
       set muted_for = tinydevcrm._compute_mute(mute_matview.until)
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.mute_matview(regclass, timestamptz) is
    'Mutes a materialized view until a time: refreshes go on, and none notifies. The first refresh '
    'after it compares with the last one before it, and a failure that still lasts then notifies. '
    'Raises TD001 when the view is not watched, TD007 when the time is not in the next ten years, '
    '42501 when the view is not yours.';

create function tinydevcrm.unmute_matview(relation regclass)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_own_matview(unmute_matview.relation);
begin
    update tinydevcrm.matviews
       set muted_for = interval '0'
     where matviews.id = v_matview.id;
end
$$;

comment on function tinydevcrm.unmute_matview(regclass) is
    'Ends the mute of a materialized view. Raises TD001 when it is not watched, 42501 when it is '
    'not yours.';

revoke execute on function
    tinydevcrm._compute_mute(timestamptz),
    tinydevcrm.mute_matview(regclass, timestamptz),
    tinydevcrm.unmute_matview(regclass)
from public;

grant execute on function
    tinydevcrm._compute_mute(timestamptz),
    tinydevcrm.mute_matview(regclass, timestamptz),
    tinydevcrm.unmute_matview(regclass)
to tinydevcrm_user;
