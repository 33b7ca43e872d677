-- The settings of this installation, in one row, and what the orchestrator writes there when it starts.

create table tinydevcrm.settings (
    id                  boolean not null default true,
    event_retention     interval not null default interval '30 days',
    event_limit         integer not null default 100000,
    event_row_limit     integer not null default 10,
    event_byte_limit    integer not null default 65536,
    compare_row_limit   integer not null default 10000,
    embed_row_limit     integer not null default 100,
    embed_byte_limit    integer not null default 262144,
    failure_grouping    interval not null default interval '5 seconds',
    delivery_retention  interval not null default interval '90 days',
    job_run_retention   interval not null default interval '7 days',
    import_retention    interval not null default interval '90 days',
    drop_retention      interval not null default interval '30 days',
    user_connections    integer not null default 10,
    user_timeout        interval not null default interval '5 minutes',
    user_schedules      integer not null default 50,
    reference_row_limit integer not null default 10000,
    suggested_row_limit integer not null default 10000,
    webhook_networks    cidr[] not null default '{}',
    refresh_lock_timeout interval not null default interval '3 seconds',
    refresh_timeout     interval,
    webhook_failure_limit integer not null default 5,
    webhook_probe_pause interval not null default interval '2 minutes',
    mail_server         text,
    mail_gathering      interval not null default interval '1 minute',
    mail_hourly_limit   integer not null default 20,

    constraint settings_pkey primary key (id),
    constraint settings_one_row check (id),
    constraint settings_event_retention_positive check (event_retention > interval '0'),
    constraint settings_event_limit_positive check (event_limit > 0),
    constraint settings_event_row_limit_range check (event_row_limit between 0 and 1000),
    constraint settings_event_byte_limit_range check (event_byte_limit between 0 and 1048576),
    constraint settings_compare_row_limit_range check (
        compare_row_limit between 0 and 1000000
    ),
    constraint settings_embed_row_limit_range check (embed_row_limit between 0 and 1000),
    constraint settings_embed_byte_limit_range check (embed_byte_limit between 0 and 1048576),
    constraint settings_failure_grouping_range check (
        failure_grouping between interval '0' and interval '10 minutes'
    ),
    constraint settings_delivery_retention_positive check (delivery_retention > interval '0'),
    constraint settings_job_run_retention_positive check (job_run_retention > interval '0'),
    constraint settings_import_retention_positive check (import_retention > interval '0'),
    constraint settings_drop_retention_positive check (drop_retention > interval '0'),
    constraint settings_user_connections_range check (user_connections between 1 and 1000),
    constraint settings_user_timeout_range check (user_timeout >= interval '1 second'),
    constraint settings_user_schedules_range check (user_schedules between 1 and 10000),
    constraint settings_reference_row_limit_not_negative check (reference_row_limit >= 0),
    constraint settings_suggested_row_limit_not_negative check (suggested_row_limit >= 0),
    constraint settings_webhook_networks_count check (cardinality(webhook_networks) <= 100),
    constraint settings_refresh_lock_timeout_range check (
        refresh_lock_timeout between interval '10 ms' and interval '1 hour'
    ),
    constraint settings_refresh_timeout_range check (
        refresh_timeout between interval '1 second' and interval '7 days'
    ),
    constraint settings_webhook_failure_limit_range check (
        webhook_failure_limit between 1 and 1000
    ),
    constraint settings_webhook_probe_pause_range check (
        webhook_probe_pause between interval '1 second' and interval '1 hour'
    ),
    constraint settings_mail_server_length check (octet_length(mail_server) between 1 and 300),
    constraint settings_mail_gathering_range check (
        mail_gathering between interval '0' and interval '1 day'
    ),
    constraint settings_mail_hourly_limit_range check (mail_hourly_limit between 1 and 1000)
);

comment on table tinydevcrm.settings is
    'Settings of this installation, in one row. An administrator changes them with update.';
comment on column tinydevcrm.settings.id is
    'Always true: keeps the table at one row.';
comment on column tinydevcrm.settings.event_retention is
    'Age after which refresh events and their deliveries are removed. An event with a pending '
    'delivery stays.';
comment on column tinydevcrm.settings.event_limit is
    'Number of refresh events that are kept of each materialized view. Events with pending '
    'deliveries are kept in addition.';
comment on column tinydevcrm.settings.event_row_limit is
    'Maximum number of rows of a materialized view that an event carries, 0 to 1000.';
comment on column tinydevcrm.settings.event_byte_limit is
    'Maximum number of bytes of these rows as JSON, 0 to 1048576. A row that would exceed it is '
    'left out.';
comment on column tinydevcrm.settings.compare_row_limit is
    'Up to how many rows of a materialized view with a rule that compares the rows themselves are '
    'kept, so that an event carries those that were removed or updated, 0 to 1000000. Beyond it, '
    'hashes are kept, and an event carries counts and added rows.';
comment on column tinydevcrm.settings.embed_row_limit is
    'Maximum number of rows of a materialized view that a widget shows, 0 to 1000.';
comment on column tinydevcrm.settings.embed_byte_limit is
    'Maximum number of bytes of these rows as JSON, 0 to 1048576. A row that would exceed it is '
    'left out.';
comment on column tinydevcrm.settings.failure_grouping is
    'How long a failure or a recovery waits for others like it, so that a webhook of all views '
    'gets one post for all of them: 0 to 10 minutes; 0 for never.';
comment on column tinydevcrm.settings.delivery_retention is
    'Age after which a refresh event is removed even if one of its deliveries is still pending or '
    'parked: see tinydevcrm.subscriptions.expired_count.';
comment on column tinydevcrm.settings.job_run_retention is
    'Age after which pg_cron''s history of TinyDevCRM''s jobs is removed.';
