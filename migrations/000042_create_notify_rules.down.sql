drop function tinydevcrm._find_suppression(tinydevcrm.matviews, tinydevcrm._refresh, text);
drop function tinydevcrm._rule_holds(tinydevcrm.matviews, tinydevcrm._refresh);
drop type tinydevcrm._refresh;
drop trigger _500_forget_baseline on tinydevcrm.matviews;
drop function tinydevcrm._matviews_forget_baseline();
drop table tinydevcrm.matview_baselines;
drop function tinydevcrm._matview_baselines_remove_gone();
