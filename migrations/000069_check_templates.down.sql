drop function tinydevcrm._check_template(text, text);
drop function tinydevcrm._refuse_template(text, text, text, integer, text);
