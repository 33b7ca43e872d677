drop function tinydevcrm.replay_rule(regclass, text, timestamptz, integer, interval);
drop function tinydevcrm._begin_replay(regclass, text, integer, interval);
drop function tinydevcrm._advance_replay(tinydevcrm._replay, tinydevcrm.matview_refresh_events);
drop function tinydevcrm._judge_replayed(tinydevcrm._replay, tinydevcrm.matview_refresh_events);
drop function tinydevcrm._count_replayed(tinydevcrm._replay, tinydevcrm.matview_refresh_events);
drop type tinydevcrm._replay;
drop function tinydevcrm._find_step(
    tinydevcrm.matview_refresh_events, tinydevcrm.matview_refresh_events, boolean);
