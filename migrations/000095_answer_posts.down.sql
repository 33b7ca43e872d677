drop function tinydevcrm._refuse_post(bigint, bigint, integer, text, interval, interval, text[], boolean);
drop function tinydevcrm._return_post(bigint, text, interval);
drop function tinydevcrm._accept_posts(bigint[], bigint[]);
drop function tinydevcrm._lock_accepted(bigint[]);
drop function tinydevcrm._note_sent(bigint, bigint, text[]);
drop function tinydevcrm._note_gathered(bigint);
drop function tinydevcrm._lock_posted(bigint[]);
drop function tinydevcrm._limit_webhook_rate(bigint, interval);
drop function tinydevcrm._disable_webhook(bigint, text);
