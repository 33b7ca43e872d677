drop function tinydevcrm.replay_events(text, timestamptz);
drop function tinydevcrm._requeue_deliveries(bigint[]);
drop function tinydevcrm.redeliver_parked(text);
drop function tinydevcrm.redeliver_event(bigint);
drop function tinydevcrm.reject_event(bigint, text, interval);
drop function tinydevcrm._compute_retry_delay(integer);
drop function tinydevcrm.acknowledge_events(bigint[]);
drop function tinydevcrm.receive_events(text, integer, interval);
drop function tinydevcrm._receive_deliveries(bigint, integer, interval);

drop trigger _500_fan_out on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fan_out();

drop function tinydevcrm._needs_attention(text);
drop function tinydevcrm._subscription_state(tinydevcrm.subscriptions);
drop function tinydevcrm._delivery_state(tinydevcrm.deliveries);
drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_set_times();
