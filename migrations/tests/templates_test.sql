-- The templates of subscriptions. How they are rendered is tested in Go.

begin;

select plan(22);

create schema "My Data";
set local search_path = "My Data", public;

select tinydevcrm.create_matview('v', 'select 1 as one');
select tinydevcrm.create_subscription('s', 'v');

select lives_ok(
    format('select tinydevcrm._check_template(%L, ''title'')', template), 'is a template: ' || template)
  from unnest(array[
           '', 'no tags }} at all {', '{{a}} {{ a.b }} {{{raw}}} {{&raw}} {{! what } ever }}',
           '{{#a}}{{^b}}{{.}}{{/b}}{{/a}}', '{{#a}}{{#a}}{{/a}}{{/a}}', e'{{#rows}}\n{{x y}}\n{{/rows}}'
       ]) as template;

create function pg_temp.refusal(template text)
    returns text
    language plpgsql
as $$
declare
    v_message text;
    v_detail  text;
begin
    perform tinydevcrm._check_template(refusal.template, 'message');
    return 'none';
exception
    when sqlstate 'TD007' then
        get stacked diagnostics v_message = message_text, v_detail = pg_exception_detail;
        return v_message || '. ' || v_detail;
end
$$;

select is(
    pg_temp.refusal(template),
    'the template of the message: ' || problem || '. It is at ' || place,
    'is refused: ' || template)
  from (
    values ('{{a', 'a tag has no end', 'character 1 of line 1: {{a'),
           (e'x\ny {{a}\n}}', 'a tag has no end', 'character 3 of line 2: {{a}'),
           ('{{{a}}', 'a tag has no end', 'character 1 of line 1: {{{a}}'),
           ('{{a {{b}}', 'a tag has no end', 'character 1 of line 1: {{a {{b}}'),
           ('{{}}', 'a tag has no name', 'character 1 of line 1: {{}}'),
           ('{{# }}', 'a tag has no name', 'character 1 of line 1: {{# }}'),
           ('{{> /etc/passwd}}', 'templates of other files and other delimiters are not available',
            'character 1 of line 1: {{> /etc/passwd}}'),
           ('é{{=<% %>=}}', 'templates of other files and other delimiters are not available',
            'character 2 of line 1: {{=<% %>=}}'),
           ('a {{#b}}', 'the section {{#b}} has no end', 'character 3 of line 1: {{#b}}'),
           ('{{#a}}{{#b}}{{/a}}{{/b}}', '{{/a}} ends a section that is not the last one that begins',
            'character 13 of line 1: {{/a}}{{/b}}'),
           (repeat('{{#a}}', 11) || repeat('{{/a}}', 11), 'more than 10 sections are within one another',
            'character 61 of line 1: ' || '{{#a}}' || repeat('{{/a}}', 5) || '{{/a')
  ) as refused (template, problem, place);

select tinydevcrm.alter_subscription('s', title => '{{view}}!', message => '{{#rows}}{{one}}{{/rows}}');
select tinydevcrm.alter_subscription('s', message => '');
select is(
    (select array[title, message] from tinydevcrm.subscriptions where name = 's'),
    array['{{view}}!', null], 'null leaves a template as it is, an empty text restores the default');
select throws_ok(
    $$ select tinydevcrm.alter_subscription('s', title => repeat('a', 1001)) $$, 'TD007',
    'the template is too long', 'a long title is refused');
select throws_ok(
    $$ update tinydevcrm.subscriptions set message = '{{#a}}' where name = 's' $$, 'TD007', null,
    'a malformed template is refused however it is written');
select throws_ok(
    $$ select tinydevcrm.alter_subscription('none', 'x') $$, 'TD001', null,
    'a subscription that is not there has no templates');
select is(
    tinydevcrm.preview_message('s') #>> '{templates,title}', '{{view}}!',
    'the notification carries the templates');

select * from finish();
rollback;
