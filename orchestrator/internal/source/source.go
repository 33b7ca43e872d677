// Package source fetches the sources that are due, and imports their files. SQL says which ones these are, and what
// follows from an answer.
package source

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

const (
	// MaxConns is the size that the pool must have: one connection for each import, one to take and to answer.
	MaxConns = atOnce + 1
	// atOnce is how many files are fetched at once; fewer where the pool is smaller.
	atOnce = 4
	// lookAfter is how often we look for what is due.
	lookAfter = 5 * time.Second
	// holdFor is how long a run is ours, and extendAfter how often we put that off.
	holdFor     = time.Minute
	extendAfter = 20 * time.Second
	// answerWithin bounds how long an answer takes to record.
	answerWithin = 10 * time.Second
	// endWithin bounds how long the program waits for a run when it ends.
	endWithin = 2 * time.Second
	// connectWithin, stallWithin and fileWithin bound a request: the connection, a pause, and all of it.
	connectWithin = 10 * time.Second
	stallWithin   = time.Minute
	fileWithin    = 30 * time.Minute
	// aliveWithin is longer than an idle loop goes without a look.
	aliveWithin = 6 * lookAfter
)

// A Runner fetches sources.
type Runner struct {
	pool        *sql.DB
	network     *guard.Network
	limits      upload.Limits
	logger      *slog.Logger
	stallWithin time.Duration
	fileWithin  time.Duration
	// settledAfter and inboxEvery are those of the inbox, and begin is what OnFile has set.
	settledAfter, inboxEvery time.Duration
	begin                    func() (end func())
	// running has a place for each run that is under way. Its end sends a signal.
	running, ended chan struct{}
	// busy are the other owners of whom a run is under way.
	busy busyOwners
	last atomic.Pointer[time.Time]
}

// NewRunner returns a Runner that takes files within limits. Run starts it.
func NewRunner(pool *sql.DB, network *guard.Network, limits upload.Limits, logger *slog.Logger) *Runner {
	return &Runner{
		pool:         pool,
		network:      network,
		limits:       limits,
		logger:       logger,
		stallWithin:  stallWithin,
		fileWithin:   fileWithin,
		settledAfter: settledAfter,
		inboxEvery:   inboxEvery,
		begin:        func() func() { return func() {} },
		running:      make(chan struct{}, min(atOnce, pool.Stats().MaxOpenConnections-1)),
		ended:        make(chan struct{}, 1),
	}
}

// NewNetwork returns the network for a Runner, which reaches public addresses and those of the allowed prefixes.
func NewNetwork(allowed []netip.Prefix) *guard.Network { return guard.New(allowed, connectWithin) }

// busyOwners is safe for concurrent use.
type busyOwners struct {
	mutex  sync.Mutex
	owners []int64
}

func (b *busyOwners) list() []int64 {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return append([]int64{}, b.owners...)
}

func (b *busyOwners) add(owner int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.owners = append(b.owners, owner)
}

func (b *busyOwners) remove(owner int64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.owners = slices.DeleteFunc(b.owners, func(other int64) bool { return other == owner })
}

// A run is a row of tinydevcrm._describe_run().
type run struct {
	id, owner           int64
	attempt             int
	name, url           string
	headers             map[string]string
	etag, lastModified  sql.Null[string]
	isOwn               bool
	schema, table, mode string
	key                 []string
	options             []byte
}

func (r *run) fields() []any {
	return []any{&r.id, &r.owner, &r.attempt, &r.name, &r.url, db.JSON(&r.headers), &r.etag, &r.lastModified, &r.isOwn,
		&r.schema, &r.table, &r.mode, pq.Array(&r.key), &r.options}
}

// errTaken ends a run that is not ours any more.
var errTaken = errors.New("another orchestrator has taken the run")

// IsAlive reports whether the Runner has looked recently, or has no place for more.
func (r *Runner) IsAlive() bool {
	last := r.last.Load()
	return len(r.running) == cap(r.running) || last != nil && time.Since(*last) < aliveWithin
}

// Run fetches what is due until ctx ends, and then waits for what is under way to stop.
func (r *Runner) Run(ctx context.Context, wake <-chan int64) error {
	var work sync.WaitGroup
	defer work.Wait()
	pauses := retry.NewPauses(lookAfter)
	for {
		taken, err := r.take(ctx)
		switch {
		case ctx.Err() != nil:
			if taken != nil {
				r.giveBack(ctx, taken)
			}
			return nil
		case err != nil:
			r.logger.Warn("cannot look for sources that are due; trying again", "error", err)
			if !pauses.Wait(ctx) {
				return nil
			}
			continue
		case taken != nil:
			if !taken.isOwn {
				r.busy.add(taken.owner)
			}
			r.running <- struct{}{}
			work.Go(func() { r.work(ctx, taken) })
			continue
		}
		pauses.Reset()
		timer := time.NewTimer(lookAfter)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-r.ended:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take takes a run that is due; nil when there is none, or no place for it.
func (r *Runner) take(ctx context.Context) (*run, error) {
	// What the database gives while the program ends is not lost.
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(endWithin, cancel) })()
	if len(r.running) == cap(r.running) {
		return nil, nil
	}
	runs, err := db.Collect(patient, r.pool, "take a run", (*run).fields, `
		select described.id, described.owner, described.attempt, described.source, described.url, described.headers, described.etag,
		       described.last_modified, described.is_own, described.schema_name, described.table_name, described.mode,
		       described.key, described.options
		  from tinydevcrm._take_run(make_interval(secs => $1), $2) as taken
		 cross join lateral tinydevcrm._describe_run(taken) as described`, holdFor.Seconds(), pq.Array(r.busy.list()))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r.last.Store(&now)
	if len(runs) == 0 {
		return nil, nil
	}
	return &runs[0], nil
}

