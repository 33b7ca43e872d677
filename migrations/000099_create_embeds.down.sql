drop function tinydevcrm._find_embed(text);
drop function tinydevcrm.forbid_embedding(regclass);
drop function tinydevcrm.allow_embedding(regclass, text[]);

drop trigger _500_end_embedding on tinydevcrm.matviews;
drop function tinydevcrm._matviews_end_embedding();

drop trigger _500_copy_rows on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_copy_rows();

drop function tinydevcrm._copy_rows(bigint, bigint);
drop table tinydevcrm.embeds;
drop function tinydevcrm._embeds_remove_dropped();
drop function tinydevcrm._embeds_date_rows();
drop function tinydevcrm._embeds_fill_in();
drop function tinydevcrm._are_origins(text[]);
