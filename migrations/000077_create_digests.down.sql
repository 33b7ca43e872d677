drop function tinydevcrm._hold_posts(bigint, timestamptz);
drop function tinydevcrm.set_digest(text, text);
drop trigger _530_change_digest on tinydevcrm.webhooks;
drop trigger _520_set_digest on tinydevcrm.webhooks;
drop trigger _510_note_post on tinydevcrm.webhooks;
drop trigger _500_hold on tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_set_next_post();
drop function tinydevcrm._gathers(tinydevcrm.webhooks);
drop function tinydevcrm._compute_next_digest(text, timestamptz);
