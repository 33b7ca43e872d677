drop function tinydevcrm.export_definitions(name, jsonb);
drop function tinydevcrm._name_variables(name, jsonb);
drop function tinydevcrm._write_secrets(jsonb, jsonb, text);
drop function tinydevcrm._hash_value(jsonb);
drop function tinydevcrm._list_defined(name, jsonb);
drop function tinydevcrm._list_defined_subscriptions(name);
drop function tinydevcrm._list_defined_sources(name);
drop function tinydevcrm._list_defined_views(name, jsonb);
drop function tinydevcrm._list_defined_tables(name);
