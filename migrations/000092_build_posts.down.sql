drop function tinydevcrm._build_part(tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint, json, integer, text);
drop function tinydevcrm._build_gathered(
    tinydevcrm.webhooks, bigint, tinydevcrm.matview_refresh_events, bigint);
drop function tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, bigint, json);
