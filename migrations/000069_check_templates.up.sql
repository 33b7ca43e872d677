-- Whether a template of a notification is one: Mustache, without what it does not need here.

create function tinydevcrm._refuse_template(
    template text,
    what     text,
    problem  text,
    place    integer,
    hint     text
)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_before constant text := left(_refuse_template.template, _refuse_template.place - 1);
begin
    raise exception using
        errcode = 'TD007',
        message = format('the template of the %s: %s', _refuse_template.what, _refuse_template.problem),
        detail  = format(
            'It is at character %s of line %s: %s',
            length(regexp_replace(v_before, '^.*\n', '')) + 1,
            length(regexp_replace(v_before, '[^\n]', '', 'g')) + 1,
            regexp_replace(
                substr(_refuse_template.template, _refuse_template.place, 40), '\n.*', '')),
        hint    = _refuse_template.hint;
end
$$;

comment on function tinydevcrm._refuse_template(text, text, text, integer, text) is
    'Raises TD007 with the place of what is wrong in a template.';

create function tinydevcrm._check_template(template text, what text)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_place  integer := 1;
    v_begin  integer;
    v_end    text;
    v_tag    text;
    v_kind   text;
    v_name   text;
    v_open   text[] := '{}';
    v_places integer[] := '{}';
begin
    while strpos(substr(_check_template.template, v_place), '{{') > 0 loop
        v_begin := v_place - 1 + strpos(substr(_check_template.template, v_place), '{{');
        v_end := case substr(_check_template.template, v_begin + 2, 1)
                     when '{' then '}}}'
                     else '}}'
                 end;
        v_tag := split_part(
            substr(_check_template.template, v_begin + length(v_end)), v_end, 1);
        v_place := v_begin + length(v_tag) + 2 * length(v_end);
        v_tag := btrim(v_tag, e' \t');
        v_kind := case
                      when v_end = '}}' and v_tag ~ '^[#^/&!>=]' then left(v_tag, 1)
                      else ''
                  end;
        v_name := btrim(substr(v_tag, 1 + length(v_kind)), e' \t');

        if v_place > length(_check_template.template) + 1
           or v_kind <> '!' and v_name ~ '[{}\n\r]'
        then
            perform tinydevcrm._refuse_template(
                _check_template.template, _check_template.what, 'a tag has no end', v_begin,
                'A tag is {{name}}, {{#name}} … {{/name}} or {{! a comment }}.');
        elsif v_kind in ('>', '=') then
            perform tinydevcrm._refuse_template(
                _check_template.template, _check_template.what,
                'templates of other files and other delimiters are not available', v_begin,
                'A tag is {{name}}, {{#name}} … {{/name}}, {{^name}} … {{/name}} or '
                '{{! a comment }}.');
        elsif v_name = '' and v_kind <> '!' then
            perform tinydevcrm._refuse_template(
                _check_template.template, _check_template.what, 'a tag has no name', v_begin,
                'Write the name of a field, as in {{row_count}}.');
        elsif v_kind in ('#', '^') then
            v_open := v_open || v_name;
            v_places := v_places || v_begin;
        elsif v_kind = '/' and v_name is distinct from v_open[cardinality(v_open)] then
            perform tinydevcrm._refuse_template(
                _check_template.template, _check_template.what,
                format('{{/%s}} ends a section that is not the last one that begins', v_name),
                v_begin,
                coalesce(
                    format('Write {{/%s}} first.', v_open[cardinality(v_open)]),
                    format('Begin the section with {{#%s}}.', v_name)));
        elsif v_kind = '/' then
            v_open := v_open[:cardinality(v_open) - 1];
            v_places := v_places[:cardinality(v_places) - 1];
        end if;

        if cardinality(v_open) > 10 then
            perform tinydevcrm._refuse_template(
                _check_template.template, _check_template.what,
                'more than 10 sections are within one another', v_begin,
                'End some of them before.');
        end if;
    end loop;

    if v_open <> '{}' then
        perform tinydevcrm._refuse_template(
            _check_template.template, _check_template.what,
            format('the section {{#%s}} has no end', v_open[cardinality(v_open)]),
            v_places[cardinality(v_places)],
            format('Write {{/%s}} where it ends.', v_open[cardinality(v_open)]));
    end if;
end
$$;

comment on function tinydevcrm._check_template(text, text) is
    'Checks a template in Mustache, of the title or of the message, which what names. Raises TD007 '
    'with the place when a tag or a section has no end, for {{> templates of other files}} and '
    '{{=other delimiters=}}, and for sections that are more than 10 deep.';

revoke execute on function
    tinydevcrm._refuse_template(text, text, text, integer, text),
    tinydevcrm._check_template(text, text)
from public;

grant execute on function
    tinydevcrm._refuse_template(text, text, text, integer, text),
    tinydevcrm._check_template(text, text)
to tinydevcrm_user;
