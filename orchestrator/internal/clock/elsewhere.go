package clock

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

const (
	// repairAfter is the time after which jobs are compared though ours have not changed.
	repairAfter = time.Minute
	// copyAfter is the time between two looks for runs.
	copyAfter = 10 * time.Second
)

// Elsewhere has the pg_cron of another database of the server run our jobs. It makes the jobs there, which go on without
// it, and copies their runs.
type Elsewhere struct {
	pool, cron *sql.DB
	logger     *slog.Logger

	database string
	// jobs are ours, as they were last made there.
	jobs       string
	comparedAt time.Time
	copiedAt   time.Time
}

// NewElsewhere returns an Elsewhere for the jobs of the database of pool and the pg_cron in that of cron.
func NewElsewhere(pool, cron *sql.DB, logger *slog.Logger) *Elsewhere {
	return &Elsewhere{pool: pool, cron: cron, logger: logger}
}

// CheckElsewhere returns an error when an Elsewhere could make no job there.
func CheckElsewhere(ctx context.Context, cron *sql.DB) error {
	var problem, hint sql.Null[string]
	if err := cron.QueryRowContext(ctx, `
		select case
		           when extension.oid is null then format('pg_cron is not in database %I', current_database())
		           when makes.oid is null then 'this pg_cron makes no jobs in other databases'
		           when not has_function_privilege(makes.oid, 'execute')
		                or not has_schema_privilege(makes.pronamespace, 'usage')
		           then format('%I may not make jobs in other databases', current_user)
		       end,
		       case
		           when extension.oid is null then '--cron-url is the URL of the database, on the same server, in which pg_cron is installed.'
		           when makes.oid is null then 'It does from version 1.4 on. Leave --cron-url out, and the orchestrator runs the jobs.'
		           else format(
		               'As the owner of pg_cron, in that database: grant usage on schema cron to %1$I; grant execute on function %2$s to %1$I;',
		               current_user, makes.oid::regprocedure)
		       end
		  from (select) as one
		  left join pg_extension as extension
		    on extension.extname = 'pg_cron'
		  left join pg_proc as makes
		    on makes.proname = 'schedule_in_database'
		   and exists (select from pg_namespace where nspname = 'cron' and pg_namespace.oid = makes.pronamespace)
		 limit 1`).Scan(&problem, &hint); err != nil {
		return fmt.Errorf("look for pg_cron: %w", err)
	}
	if !problem.Valid {
		return nil
	}
	return &db.UserError{Status: http.StatusServiceUnavailable, Message: problem.V, Hint: hint.V}
}

// Run keeps the jobs there as ours until ctx ends. As a clock, only one of several orchestrators does.
func (e *Elsewhere) Run(ctx context.Context) error {
	pauses := retry.NewPauses(reconnectAfter)
	for {
		err := e.follow(ctx, pauses.Reset)
		if ctx.Err() != nil {
			return nil
		}
		e.logger.Warn("cannot make the jobs in the database of pg_cron; trying again", "error", err)
		if !pauses.Wait(ctx) {
			return nil
		}
	}
}

func (e *Elsewhere) follow(ctx context.Context, begun func()) error {
	conn, err := e.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer discard(conn)
	if err := conn.QueryRowContext(ctx, "select current_database()").Scan(&e.database); err != nil {
		return fmt.Errorf("find the name of the database: %w", err)
	}
	for {
		var isClock bool
		if err := conn.QueryRowContext(ctx, "select tinydevcrm._keep_clock()").Scan(&isClock); err != nil {
			return fmt.Errorf("be the clock: %w", err)
		}
		if isClock {
			if err := e.compare(ctx, conn); err != nil {
				return err
			}
			if err := e.copyRuns(ctx, conn); err != nil {
				return err
			}
		}
		begun()
		if !retry.Wait(ctx, nil, lookAfter) {
			return nil
		}
	}
}

// compare makes, changes and removes jobs there when ours have changed, and now and then.
func (e *Elsewhere) compare(ctx context.Context, conn *sql.Conn) error {
	var jobs string
	if err := conn.QueryRowContext(ctx, "select tinydevcrm._list_clock_jobs()").Scan(&jobs); err != nil {
		return fmt.Errorf("list the jobs: %w", err)
	}
	if jobs == e.jobs && time.Since(e.comparedAt) < repairAfter {
		return nil
	}
	type job struct{ name, schedule, command, username string }
	missing, err := db.Collect(ctx, e.cron, "compare the jobs",
		func(j *job) []any { return []any{&j.name, &j.schedule, &j.command, &j.username} }, `
		select jobname, schedule, command, username
		  from jsonb_to_recordset($1::jsonb) as wanted (jobname text, schedule text, command text, username text)
		 where not exists (
		     select
		       from cron.job
		      where job.database = $2
		        and job.active
		        and (job.jobname, job.schedule, job.command, job.username)
		            = (wanted.jobname, wanted.schedule, wanted.command, wanted.username)
		 )`, jobs, e.database)
	if err != nil {
		return err
	}
	for _, j := range missing {
		// Only a superuser gives a job to another role.
		if _, err := e.cron.ExecContext(ctx, `
			select case $5
			           when current_user then cron.schedule_in_database($1, $2, $3, $4)
			           else cron.schedule_in_database($1, $2, $3, $4, $5)
			       end`, j.name, j.schedule, j.command, e.database, j.username); err != nil {
			e.logger.Warn("cannot make a job in the database of pg_cron", "job", j.command, "schedule", j.schedule, "role", j.username, "error", err)
		}
	}
	// After the new ones are made, so that none of a view is missing meanwhile.
	if _, err := e.cron.ExecContext(ctx, `
		select cron.unschedule(job.jobid)
		  from cron.job
		 where job.database = $2
		   and job.jobname like 'tinydevcrm %'
		   and not $1::jsonb @> jsonb_build_array(jsonb_build_object('jobname', job.jobname, 'username', job.username))`,
		jobs, e.database); err != nil {
		return fmt.Errorf("remove jobs: %w", err)
	}

	e.jobs, e.comparedAt = jobs, time.Now()
	return nil
}

// copyRuns adds the runs there to the history here.
func (e *Elsewhere) copyRuns(ctx context.Context, conn *sql.Conn) error {
	if time.Since(e.copiedAt) < copyAfter {
		return nil
	}
	var last int64
	if err := conn.QueryRowContext(ctx, "select tinydevcrm._record_job_runs('[]')").Scan(&last); err != nil {
		return fmt.Errorf("find the last run: %w", err)
	}
	var runs string
	if err := e.cron.QueryRowContext(ctx, `
		select coalesce(jsonb_agg(to_jsonb(runs)), '[]')
		  from (
		    select runid, username::text, command, status, return_message, start_time, end_time
		      from cron.job_run_details
		     where database = $1
		       and runid > $2
		       and end_time is not null
		     order by runid
		     limit 10000
		  ) as runs`, e.database, last).Scan(&runs); err != nil {
		return fmt.Errorf("read the runs: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "select tinydevcrm._record_job_runs($1)", runs); err != nil {
		return fmt.Errorf("copy the runs: %w", err)
	}
	e.copiedAt = time.Now()
	return nil
}
