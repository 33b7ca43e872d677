drop function tinydevcrm._keep_texts(tinydevcrm._definition_change[]);
drop function tinydevcrm._define_subscription(tinydevcrm._definition_change, name);
drop function tinydevcrm._set_defined_audience(tinydevcrm._definition_change);
drop function tinydevcrm._alter_defined_endpoint(tinydevcrm._definition_change);
drop function tinydevcrm._create_defined_subscription(tinydevcrm._definition_change, name);
drop function tinydevcrm._set_webhook_secret(text, text, interval);
