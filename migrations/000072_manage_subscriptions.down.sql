drop function tinydevcrm.unmute_subscription(text);
drop function tinydevcrm.mute_subscription(text, timestamptz);
drop function tinydevcrm.resume_subscription(text);
drop function tinydevcrm.pause_subscription(text, text);
drop function tinydevcrm.drop_subscription(text);
drop function tinydevcrm.alter_subscription(text, text, text);
drop function tinydevcrm.create_subscription(text, regclass, integer, boolean, text, boolean);
drop function tinydevcrm._find_own_subscription(text);
