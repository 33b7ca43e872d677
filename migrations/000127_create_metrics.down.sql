drop function tinydevcrm._metrics();
drop function tinydevcrm._source_metrics();
drop function tinydevcrm._subscription_metrics();
drop function tinydevcrm._subscription_kind(tinydevcrm.subscriptions);
drop function tinydevcrm._matview_metrics();
drop function tinydevcrm._sees_all(regclass);
