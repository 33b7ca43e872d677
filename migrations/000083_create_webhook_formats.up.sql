-- The shapes in which a webhook posts: data, not code, so that page, command line and psql list the
-- same ones.

create table tinydevcrm.webhook_formats (
    rank              integer not null,
    name              text not null,
    description       text not null,
    url_pattern       text,
    url_requirement   text,
    has_secret_url    boolean not null,
    is_signed         boolean not null,
    max_title         integer,
    max_text          integer,
    max_rows          integer,
    max_bytes         integer,
    example_url       text not null,
    documentation_url text not null,

    constraint webhook_formats_pkey primary key (name),
    constraint webhook_formats_rank_unique unique (rank)
);

comment on table tinydevcrm.webhook_formats is
    'The formats of tinydevcrm.webhooks: the shape of its posts, as the receiver documents it.';
comment on column tinydevcrm.webhook_formats.rank is
    'Its place in a list; that of rank 1 is the default.';
comment on column tinydevcrm.webhook_formats.name is
    'Name, as in create_webhook(format).';
comment on column tinydevcrm.webhook_formats.description is
    'What it is for, in a few words.';
comment on column tinydevcrm.webhook_formats.url_pattern is
    'Regular expression of the URLs whose format is guessed to be this one; null for a format that '
    'is never guessed.';
comment on column tinydevcrm.webhook_formats.url_requirement is
    'Regular expression that each URL of this format matches; null when any URL will do.';
comment on column tinydevcrm.webhook_formats.has_secret_url is
    'Whether anyone who knows the URL can post there. Such a URL is shown shortened: see '
    'tinydevcrm._show_url().';
comment on column tinydevcrm.webhook_formats.is_signed is
    'Whether the posts are signed by the secret of the webhook. Chats have no use for a signature.';
comment on column tinydevcrm.webhook_formats.max_title is
    'Most characters of a title, in ntfy bytes; null for no limit. A longer one is cut.';
comment on column tinydevcrm.webhook_formats.max_text is
    'Most characters of the text, or of its rows, in ntfy bytes of both; null for no limit. Fewer '
    'rows are shown then, and a text that is too long alone is cut.';
comment on column tinydevcrm.webhook_formats.max_rows is
    'Most rows that a message shows; null for all that the event carries.';
comment on column tinydevcrm.webhook_formats.max_bytes is
    'Most bytes of a post; null for those that the orchestrator posts at all.';
comment on column tinydevcrm.webhook_formats.example_url is
    'What a URL of this format looks like.';
comment on column tinydevcrm.webhook_formats.documentation_url is
    'Where the receiver documents the shape and its limits.';

-- Limits: Slack has 150 characters a header and 3,000 a text. Discord has 256 a title, 4,096 a
-- description and 6,000 together. Teams says 28 KB, in which it counts markup of its own. Google
-- Chat has 32 KB a card, Telegram 4,096 characters, ntfy 4,096 bytes a message and 8,192 a post,
-- PagerDuty 1,024 characters a summary and 512 KB a post. The others are ours: what a person reads.
insert into tinydevcrm.webhook_formats (
           rank, name, description, url_pattern, url_requirement, has_secret_url, is_signed,
           max_title, max_text, max_rows, max_bytes, example_url, documentation_url)
