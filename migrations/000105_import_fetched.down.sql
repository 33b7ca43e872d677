drop procedure tinydevcrm.import_fetched();
drop function tinydevcrm._import_fetched(bigint);
drop function tinydevcrm._load_fetched(bigint);
drop function tinydevcrm._begin_fetched(bigint);
drop function tinydevcrm._stage_run(bigint, integer, bigint, text, text);
drop function tinydevcrm._forget_staging(bigint);

drop trigger _700_clear on tinydevcrm.source_runs;
drop trigger _600_create_job on tinydevcrm.source_runs;
drop function tinydevcrm._source_runs_clear();
drop function tinydevcrm._source_runs_create_job();
drop function tinydevcrm._create_fetch_job(regrole);
drop table tinydevcrm.source_rows;
