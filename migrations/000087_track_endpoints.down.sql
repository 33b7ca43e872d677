drop function tinydevcrm._note_failure(bigint);
drop function tinydevcrm._classify_refusal(integer);
drop function tinydevcrm._note_success(bigint);
drop function tinydevcrm._endpoint_is_down(tinydevcrm.webhooks);
drop trigger _400_set_probe on tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_set_probe();
drop trigger _300_set_failing on tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_set_failing();
