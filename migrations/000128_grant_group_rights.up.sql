-- Rights that only the group roles have: administrators see everything, and the orchestrator works
-- for all users.

-- administrators see everything and change the settings

create policy imports_admin on tinydevcrm.imports
    for select
    to tinydevcrm_admin
    using (true);

create policy import_problems_admin on tinydevcrm.import_problems
    for select
    to tinydevcrm_admin
    using (true);

create policy matviews_admin on tinydevcrm.matviews
    for select
    to tinydevcrm_admin
    using (true);

create policy dropped_matviews_admin on tinydevcrm.dropped_matviews
    for select
    to tinydevcrm_admin
    using (true);

create policy matview_baselines_admin on tinydevcrm.matview_baselines
    for select
    to tinydevcrm_admin
    using (true);

create policy schedules_admin on tinydevcrm.schedules
    for select
    to tinydevcrm_admin
    using (true);

create policy change_watches_admin on tinydevcrm.change_watches
    for select
    to tinydevcrm_admin
    using (true);

create policy matview_refresh_events_admin on tinydevcrm.matview_refresh_events
    for select
    to tinydevcrm_admin
    using (true);

create policy subscriptions_admin on tinydevcrm.subscriptions
    for select
    to tinydevcrm_admin
    using (true);

create policy deliveries_admin on tinydevcrm.deliveries
    for select
    to tinydevcrm_admin
    using (true);

create policy pending_deliveries_admin on tinydevcrm.pending_deliveries
    for select
    to tinydevcrm_admin
    using (true);

create policy webhooks_admin on tinydevcrm.webhooks
    for select
    to tinydevcrm_admin
    using (true);

create policy subscription_tests_admin on tinydevcrm.subscription_tests
    for select
    to tinydevcrm_admin
    using (true);

create policy sources_admin on tinydevcrm.sources
    for select
    to tinydevcrm_admin
    using (true);

create policy source_runs_admin on tinydevcrm.source_runs
    for select
    to tinydevcrm_admin
    using (true);

create policy source_rows_admin on tinydevcrm.source_rows
    for select
    to tinydevcrm_admin
    using (true);

create policy settings_admin on tinydevcrm.settings
    for update
    to tinydevcrm_admin
    using (true);

grant update on tinydevcrm.settings to tinydevcrm_admin;

-- the orchestrator settles jobs when it starts, and notes what is late

grant execute on procedure tinydevcrm.settle_jobs() to tinydevcrm_orchestrator;
grant execute on function
    tinydevcrm._note_late(interval),
    tinydevcrm._note_silent()
to tinydevcrm_orchestrator;

-- the orchestrator receives the events of all users, posts their webhooks, and counts for /metrics

create policy matview_refresh_events_orchestrator on tinydevcrm.matview_refresh_events
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy imports_orchestrator on tinydevcrm.imports
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy matviews_orchestrator on tinydevcrm.matviews
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy schedules_orchestrator on tinydevcrm.schedules
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy subscriptions_orchestrator_read on tinydevcrm.subscriptions
    for select
    to tinydevcrm_orchestrator
    using (true);

-- When an endpoint is gone, the orchestrator may pause the webhook's subscription, and nothing
-- else.
create policy subscriptions_orchestrator_answer on tinydevcrm.subscriptions
    for update
    to tinydevcrm_orchestrator
    using (exists (
        select
          from tinydevcrm.webhooks
         where webhooks.subscription_id = subscriptions.id
    ))
    with check (is_paused and not is_dropped);

create policy webhooks_orchestrator_read on tinydevcrm.webhooks
    for select
    to tinydevcrm_orchestrator
    using (true);

-- When an endpoint asks for a delay (Retry-After).
create policy webhooks_orchestrator_answer on tinydevcrm.webhooks
    for update
    to tinydevcrm_orchestrator
    using (true);

create policy pending_deliveries_orchestrator_read on tinydevcrm.pending_deliveries
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy deliveries_orchestrator_read on tinydevcrm.deliveries
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy deliveries_orchestrator_answer on tinydevcrm.deliveries
    for update
    to tinydevcrm_orchestrator
    using (exists (
        select
          from tinydevcrm.webhooks
         where webhooks.subscription_id = deliveries.subscription_id
    ))
    with check (true);

create policy subscription_tests_orchestrator_read on tinydevcrm.subscription_tests
    for select
    to tinydevcrm_orchestrator
    using (true);

create policy subscription_tests_orchestrator_answer on tinydevcrm.subscription_tests
    for update
    to tinydevcrm_orchestrator
    using (true);

-- the orchestrator takes the runs of all sources, and answers

create policy sources_orchestrator_read on tinydevcrm.sources
    for select
    to tinydevcrm_orchestrator
    using (true);

-- To lock a source that is due.
create policy sources_orchestrator_lock on tinydevcrm.sources
    for update
    to tinydevcrm_orchestrator
    using (true)
    with check (false);

create policy source_runs_orchestrator on tinydevcrm.source_runs
    to tinydevcrm_orchestrator
    using (true);

-- The program checks at its start whether there is something to migrate. Migrations that psql ran
-- leave no such table.
do $$
begin
    if to_regclass('public.schema_migrations') is not null then
        grant select on public.schema_migrations to tinydevcrm_user;
    end if;
end
$$;
