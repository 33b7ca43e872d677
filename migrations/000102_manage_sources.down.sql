drop function tinydevcrm.drop_source(text);
drop function tinydevcrm.resume_source(text);
drop function tinydevcrm.pause_source(text);
drop function tinydevcrm._set_source_pause(text, boolean);
drop function tinydevcrm.alter_source(
    text, text, jsonb, jsonb, text, numeric, interval, text, text[], boolean);
drop function tinydevcrm.run_source(text, boolean);
drop function tinydevcrm.create_source(
    text, text, text, text, text[], jsonb, text, jsonb, numeric, boolean, interval, name);
drop function tinydevcrm._refuse_source(text);
drop function tinydevcrm._request_run(bigint, boolean);
drop function tinydevcrm._find_own_source(text);