// giveBack returns a run that a program which ends does not fetch.
func (r *Runner) giveBack(ctx context.Context, run *run) {
	answer, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if err := r.exec(answer, "select tinydevcrm._return_run($1, $2)", run.id, run.attempt); err != nil {
		r.logger.Warn("cannot return a run; it is taken again in a minute", "source", run.name, "error", err)
	}
}

// work fetches a run, imports its file, and records how that went.
func (r *Runner) work(ctx context.Context, run *run) {
	defer func() {
		r.busy.remove(run.owner)
		<-r.running
		select {
		case r.ended <- struct{}{}:
		default:
		}
	}()
	own, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var holding sync.WaitGroup
	defer holding.Wait()
	held, release := context.WithCancel(own)
	defer release()
	holding.Go(func() { r.hold(held, run, stop) })

	limited, cancel := context.WithTimeout(own, r.fileWithin)
	defer cancel()
	err := r.importFile(limited, run)
	release()
	if errors.Is(context.Cause(own), errTaken) && err != nil {
		r.logger.Warn("a source is fetched by another orchestrator", "source", run.name)
		return
	}
	// The answer outlives the program's end for a moment.
	answer, cancelAnswer := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancelAnswer()
	switch {
	case err == nil:
		return
	case ctx.Err() != nil:
		r.giveBack(ctx, run)
		return
	default:
		err = r.fail(answer, run, err)
	}
	if err != nil {
		r.logger.Warn("cannot record how a source was fetched; it is fetched again", "source", run.name, "error", err)
	}
}

// hold keeps a run ours until ctx ends. It calls stop when the run is not ours any more.
func (r *Runner) hold(ctx context.Context, run *run, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(extendAfter)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.exec(ctx, "select tinydevcrm._extend_run($1, $2, make_interval(secs => $3))", run.id, run.attempt, holdFor.Seconds())
		if db.Explain(err).Code == "TD001" {
			stop(errTaken)
			return
		}
	}
}

func (r *Runner) exec(ctx context.Context, statement string, args ...any) error {
	_, err := r.pool.ExecContext(ctx, statement, args...)
	return err
}

// importFile fetches the file of a run and imports it. The transaction of the import ends the run too.
func (r *Runner) importFile(ctx context.Context, run *run) error {
	file, err := r.fetch(ctx, run)
	if err != nil {
		return err
	}
	if file == nil {
		return r.exec(ctx, "select tinydevcrm._note_unchanged($1, $2)", run.id, run.attempt)
	}
	defer file.Close()
	request, err := r.request(run, file.name, file.etag, file.lastModified)
	if err != nil {
		return err
	}
	done, err := upload.Load(ctx, r.pool, file, request)
	if file.failure != nil {
		return file.failure
	}
	if err == nil {
		r.logger.Info("a source was fetched", "source", run.name, "rows", done.RowCount, "bytes", done.ByteCount)
	}
	return err
}

// request says how a file is imported.
func (r *Runner) request(run *run, file, etag, lastModified string) (upload.Request, error) {
	values, err := upload.ReadOptions(run.options)
	if err != nil {
		return upload.Request{}, err
	}
	request, err := upload.NewRequest(file, values)
	if err != nil {
		return upload.Request{}, err
	}
	request = r.bounded(request)
	schema, answer := run.schema, "select tinydevcrm._finish_run($1, $2, $3, $4, $5)"
	if run.isOwn {
		request.Table, request.Mode, request.Key = run.table, run.mode, run.key
	} else {
		// A job of the owner imports it from here.
		schema, answer = "pg_temp", "select tinydevcrm._stage_run($1, $2, $3, $4, $5)"
		request.Table = "fetched"
	}
	request.Prepare = func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx,
			"select set_config('search_path', concat_ws(', ', quote_ident($1), nullif(current_setting('search_path'), '')), true)", schema)
		return err
	}
	request.Finish = func(ctx context.Context, conn *sql.Conn, done upload.Import) error {
		_, err := conn.ExecContext(ctx, answer, run.id, run.attempt, done.ID, etag, lastModified)
		return err
	}
	return request, nil
}

// bounded is request within our limits.
func (r *Runner) bounded(request upload.Request) upload.Request {
	request.MaxBytes, request.MaxRatio = r.limits.MaxBytes, r.limits.MaxRatio
	return request
}

// fail records a failure.
func (r *Runner) fail(ctx context.Context, run *run, err error) error {
	var fetched *failure
	problem := db.Explain(err)
	switch {
	case errors.As(err, &fetched):
		problem = db.Problem{Message: fetched.reason}
	case problem.Status >= 500:
		fetched = &failure{}
	default:
		fetched = &failure{isFinal: true}
	}
	var isOver bool
	if err := r.pool.QueryRowContext(ctx, "select tinydevcrm._fail_run($1, $2, $3, $4, $5, make_interval(secs => $6))",
		run.id, run.attempt, problem.Code, problem.String(), fetched.isFinal, fetched.retryAfter.Seconds()).Scan(&isOver); err != nil {
		return err
	}
	r.logger.Warn("a source could not be fetched", "source", run.name, "attempt", run.attempt, "error", err, "is_over", isOver)
	return nil
}
