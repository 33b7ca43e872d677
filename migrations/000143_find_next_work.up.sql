-- When the orchestrator next has something to do. With up --idle-after it sleeps until then.

create function tinydevcrm._find_next_job()
    returns timestamptz
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_now       constant timestamptz := clock_timestamp();
    v_change_at constant timestamptz := (
        select min(tinydevcrm._find_change_due(schedules.id))
          from tinydevcrm.schedules
         where schedules.schedule = 'on change'
    );
begin
    if not tinydevcrm._has_clock() then
        return least(
            v_change_at,
            (
                select min(tinydevcrm._compute_next_due(
                           schedules.seconds, schedules.schedule, schedules.time_zone, v_now))
                  from tinydevcrm.schedules
                 where schedules.schedule <> 'on change'
            ));
    end if;

    if exists (
        select
          from cron.job_run_details
         where job_run_details.end_time is null
           -- The end of a run may not have been recorded.
           and job_run_details.start_time > v_now - interval '1 day'
    ) then
        return v_now;
    end if;

    return least(
        v_change_at,
        (
            select min(coalesce(job.next_at, v_now))
              from cron.job
             where job.active
               and coalesce(isfinite(job.next_at), true)
               and coalesce(job.jobname, '') <> all (tinydevcrm._list_upkeep_jobs())
               -- Each minute, in case nobody is notified of a change.
               and job.command <> 'call tinydevcrm.refresh_changed(is_job => true)'
        ));
end
$$;

comment on function tinydevcrm._find_next_job() is
    'When a schedule is next due, or a view on change; the present while a clock runs a job. Null '
    'when nothing is due. PL/pgSQL, because the tables of pg_cron have fewer columns than ours. '
    'Security definer: lends the right to see jobs and views of all owners, and shows this time.';

create function tinydevcrm._find_next_post(log text)
    returns timestamptz
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select min(least(
               tinydevcrm._find_next_attempt(subscriptions),
               (
                   select clock_timestamp()
                     from tinydevcrm.pending_deliveries as queue
                     join tinydevcrm.deliveries
                       on deliveries.id = queue.delivery_id
                    where queue.subscription_id = subscriptions.id
                      and deliveries.is_in_flight
                      and deliveries.visible_at > clock_timestamp()
                    limit 1
               )))
      from tinydevcrm.subscriptions
      left join tinydevcrm.webhooks
        on webhooks.subscription_id = subscriptions.id
     where subscriptions.name = _find_next_post.log
       and subscriptions.owner = quote_ident(current_user)::regrole
        or webhooks.subscription_id is not null
       and tinydevcrm._is_served(webhooks, subscriptions)
$$;

comment on function tinydevcrm._find_next_post(text) is
    'When a delivery is next posted to a webhook that the caller may serve, or received from the '
    'subscription of this name; the present while one is in flight. Null when none waits.';

create function tinydevcrm._find_next_deadline()
    returns timestamptz
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select min(silent.at)
      from (
        select coalesce(sources.imported_at, sources.created_at) + sources.notify_deadline
          from tinydevcrm.sources
         where sources.notify_deadline > interval '0'
           and sources.silent_since is null
         union all
        select coalesce(
                   max(dated.changed_at), matviews.deadline_set_at, matviews.created_at)
               + matviews.notify_deadline
          from tinydevcrm.matviews
         cross join lateral tinydevcrm._list_dated_sources(matviews.id) as dated
         where matviews.notify_deadline > interval '0'
           and matviews.silent_noted_at is null
           and coalesce(matviews.muted_until <= clock_timestamp(), true)
         group by matviews.id
      ) as silent (at)
     -- Upkeep notes it within a minute, unless something keeps it from that.
     where silent.at > clock_timestamp() - interval '5 minutes'
$$;

comment on function tinydevcrm._find_next_deadline() is
    'When a view or a source will have been silent for its notify_deadline; null for never. '
    'Security definer: lends the right to see those of all owners, and shows this time.';

create function tinydevcrm._find_next_fetch()
    returns timestamptz
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select min(due.at)
      from (
        select sources.owner,
               sources.next_due_at
          from tinydevcrm.sources
         union all
        select source_runs.owner,
               case
                   when source_runs.status in ('fetching', 'staged') then clock_timestamp()
                   else source_runs.visible_at
               end
          from tinydevcrm.source_runs
          join tinydevcrm.sources
            on sources.id = source_runs.source_id
         where source_runs.finished_at is null
           -- The next file goes on with a run that a killed program has left.
           and (
               sources.url !~ '^file:'
               or source_runs.visible_at > clock_timestamp()
           )
      ) as due (owner, at)
     where tinydevcrm._is_fetchable(due.owner)
$$;

comment on function tinydevcrm._find_next_fetch() is
    'When a source is next fetched that the caller may fetch; the present while one is. Null for '
    'never.';

create function tinydevcrm._find_next_work(log text)
    returns double precision
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select extract(epoch from least(
               tinydevcrm._find_next_job(),
               tinydevcrm._find_next_post(_find_next_work.log),
               tinydevcrm._find_next_deadline(),
               tinydevcrm._find_next_fetch(),
               (
                   select clock_timestamp()
                     from tinydevcrm.subscription_tests
                    where not subscription_tests.is_finished
                      and subscription_tests.asked_at > clock_timestamp() - interval '1 minute'
                    limit 1
               )) - clock_timestamp())::double precision
$$;

comment on function tinydevcrm._find_next_work(text) is
    'In how many seconds the orchestrator, whose own subscription has this name, has something to '
    'do: a schedule, a delivery, a source, a deadline or a test of a subscription. 0 or less for '
    'now, null for never.';

revoke execute on function
    tinydevcrm._find_next_job(),
    tinydevcrm._find_next_post(text),
    tinydevcrm._find_next_deadline(),
    tinydevcrm._find_next_fetch(),
    tinydevcrm._find_next_work(text)
from public;

grant execute on function
    tinydevcrm._find_next_job(),
    tinydevcrm._find_next_post(text),
    tinydevcrm._find_next_deadline(),
    tinydevcrm._find_next_fetch(),
    tinydevcrm._find_next_work(text)
to tinydevcrm_orchestrator;
