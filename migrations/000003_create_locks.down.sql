drop function tinydevcrm._mark_lock(text, bigint, bigint[]);
drop function tinydevcrm._take_lock(text, bigint);

drop function tinydevcrm._is_left_mark(tinydevcrm._locks);
drop table tinydevcrm._locks;
drop function tinydevcrm._locks_fill_in();
drop function tinydevcrm._locks_note_look();
