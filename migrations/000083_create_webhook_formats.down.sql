drop function tinydevcrm._show_url(text, text);
drop function tinydevcrm._note_guess(text, text);
drop function tinydevcrm._guess_webhook_format(text);

drop table tinydevcrm.webhook_formats;
