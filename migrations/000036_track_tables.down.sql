drop function tinydevcrm._settle_tracking();
drop function tinydevcrm._track_reads(regclass);
drop function tinydevcrm.untrack_table(regclass);
drop function tinydevcrm.track_table(regclass);
drop function tinydevcrm._analyze_readers(regclass);
