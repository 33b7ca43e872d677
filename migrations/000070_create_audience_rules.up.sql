-- The rules that a subscription may have of its own: which of the events of a view it gets.

create table tinydevcrm.outcome_rules (
    name        text not null,
    rank        integer not null,
    label       text not null,
    description text not null,
    outcomes    text[] not null,

    constraint outcome_rules_pkey primary key (name),
    constraint outcome_rules_rank_unique unique (rank)
);

comment on table tinydevcrm.outcome_rules is
    'The rules of subscriptions that are about outcomes and not about rows. They hold for events '
    'that notify, whatever the rule of the view.';
comment on column tinydevcrm.outcome_rules.name is
    'The rule.';
comment on column tinydevcrm.outcome_rules.rank is
    'Its place in a list, after those of tinydevcrm.notify_rules.';
comment on column tinydevcrm.outcome_rules.label is
    'When it notifies, in a few words that go on from "notify me".';
comment on column tinydevcrm.outcome_rules.description is
    'When it notifies, in one sentence.';
comment on column tinydevcrm.outcome_rules.outcomes is
    'The outcomes that it is about. A recovery is one only after a failure that notified.';

insert into tinydevcrm.outcome_rules (rank, name, label, description, outcomes)
values (101, 'failed', 'when it fails, and when it works again',
        'The first failure of a streak, and the first success after it.', '{failed,recovered}'),
       (102, 'late', 'when it is late',
        'A refresh that was due and has not begun.', '{late}'),
       (103, 'silent', 'when its tables do not change, and when they do again',
        'Tables that have not changed within the deadline, and their next change.',
        '{silent,resumed}'),
       (104, 'dropped', 'when it is dropped',
        'The drop of the view.', '{dropped}');

alter table tinydevcrm.outcome_rules enable row level security;

create policy outcome_rules_read on tinydevcrm.outcome_rules
    for select
    to tinydevcrm_user
    using (true);

create function tinydevcrm.subscription_rules()
    returns table (
        name          text,
        rank          integer,
        label         text,
        description   text,
        is_about_rows boolean
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select notify_rules.name,
           notify_rules.rank,
           notify_rules.label,
           notify_rules.description,
           true
      from tinydevcrm.notify_rules
     -- Of a subscription the rules about outcomes say which failures it gets.
     where notify_rules.name <> 'never'
     union all
    select outcome_rules.name,
           outcome_rules.rank,
           outcome_rules.label,
           outcome_rules.description,
           false
      from tinydevcrm.outcome_rules
     order by 2
$$;

comment on function tinydevcrm.subscription_rules() is
    'The rules that a subscription may have of its own, one or several. One that is about rows needs '
    'a subscription to one materialized view.';

grant select on tinydevcrm.outcome_rules to tinydevcrm_user;

create function tinydevcrm._read_rules(notify_when text, is_of_one_view boolean)
    returns text[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_rules constant text[] := array(
        select distinct lower(words.word)
          from regexp_split_to_table(trim(_read_rules.notify_when), '[[:space:],]+') as words (word)
         order by 1
    );
    v_bad   text;
begin
    if _read_rules.notify_when is null then
        return null;
    end if;

    select min(words.word)
      into v_bad
      from unnest(v_rules) as words (word)
     where words.word not in (select rules.name from tinydevcrm.subscription_rules() as rules);

    if v_bad is not null or v_rules = '{}' then
        raise exception using
            errcode = 'TD007',
            message = format('there is no rule %L for a subscription', coalesce(v_bad, '')),
            hint    = (
                select 'One or several of these, with commas: '
                       || string_agg(subscription_rules.name, ', ' order by subscription_rules.rank)
                       || '; null for all that the view notifies of.'
                  from tinydevcrm.subscription_rules() as subscription_rules
            );
    end if;

    select min(subscription_rules.name)
      into v_bad
      from tinydevcrm.subscription_rules() as subscription_rules
     where subscription_rules.is_about_rows
       and subscription_rules.name = any (v_rules);

    if v_bad is not null and _read_rules.is_of_one_view is not true then
        raise exception using
            errcode = 'TD007',
            message = format('the rule %s needs a subscription to one view', v_bad),
            hint    = (
                select 'Name the view. A subscription to all views takes '
                       || string_agg(outcome_rules.name, ', ' order by outcome_rules.rank) || '.'
                  from tinydevcrm.outcome_rules
            );
    end if;

    return v_rules;
end
$$;

comment on function tinydevcrm._read_rules(text, boolean) is
    'The rules of a subscription, from a text that lists them with commas; null for null. Raises '
    'TD007 for an unknown one, for none, and for one about rows when the subscription is not to one '
    'view.';

create function tinydevcrm._check_split(is_split boolean, is_of_one_view boolean)
    returns void
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_split.is_split and _check_split.is_of_one_view is not true then
        raise exception using
            errcode = 'TD007',
            message = 'rows are delivered apart only by a subscription to one view',
            hint    = 'Name the view, or leave out each_row and to_column.';
    end if;
end
$$;

comment on function tinydevcrm._check_split(boolean, boolean) is
    'Raises TD007 when a subscription that is not to one view is to deliver rows apart.';

create function tinydevcrm._is_domain(domain text)
    returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select octet_length(_is_domain.domain) <= 253
       and _is_domain.domain ~* '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]$'
$$;

comment on function tinydevcrm._is_domain(text) is
    'Whether a text is the name of a domain with at least two parts, in ASCII.';

create function tinydevcrm._find_recipient(address text, allowed_domains text[])
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select parts.address[1] || '@' || lower(parts.address[2])
      from regexp_matches(
               _find_recipient.address,
               '^ *([A-Za-z0-9.!#$%&''*+/=?^_`{|}~-]{1,64})@([A-Za-z0-9.-]+) *$') as parts (address)
     where octet_length(_find_recipient.address) <= 320
       and tinydevcrm._is_domain(parts.address[2])
       and lower(parts.address[2]) = any (_find_recipient.allowed_domains)
$$;

comment on function tinydevcrm._find_recipient(text, text[]) is
    'The address to which a message goes, from a value of the data: null unless it is one plain '
    'e-mail address of one of these domains. There is no other character in it than an address '
    'without quotes has, and so no comma, space or line break.';

revoke execute on function
    tinydevcrm.subscription_rules(),
    tinydevcrm._is_domain(text),
    tinydevcrm._find_recipient(text, text[]),
    tinydevcrm._read_rules(text, boolean),
    tinydevcrm._check_split(boolean, boolean)
from public;

grant execute on function
    tinydevcrm.subscription_rules(),
    tinydevcrm._is_domain(text),
    tinydevcrm._find_recipient(text, text[]),
    tinydevcrm._read_rules(text, boolean),
    tinydevcrm._check_split(boolean, boolean)
to tinydevcrm_user;
