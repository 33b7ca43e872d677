do $$
begin
    if to_regclass('public.schema_migrations') is not null then
        revoke select on public.schema_migrations from tinydevcrm_user;
    end if;
end
$$;

revoke execute on function
    tinydevcrm._note_late(interval),
    tinydevcrm._note_silent()
from tinydevcrm_orchestrator;
revoke execute on procedure tinydevcrm.settle_jobs() from tinydevcrm_orchestrator;

drop policy source_runs_orchestrator on tinydevcrm.source_runs;
drop policy sources_orchestrator_lock on tinydevcrm.sources;
drop policy sources_orchestrator_read on tinydevcrm.sources;
drop policy subscription_tests_orchestrator_answer on tinydevcrm.subscription_tests;
drop policy subscription_tests_orchestrator_read on tinydevcrm.subscription_tests;
drop policy deliveries_orchestrator_answer on tinydevcrm.deliveries;
drop policy pending_deliveries_orchestrator_read on tinydevcrm.pending_deliveries;
drop policy deliveries_orchestrator_read on tinydevcrm.deliveries;
drop policy webhooks_orchestrator_answer on tinydevcrm.webhooks;
drop policy webhooks_orchestrator_read on tinydevcrm.webhooks;
drop policy subscriptions_orchestrator_answer on tinydevcrm.subscriptions;
drop policy subscriptions_orchestrator_read on tinydevcrm.subscriptions;
drop policy schedules_orchestrator on tinydevcrm.schedules;
drop policy matviews_orchestrator on tinydevcrm.matviews;
drop policy imports_orchestrator on tinydevcrm.imports;
drop policy matview_refresh_events_orchestrator on tinydevcrm.matview_refresh_events;

revoke update on tinydevcrm.settings from tinydevcrm_admin;
drop policy settings_admin on tinydevcrm.settings;
drop policy source_rows_admin on tinydevcrm.source_rows;
drop policy source_runs_admin on tinydevcrm.source_runs;
drop policy sources_admin on tinydevcrm.sources;
drop policy subscription_tests_admin on tinydevcrm.subscription_tests;

drop policy webhooks_admin on tinydevcrm.webhooks;
drop policy pending_deliveries_admin on tinydevcrm.pending_deliveries;
drop policy deliveries_admin on tinydevcrm.deliveries;
drop policy subscriptions_admin on tinydevcrm.subscriptions;
drop policy matview_refresh_events_admin on tinydevcrm.matview_refresh_events;
drop policy change_watches_admin on tinydevcrm.change_watches;
drop policy schedules_admin on tinydevcrm.schedules;
drop policy dropped_matviews_admin on tinydevcrm.dropped_matviews;
drop policy matview_baselines_admin on tinydevcrm.matview_baselines;
drop policy matviews_admin on tinydevcrm.matviews;
drop policy import_problems_admin on tinydevcrm.import_problems;
drop policy imports_admin on tinydevcrm.imports;