comment on column tinydevcrm.settings.import_retention is
    'Age after which an import is removed from the log. The last import of each table that still '
    'exists stays.';
comment on column tinydevcrm.settings.drop_retention is
    'Age after which the definition of a dropped materialized view is removed: see '
    'tinydevcrm.dropped_matviews. One to which there are subscriptions stays.';

comment on column tinydevcrm.settings.user_connections is
    'Maximum number of connections that a user has at once, 1 to 1000. The user''s jobs count too. '
    'create_user() sets it, except on a Citus coordinator, whose workers would then have the limit '
    'too.';
comment on column tinydevcrm.settings.user_timeout is
    'statement_timeout of users: create_user() sets it. At least a second. It limits each refresh '
    'of their jobs too.';
comment on column tinydevcrm.settings.user_schedules is
    'Maximum number of different schedules that an owner of materialized views has, 1 to 10000. '
    'Each is a job. Any number of views share one.';
comment on column tinydevcrm.settings.reference_row_limit is
    'Up to this number of rows, distribute_table() copies a table to every worker of Citus instead '
    'of sharding it by a column; 0 for never.';
comment on column tinydevcrm.settings.suggested_row_limit is
    'Up to how many rows the rule changed is suggested for a new view that is not tracked, because '
    'its rows are compared at each refresh: see tinydevcrm._suggest_rule().';
comment on column tinydevcrm.settings.webhook_networks is
    'Private networks whose addresses a webhook''s URL may name, at most 100. The orchestrator '
    'writes those of its --allow-webhooks-to here each time it starts, and posts to no others.';
comment on column tinydevcrm.settings.refresh_lock_timeout is
    'How long a refresh waits for each lock, 10 ms to 1 hour: readers of the view queue behind a '
    'refresh that waits. A job waits no longer than a quarter of the seconds of its schedule, and '
    'than its role''s lock_timeout. A session that has set a lock_timeout keeps it for a refresh by '
    'hand.';
comment on column tinydevcrm.settings.refresh_timeout is
    'How long a refresh by a job may take, 1 second to 7 days; null for as long as it takes. The '
    'statement_timeout of the role limits it too.';
comment on column tinydevcrm.settings.webhook_failure_limit is
    'After this number of failures in a row, 1 to 1000, the endpoint of a webhook is down: one '
    'delivery at a time probes it.';
comment on column tinydevcrm.settings.webhook_probe_pause is
    'Longest pause between two probes of an endpoint that is down, 1 second to 1 hour. The first '
    'one is 5 seconds, and each is twice the last.';

insert into tinydevcrm.settings default values;

comment on column tinydevcrm.settings.mail_server is
    'The SMTP server of the orchestrator that started last, by its SMTP_URL, which it writes here '
    'without user and password; null when it has none. Then e-mails wait.';
comment on column tinydevcrm.settings.mail_gathering is
    'How long after an e-mail the next one of the same subscription is sent, with everything that '
    'has come meanwhile: 0 to 1 day.';
comment on column tinydevcrm.settings.mail_hourly_limit is
    'How many e-mails a subscription sends within an hour, 1 to 1000. The next one has everything '
    'that has come meanwhile.';

alter table tinydevcrm.settings enable row level security;

create policy settings_all_read on tinydevcrm.settings
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.settings to tinydevcrm_user;

create function tinydevcrm._is_private_address(address inet)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select not exists (
               select
                 from tinydevcrm.settings
                where _is_private_address.address <<= any (webhook_networks)
           )
           and case family(_is_private_address.address)
               when 4 then _is_private_address.address <<= any (
                   '{0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, '
                   '172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, 192.31.196.0/24, 192.52.193.0/24, '
                   '192.88.99.0/24, 192.168.0.0/16, 192.175.48.0/24, 198.18.0.0/15, '
                   '198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/4, 240.0.0.0/4}'::inet[])
               else not _is_private_address.address <<= '2000::/3'
                    or _is_private_address.address <<= any (
                        '{2001::/23, 2001:db8::/32, 2002::/16, 2620:4f:8000::/48, '
                        '3fff::/20}'::inet[])
           end
$$;

comment on function tinydevcrm._is_private_address(inet) is
    'Whether an address is private, of the machine itself or of another special purpose, and not '
    'in tinydevcrm.settings.webhook_networks. The orchestrator checks the address of each '
    'connection by the same networks.';

create function tinydevcrm._allow_webhook_networks(networks cidr[])
    returns void
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.settings
       set webhook_networks = _allow_webhook_networks.networks
     where webhook_networks <> _allow_webhook_networks.networks
$$;

comment on function tinydevcrm._allow_webhook_networks(cidr[]) is
    'Records the private networks to which the orchestrator may post, so that others are refused '
    'when a webhook is created. The orchestrator calls it when it starts. Security definer: lends '
    'the right to change this one setting.';

create function tinydevcrm._note_mail_server(server text)
    returns void
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.settings
       set mail_server = left(_note_mail_server.server, 300)
     where mail_server is distinct from left(_note_mail_server.server, 300)
$$;

comment on function tinydevcrm._note_mail_server(text) is
    'Records by which server the orchestrator sends e-mails; null when by none. It calls it when '
    'it starts. Security definer: lends the right to change this one setting.';

revoke execute on function
    tinydevcrm._is_private_address(inet),
    tinydevcrm._allow_webhook_networks(cidr[]),
    tinydevcrm._note_mail_server(text)
from public;

grant execute on function
    tinydevcrm._allow_webhook_networks(cidr[]),
    tinydevcrm._note_mail_server(text)
to tinydevcrm_orchestrator;

grant execute on function tinydevcrm._is_private_address(inet) to tinydevcrm_user;
