drop function tinydevcrm._analyze_again(bigint[]);
drop function tinydevcrm._is_analysis_requested(bigint);
drop trigger _100_set_deadline on tinydevcrm.matviews;
drop function tinydevcrm._matviews_set_deadline();
drop trigger _600_analyze_again on tinydevcrm.matviews;
drop trigger _600_analyze on tinydevcrm.matviews;
drop function tinydevcrm._matviews_analyze();
drop function tinydevcrm._find_untracked_reason(regclass, oid[]);

alter table tinydevcrm.matviews
    drop column tried_snapshot,
    drop column refresh_interval,
    drop column is_on_change,
    drop column silent_noted_at,
    drop column deadline_set_at,
    drop column notify_deadline,
    drop column content_hash,
    drop column seen_snapshot,
    drop column depth,
    drop column is_analyzed,
    drop column is_tracked,
    drop column untracked_reason;

revoke select on tinydevcrm.table_changes from tinydevcrm_user;
drop policy table_changes_reader on tinydevcrm.table_changes;
drop table tinydevcrm._analysis_requests;
drop table tinydevcrm.matview_sources;
