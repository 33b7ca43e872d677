-- Takes the registry away, and leaves the materialized views, which are the user's.

drop function tinydevcrm.drop_matview(regclass);
drop function tinydevcrm._unused_name(text, name);
drop function tinydevcrm._read_relations(regclass);
drop function tinydevcrm._relation(name, text);
drop function tinydevcrm._create_matview_statement(name, text);
drop function tinydevcrm.create_matview(text, text, text, name, text[], text[], interval);
drop function tinydevcrm.watch_matview(regclass, text, text[], interval);
drop function tinydevcrm._own_matview(regclass);
drop function tinydevcrm._watched_matview(regclass);
drop policy _locks_matview on tinydevcrm._locks;
drop table tinydevcrm.matviews;
delete from tinydevcrm._locks where what = 'matview';
drop function tinydevcrm._matviews_create_lock();
drop function tinydevcrm._matviews_fill_in();
