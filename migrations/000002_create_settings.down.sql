drop function tinydevcrm._note_mail_server(text);
drop function tinydevcrm._allow_webhook_networks(cidr[]);
drop function tinydevcrm._is_private_address(inet);
drop table tinydevcrm.settings;
