drop function tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval);
drop function tinydevcrm._find_step(
    tinydevcrm.matview_refresh_events, tinydevcrm.matview_refresh_events, boolean);
