-- Where a webhook may post.

create function tinydevcrm._find_url_problem(url text)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_authority constant text := substring(_find_url_problem.url from '^https?://([^/?#]*)');
    v_port      text;
    v_host      text;
    v_address   inet;
begin
    if v_authority is null then
        return 'a URL begins with http:// or https://';
    elsif length(_find_url_problem.url) > 2000 then
        return 'a URL has up to 2000 characters';
    elsif position('@' in v_authority) > 0 then
        return 'a URL has no user name or password: anyone who sees the URL would see them';
    elsif _find_url_problem.url ~ '[[:space:][:cntrl:]]'
          or regexp_replace(_find_url_problem.url, '\?[^#]*', '') ~ '%(?![0-9A-Fa-f]{2})'
    then
        return 'a space, a control character or a % that is no escape is in it';
    end if;

    v_port := substring(v_authority from ':([0-9]*)$');
    v_host := regexp_replace(v_authority, ':[0-9]*$', '');

    if v_port <> '' and (length(v_port) > 5 or v_port::integer not between 1 and 65535) then
        return format('there is no port %s', v_port);
    elsif v_host ~ '^\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]$' then
        begin
            v_address := trim(both '[]' from v_host)::inet;
        exception
            when invalid_text_representation then
                return format('%s is no address', v_host);
        end;
    else
        v_host := regexp_replace(v_host, '\.$', '');

        if octet_length(v_host) > 253
           or v_host !~ '^([^\x01-\x2c\x2e\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]{1,63}(\.|$))+$'
           or v_host ~ '\.$'
        then
            return format('%L is no host name', left(v_host, 100));
        elsif v_host ~ '(^|\.)([0-9]+|0[xX][0-9A-Fa-f]*)$' then
            -- Resolvers read 0x7f.1, 017700000001 and 2130706433 as 127.0.0.1.
            if v_host !~ '^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.|$)){4}$' then
                return format('%s is not an address of four decimal numbers', v_host);
            end if;

            v_address := v_host::inet;
        end if;
    end if;

    return case
        when tinydevcrm._is_private_address(v_address) then
            format('the address %s is private', v_host)
    end;
end
$$;

comment on function tinydevcrm._find_url_problem(text) is
    'Why nothing can be posted to a URL; null when there is nothing against it. Names are not '
    'resolved here: the orchestrator checks the address of each connection.';

create function tinydevcrm._find_address_problem(url text)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_addresses constant text[] := string_to_array(substr(_find_address_problem.url, 8), ',');
begin
    if _find_address_problem.url !~ '^mailto:' then
        return 'it begins with mailto:';
    elsif cardinality(v_addresses) > 50 then
        return 'there are more than 50 addresses';
    end if;

    -- ?, & and % would mean something else in a URL; the rest cannot end a header or an address.
    return coalesce(
        (
            select format('%L is no e-mail address', left(addresses.address, 100))
              from unnest(v_addresses) as addresses (address)
             where addresses.address
                       !~ '^[A-Za-z0-9.!#$''*+/=^_`{|}~-]{1,64}@([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}$'
                or length(addresses.address) > 254
             limit 1
        ),
        (
            select format('%s is there twice', min(addresses.address))
              from unnest(v_addresses) as addresses (address)
             group by lower(addresses.address)
            having count(*) > 1
             limit 1
        ));
end
$$;

comment on function tinydevcrm._find_address_problem(text) is
    'Why no e-mail can be sent to a mailto: URL; null when there is nothing against it. Addresses '
    'are ASCII, without quotes and comments, and separated by commas.';

create function tinydevcrm._webhooks_check_url()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_format  tinydevcrm.webhook_formats;
    v_problem constant text := case new.format
        when 'email' then tinydevcrm._find_address_problem(new.url)
        else tinydevcrm._find_url_problem(new.url)
    end;
begin
    select webhook_formats.*
      into v_format
      from tinydevcrm.webhook_formats
     where webhook_formats.name = new.format;

    if not found then
        raise exception using
            errcode = 'TD007',
            message = format('there is no format %L', new.format),
            hint    = (
                select format('Choose %s.', string_agg(names.name, ', ' order by names.rank))
                  from tinydevcrm.webhook_formats as names
            );
    end if;

    -- Without the URL, which may hold a password.
    if v_problem is not null then
        raise exception using
            errcode = 'TD007',
            message = case new.format
                when 'email' then 'no e-mail can be sent there: '
                else 'no webhook can post there: '
            end || v_problem,
            hint    = case
                when new.format = 'email' then
                    'Write addresses as a@example.com: at most 50, without names and spaces.'
                when v_problem like '% is private' then
                    'Use a public address, or start the orchestrator with --allow-webhooks-to and '
                    'its network.'
                else 'Write it as https://example.com/in.'
            end;
    end if;

    -- An update may leave none, when the last one unsubscribes.
    if new.url !~ v_format.url_requirement or tg_op = 'INSERT' and new.url = 'mailto:' then
        raise exception using
            errcode = 'TD007',
            message = format('this is no URL for the format %s', new.format),
            hint    = format('Write it as %s.', v_format.example_url);
    end if;

    return new;
end
$$;

comment on function tinydevcrm._webhooks_check_url() is
    'Raises TD007 when nothing can be posted to the URL of a webhook, or not in its format, and '
    'says why.';

create trigger _100_check_url
    before insert or update of url, format on tinydevcrm.webhooks
    for each row
    execute function tinydevcrm._webhooks_check_url();

revoke execute on function
    tinydevcrm._find_url_problem(text),
    tinydevcrm._find_address_problem(text),
    tinydevcrm._webhooks_check_url()
from public;

grant execute on function
    tinydevcrm._find_url_problem(text),
    tinydevcrm._find_address_problem(text)
to tinydevcrm_user;
