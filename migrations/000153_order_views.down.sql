drop function tinydevcrm._define_views(tinydevcrm._definition_change[], boolean);
drop function tinydevcrm._may_wait(jsonb);
drop function tinydevcrm._list_ready(bigint[], jsonb);
drop function tinydevcrm._define(tinydevcrm._definition_change, name, boolean);
drop function tinydevcrm._drop_defined(tinydevcrm._definition_change);
drop function tinydevcrm._define_view(tinydevcrm._definition_change);
drop function tinydevcrm._prints_alike(regclass, text);
drop function tinydevcrm._list_needs(tinydevcrm._definition_change[]);
