drop function tinydevcrm._relation(name, text);
drop function tinydevcrm._build_matview_statement(name, text);
drop function tinydevcrm.create_matview(
    text, text, text, name, text[], text[], interval, integer, interval);
drop function tinydevcrm._suggest_rule(regclass);
drop function tinydevcrm.watch_matview(regclass, text, text[], interval, integer, interval);
drop function tinydevcrm._find_own_matview(regclass);
drop function tinydevcrm._find_registration(regclass);
