drop function tinydevcrm.unmute_matview(regclass);
drop function tinydevcrm.mute_matview(regclass, timestamptz);
drop function tinydevcrm._compute_mute(timestamptz);
