-- Reads numbers and currencies in the ways that people write them.

create function tinydevcrm._read_number(value text, decimal_mark text)
    returns numeric
    language plpgsql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_digits constant text := translate(
        regexp_replace(
            _read_number.value, '[^0-9' || _read_number.decimal_mark || ']', '', 'g'),
        ',', '.');
begin
    return case when _read_number.value ~ '[-(−]' then '-' || v_digits else v_digits end::numeric;
end
$$;

comment on function tinydevcrm._read_number(text, text) is
    'The number that a text stands for, whatever separates its thousands and surrounds it. '
    'decimal_mark is . or a comma.';

create function tinydevcrm._read_currency(value text)
    returns text
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select regexp_replace(_read_currency.value, '[-−()0-9., ''’\u00a0\u202f]', '', 'g')
$$;

comment on function tinydevcrm._read_currency(text) is
    'The sign or code of a currency in a text such as -$1,234.56 or 1.234,56 EUR.';

revoke execute on function
    tinydevcrm._read_number(text, text),
    tinydevcrm._read_currency(text)
from public;

grant execute on function
    tinydevcrm._read_number(text, text),
    tinydevcrm._read_currency(text)
to tinydevcrm_user;