values (1, 'standard', 'The whole event as JSON, signed: Standard Webhooks',
        null, null, false, true,
        null, null, null, null,
        'https://example.com/in',
        'https://www.standardwebhooks.com/'),
       (2, 'slack', 'A message in a channel of Slack',
        '^https://hooks\.slack(-gov)?\.com/services/', null, true, false,
        150, 3000, 20, null,
        'https://hooks.slack.com/services/T000/B000/XXXX',
        'https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks'),
       (3, 'discord', 'A message in a channel of Discord',
        '^https://(canary\.|ptb\.)?discord(app)?\.com/api/(v[0-9]+/)?webhooks/[0-9]+/[^/?]+/?(\?.*)?$',
        null, true, false,
        256, 4096, 20, null,
        'https://discord.com/api/webhooks/1234/XXXX',
        'https://discord.com/developers/docs/resources/webhook#execute-webhook'),
       (4, 'teams', 'An Adaptive Card in Microsoft Teams, by a workflow for webhook requests',
        '^https://[^/]+\.(logic\.azure\.com|api\.powerplatform\.com|webhook\.office\.com)(:443)?/',
        null, true, false,
        200, 5000, 20, 20480,
        'https://prod-1.westeurope.logic.azure.com/workflows/XXXX/triggers/manual/paths/invoke?sig=XXXX',
        'https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using'),
       (5, 'google_chat', 'A card in a space of Google Chat',
        '^https://chat\.googleapis\.com/v1/spaces/[^/]+/messages', null, true, false,
        200, 4096, 20, 32000,
        'https://chat.googleapis.com/v1/spaces/XXXX/messages?key=XXXX&token=XXXX',
        'https://developers.google.com/workspace/chat/quickstart/webhooks'),
       (6, 'telegram', 'A message of a Telegram bot; the URL names the chat',
        '^https://api\.telegram\.org/bot[^/]+/sendMessage',
        '/bot[^/]+/sendMessage\?(.*&)?chat_id=[^&]', true, false,
        200, 4096, 20, null,
        'https://api.telegram.org/bot1234:XXXX/sendMessage?chat_id=-100123',
        'https://core.telegram.org/bots/api#sendmessage'),
       (7, 'ntfy', 'A push notification by ntfy; the URL names the topic',
        '^https://ntfy\.sh/', '^https?://[^/?#]+/[-_A-Za-z0-9]{1,64}/?(\?.*)?$', true, false,
        200, 4096, 10, 8192,
        'https://ntfy.sh/XXXX',
        'https://docs.ntfy.sh/publish/#publish-as-json'),
       (8, 'pagerduty', 'An incident in PagerDuty, resolved when it is over',
        '^https://events(\.eu)?\.pagerduty\.com/v2/enqueue',
        '\?(.*&)?routing_key=[A-Za-z0-9]{32}(&|$)', true, false,
        1024, null, 20, 524288,
        'https://events.pagerduty.com/v2/enqueue?routing_key=R0123456789ABCDEFGHIJKLMNOPQRSTU',
        'https://developer.pagerduty.com/docs/events-api-v2/trigger-events/'),
       (9, 'json', 'A JSON of your own: the message template is the body',
        null, null, false, true,
        null, null, null, null,
        'https://example.com/in',
        'https://www.rfc-editor.org/rfc/rfc8259'),
       (10, 'email', 'An e-mail to the addresses of a mailto: URL',
        '^mailto:', '^mailto:', false, false,
        200, null, null, null,
        'mailto:a@example.com,b@example.com',
        'https://www.rfc-editor.org/rfc/rfc6068');

alter table tinydevcrm.webhook_formats enable row level security;

create policy webhook_formats_all_read on tinydevcrm.webhook_formats
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.webhook_formats to tinydevcrm_user;

create function tinydevcrm._guess_webhook_format(url text)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               (
                   select webhook_formats.name
                     from tinydevcrm.webhook_formats
                    where _guess_webhook_format.url ~ webhook_formats.url_pattern
                    order by webhook_formats.rank
                    limit 1
               ),
               'standard')
$$;

comment on function tinydevcrm._guess_webhook_format(text) is
    'The format that fits a URL: the first of webhook_formats whose pattern it matches, else '
    'standard.';

create function tinydevcrm._note_guess(given text, format text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    if _note_guess.given is null and _note_guess.format <> 'standard' then
        raise notice using
            message = format('the format is %s, guessed from the URL', _note_guess.format),
            hint    = 'format => ''…'' chooses another: see tinydevcrm.webhook_formats.';
    end if;
end
$$;

comment on function tinydevcrm._note_guess(text, text) is
    'Says which format was guessed from a URL. Nothing when it was given, and of the default.';

create function tinydevcrm._show_url(url text, format text)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- What receives messages there is a secret in whatever format they are posted.
    select case
               when bool_or(webhook_formats.has_secret_url) then
                   substring(_show_url.url from '^[a-z]+://[^/?#]*')
                   || '/…'
                   || coalesce(substring(_show_url.url from '^[a-z]+://[^/?#]*.{12,}(.{4})$'), '')
               else _show_url.url
           end
      from tinydevcrm.webhook_formats
     where webhook_formats.name in (
               _show_url.format, tinydevcrm._guess_webhook_format(_show_url.url))
$$;

comment on function tinydevcrm._show_url(text, text) is
    'A URL as lists show it. Of one that is a secret, only the host, and the last four '
    'characters if they are a small part of it.';

revoke execute on function
    tinydevcrm._guess_webhook_format(text),
    tinydevcrm._note_guess(text, text),
    tinydevcrm._show_url(text, text)
from public;

grant execute on function
    tinydevcrm._guess_webhook_format(text),
    tinydevcrm._note_guess(text, text),
    tinydevcrm._show_url(text, text)
to tinydevcrm_user;
