drop function tinydevcrm.preview_message(text, text, text);
drop function tinydevcrm._find_example_event(bigint);
