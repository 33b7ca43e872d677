drop function tinydevcrm._make_waiting_due(bigint);
drop function tinydevcrm.replay_events(text, timestamptz);
drop function tinydevcrm.redeliver_parked(text);
drop function tinydevcrm.redeliver_event(bigint);
drop function tinydevcrm._requeue_deliveries(bigint[]);
