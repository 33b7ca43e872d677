-- Several audiences of one view: subscriptions with rules of their own, and with rows apart.

-- Only subscriptions that ask something of their view, which are few.
create index subscriptions_asking_idx
    on tinydevcrm.subscriptions (matview_id)
 where notify_when is not null or each_row or to_column is not null;

create function tinydevcrm._list_asked_rules(
    matview_id      bigint,
    owner           regrole,
    out asked_rules text[],
    out carries_all boolean
)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct rules.name) filter (where rules.name is not null), '{}'),
           coalesce(
               bool_or(subscriptions.each_row or subscriptions.to_column is not null), false)
      from tinydevcrm.subscriptions
      left join tinydevcrm.notify_rules as rules
        on rules.name = any (subscriptions.notify_when)
     where subscriptions.matview_id = _list_asked_rules.matview_id
       and not subscriptions.is_dropped
       and (
           subscriptions.notify_when is not null
           or subscriptions.each_row
           or subscriptions.to_column is not null
       )
       and (
           pg_has_role(subscriptions.owner, _list_asked_rules.owner, 'usage')
           or pg_has_role(subscriptions.owner, 'tinydevcrm_orchestrator', 'usage')
           or pg_has_role(subscriptions.owner, 'tinydevcrm_admin', 'usage')
       )
$$;

comment on function tinydevcrm._list_asked_rules(bigint, regrole) is
    'What the subscriptions to a materialized view of this owner ask of it: '
    'tinydevcrm.matviews.asked_rules and carries_all.';

create function tinydevcrm._subscriptions_ask()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews;
    v_asked   record;
begin
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.id = new.matview_id
       for no key update;

    v_asked := tinydevcrm._list_asked_rules(v_matview.id, v_matview.owner);
    if v_asked.asked_rules = v_matview.asked_rules
       and v_asked.carries_all = v_matview.carries_all
    then
        return null;
    end if;

    update tinydevcrm.matviews
       set asked_rules = v_asked.asked_rules,
           carries_all = v_asked.carries_all
     where matviews.id = v_matview.id;

    -- With it, later changes would be found by a comparison with rows of long ago.
    if not tinydevcrm._compares(v_asked.asked_rules || v_matview.notify_when) then
        delete
          from tinydevcrm.matview_baselines
         where matview_baselines.matview_id = v_matview.id;

        update tinydevcrm.matviews
           set has_baseline = false
         where matviews.id = v_matview.id
           and matviews.has_baseline;
    end if;

    return null;
end
$$;

comment on function tinydevcrm._subscriptions_ask() is
    'Writes to the registry what the subscriptions to a materialized view ask of it, and removes a '
    'baseline that nothing needs. Security definer: users write neither, and do not see the '
    'subscriptions of others. As a trigger it runs only for a subscription that row-level security '
    'has let through.';

create trigger _500_ask
    after insert on tinydevcrm.subscriptions
    for each row
    when (new.notify_when is not null or new.each_row or new.to_column is not null)
    execute function tinydevcrm._subscriptions_ask();

create trigger _500_ask_again
    after update of notify_when, each_row, to_column on tinydevcrm.subscriptions
    for each row
    when (
        old.notify_when is distinct from new.notify_when
        or old.each_row <> new.each_row
        or old.to_column is distinct from new.to_column
    )
    execute function tinydevcrm._subscriptions_ask();

-- Before the delete, for which a refresh that has locked the registration would wait.
create trigger _400_ask_no_more
    after update of is_dropped on tinydevcrm.subscriptions
    for each row
    when (
        new.is_dropped
        and (old.notify_when is not null or old.each_row or old.to_column is not null)
    )
    execute function tinydevcrm._subscriptions_ask();

create function tinydevcrm._matviews_fill_in_asked()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    select asked.asked_rules,
           asked.carries_all
      into new.asked_rules,
           new.carries_all
      from tinydevcrm._list_asked_rules(new.id, new.owner) as asked;

    return new;
end
$$;

comment on function tinydevcrm._matviews_fill_in_asked() is
    'Writes what is asked of a materialized view that takes the place of one with subscriptions. '
    'Security definer: users do not see the subscriptions of others. As a trigger it runs only for '
    'a registration that row-level security has let through.';

