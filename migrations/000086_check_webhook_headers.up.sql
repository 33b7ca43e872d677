-- Which headers of their own the owners of webhooks may send.

create function tinydevcrm._find_header_problem(headers jsonb)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- Without the values, which may be secrets.
    select case
               when jsonb_typeof(_find_header_problem.headers) <> 'object' then
                   'headers are an object of names and texts'
               when octet_length(_find_header_problem.headers::text) > 16000 then
                   'headers have up to 16000 bytes'
               else (
                   select case
                              when named.name !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]{1,100}$' then
                                  'the name of a header has letters, digits and hyphens'
                              when lower(named.name) ~ '^(webhook-.*|proxy-.*|sec-.*)$'
                                   or lower(named.name) in (
                                       'host', 'content-length', 'transfer-encoding', 'connection',
                                       'keep-alive', 'te', 'trailer', 'upgrade', 'expect',
                                       'content-encoding', 'accept-encoding', 'idempotency-key'
                                   ) then
                                  format('the header %s is set by the orchestrator', named.name)
                              when jsonb_typeof(named.value) <> 'string' then
                                  format('the value of the header %s is no text', named.name)
                              when named.value #>> '{}' !~ '^[ -~]*$'
                                   or length(named.value #>> '{}') > 4000
                              then
                                  format(
                                      'the value of the header %s has other characters than those '
                                      'of ASCII, a line end, or more than 4000 of them',
                                      named.name)
                              when count(*) over (partition by lower(named.name)) > 1 then
                                  format('the header %s is there twice', named.name)
                          end as problem
                     from jsonb_each(
                              case jsonb_typeof(_find_header_problem.headers)
                                  when 'object' then _find_header_problem.headers
                                  else '{}'
                              end) as named (name, value)
                    order by problem nulls last
                    limit 1
               )
           end
$$;

comment on function tinydevcrm._find_header_problem(jsonb) is
    'Why headers cannot be sent with the posts of a webhook; null when there is nothing against '
    'them. Never shows a value.';

create function tinydevcrm._parse_headers(lines text)
    returns jsonb
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_bad bigint;
begin
    select min(lines.number)
      into v_bad
      from regexp_split_to_table(btrim(_parse_headers.lines, e' \r\n'), '\s*\n\s*')
           with ordinality as lines (line, number)
     where lines.line !~ ':';

    -- Without the line, which may be a secret.
    if v_bad is not null and _parse_headers.lines ~ '\S' then
        raise exception using
            errcode = 'TD007',
            message = format('line %s of the headers has no colon', v_bad),
            hint    = 'Write each as Authorization: Bearer …';
    end if;

    return (
        select jsonb_object_agg(pairs.parts[1], pairs.parts[2])
          from regexp_matches(
                   _parse_headers.lines, '^\s*([^:\n]*?)\s*:[ \t]*(.*?)\s*$', 'gn') as pairs (parts)
    );
end
$$;

comment on function tinydevcrm._parse_headers(text) is
    'Headers that are written as lines, "Authorization: Bearer …", for '
    'tinydevcrm.create_webhook(); null when there is no line. Raises TD007 when a line has no colon.';

create function tinydevcrm._webhooks_check_headers()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem constant text := tinydevcrm._find_header_problem(new.headers);
begin
    if v_problem is not null then
        raise exception using
            errcode = 'TD007',
            message = v_problem,
            hint    = 'Write them as {"Authorization": "Bearer …"}.';
    end if;

    return new;
end
$$;

comment on function tinydevcrm._webhooks_check_headers() is
    'Raises TD007 when headers cannot be sent with the posts of a webhook, and says why.';

create trigger _150_check_headers
    before insert or update of headers on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_check_headers();

revoke execute on function
    tinydevcrm._find_header_problem(jsonb),
    tinydevcrm._parse_headers(text),
    tinydevcrm._webhooks_check_headers()
from public;

grant execute on function
    tinydevcrm._find_header_problem(jsonb),
    tinydevcrm._parse_headers(text)
to tinydevcrm_user;
