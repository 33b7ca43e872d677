drop function tinydevcrm._find_recipient(text, text[]);
drop function tinydevcrm._is_domain(text);
drop function tinydevcrm._check_split(boolean, boolean);
drop function tinydevcrm._read_rules(text, boolean);
drop function tinydevcrm.subscription_rules();
drop table tinydevcrm.outcome_rules;