create trigger _300_fill_in_asked
    before insert on tinydevcrm.matviews
    for each row
    execute function tinydevcrm._matviews_fill_in_asked();

create function tinydevcrm._check_recipients(
    matview_id      bigint,
    to_column       text,
    allowed_domains text[]
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns text[];
    v_bad     text;
begin
    if _check_recipients.to_column is null then
        return;
    end if;

    select array_agg(attname::text order by attnum)
      into v_columns
      from tinydevcrm.matviews
      join pg_attribute
        on attrelid = matviews.relation
       and attnum > 0
       and not attisdropped
     where matviews.id = _check_recipients.matview_id;

    if _check_recipients.to_column <> all (v_columns) then
        raise exception using
            errcode = 'TD007',
            message = format('the view has no column %L', _check_recipients.to_column),
            hint    = 'Its columns: ' || array_to_string(v_columns, ', ') || '.';
    end if;

    if coalesce(_check_recipients.allowed_domains, '{}') = '{}' then
        raise exception using
            errcode = 'TD007',
            message = 'addresses from a column need the domains to which messages may go',
            hint    = 'Such as allowed_domains => ''{example.com}''.';
    end if;

    select min(domains.domain)
      into v_bad
      from unnest(_check_recipients.allowed_domains) as domains (domain)
     where not coalesce(tinydevcrm._is_domain(domains.domain), false);

    if v_bad is not null or array_position(_check_recipients.allowed_domains, null) is not null then
        raise exception using
            errcode = 'TD007',
            message = format('%L is no domain', coalesce(v_bad, 'null')),
            hint    = 'Write each as it stands behind the @, such as example.com. A domain does not '
                      'stand for those below it.';
    end if;
end
$$;

comment on function tinydevcrm._check_recipients(bigint, text, text[]) is
    'Raises TD007 unless the column is one of the view, and there are domains; nothing without a '
    'column.';

create function tinydevcrm.set_audience(
    name            text,
    notify_when     text default null,
    each_row        boolean default false,
    to_column       text default null,
    allowed_domains text[] default '{}'
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_id         constant bigint := tinydevcrm._find_own_subscription(set_audience.name);
    v_rules      text[];
    v_matview_id bigint;
begin
    select subscriptions.matview_id
      into v_matview_id
      from tinydevcrm.subscriptions
     where subscriptions.id = v_id;

    v_rules := tinydevcrm._read_rules(set_audience.notify_when, v_matview_id is not null);
    perform tinydevcrm._check_split(
        set_audience.each_row or set_audience.to_column is not null, v_matview_id is not null);
    perform tinydevcrm._check_recipients(
        v_matview_id, set_audience.to_column, set_audience.allowed_domains);

    update tinydevcrm.subscriptions
       set notify_when = v_rules,
           each_row = coalesce(set_audience.each_row, false),
           to_column = set_audience.to_column,
           allowed_domains = array(
               select distinct lower(domains.domain)
                 from unnest(set_audience.allowed_domains) as domains (domain)
                order by 1
           )
     where subscriptions.id = v_id;
end
$$;

comment on function tinydevcrm.set_audience(text, text, boolean, text, text[]) is
    'Sets which events of its view a subscription gets, and in which parts, from the next event on. '
    'notify_when lists rules of its own, with commas: see tinydevcrm.subscription_rules(); null for '
    'the events that notify. With each_row, each row is a delivery of its own. With to_column, rows '
    'with the same address in that column are one, to that address if its domain is one of '
    'allowed_domains. Arguments that are left out are reset. Raises TD001 when there is no such '
    'subscription, TD007 for a rule, column or domain that is none.';

revoke execute on function
    tinydevcrm._list_asked_rules(bigint, regrole),
    tinydevcrm._subscriptions_ask(),
    tinydevcrm._matviews_fill_in_asked(),
    tinydevcrm._check_recipients(bigint, text, text[]),
    tinydevcrm.set_audience(text, text, boolean, text, text[])
from public;

grant execute on function
    tinydevcrm._check_recipients(bigint, text, text[]),
    tinydevcrm.set_audience(text, text, boolean, text, text[])
to tinydevcrm_user;
