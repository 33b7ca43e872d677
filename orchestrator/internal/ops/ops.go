// Package ops serves the health checks and the metrics: whether the program is alive, whether it is ready, and
// what Prometheus scrapes.
//
// Nothing here waits for long, and liveness does not wait for the database at all. At most one check and one
// scrape run at once, each on one connection. So a stalled server holds no more connections, however many
// requests come.
package ops

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/singleflight"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// MaxConns is the size that the pool must have: one connection for checks, one for scrapes.
	MaxConns = 2
	// checkWithin and scrapeWithin are shorter than the usual timeouts of the clients, 3 and 10 seconds.
	checkWithin  = 2 * time.Second
	scrapeWithin = 5 * time.Second
	// maxScrapes is how many scrapes are answered at once. They share one read of the database.
	maxScrapes = 4
)

// Config is what the checks and metrics read.
type Config struct {
	// Pool is for checks and scrapes only, MaxConns wide.
	Pool *sql.DB
	// SchemaVersion is that of this program's last migration.
	SchemaVersion int
	// Build are the labels that say which program this is.
	Build prometheus.Labels
	// Listener returns the state of the listening connection.
	Listener func() Listener
	// Loops report whether each delivery loop runs, by what it delivers to.
	Loops map[string]func() bool
	// Changes reports whether the views on change are refreshed.
	Changes func() bool
	// IsAsleep reports whether the program lets the database sleep. Then nothing here asks the database.
	IsAsleep func() bool
	// Pools are the pools whose connections are counted, by their purpose.
	Pools  map[string]*sql.DB
	Logger *slog.Logger
}

// A Listener is the state of the listening connection: whether it is up, whether nothing arrives on it all the same,
// and how often it was restored.
type Listener struct {
	IsListening, IsDeaf bool
	Reconnects          int64
}

// Ops answers GET /healthz, /readyz and /metrics.
type Ops struct {
	Config
	// ctx ends running checks and scrapes when the program ends.
	ctx      context.Context
	once     singleflight.Group
	database *database
	descs    map[string]*prometheus.Desc
	registry *prometheus.Registry
	uploads  *prometheus.CounterVec
	// isFailing means that the last scrape could not read the database.
	isFailing atomic.Bool
}

// New returns an Ops whose queries end with ctx.
func New(ctx context.Context, config Config) *Ops {
	o := &Ops{
		Config:   config,
		ctx:      ctx,
		database: newDatabase(config.Pool),
		descs:    descriptions(),
		registry: prometheus.NewPedanticRegistry(),
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tinydevcrm_uploads_total",
			Help: "Uploads through the page since the program started, by result.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"imported", "refused", "failed", "cancelled"} {
		o.uploads.WithLabelValues(outcome)
	}
	program := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "tinydevcrm_build_info",
		Help:        "Always 1; its labels say which program this is.",
		ConstLabels: config.Build,
	})
	program.Set(1)
	o.registry.MustRegister(o, o.uploads, program,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector())
	for name, pool := range config.Pools {
		o.registry.MustRegister(collectors.NewDBStatsCollector(pool, name))
	}
	return o
}

// share lets all concurrent requests for the same thing wait for one answer, each at most within.
func (o *Ops) share(what string, within time.Duration, work func(context.Context) (any, error)) (any, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	answer := o.once.DoChan(what, func() (any, error) {
		ctx, cancel := context.WithTimeout(o.ctx, within)
		defer cancel()
		return work(ctx)
	})
	select {
	case result := <-answer:
		return result.Val, result.Err
	case <-timer.C:
		// lib/pq waits for a stalled server even after the context has ended. The call goes on in the
		// background, alone.
		return nil, context.DeadlineExceeded
	}
}

// Start reads the database once, so that the counters begin with the program and not with the first scrape.
func (o *Ops) Start() {
	if _, err := o.registry.Gather(); err != nil {
		o.Logger.Warn("cannot read the metrics", "error", err)
	}
}

// CountUpload counts an upload that ended with err.
func (o *Ops) CountUpload(ctx context.Context, err error) {
	outcome := "failed"
	switch {
	case err == nil:
		outcome = "imported"
	case ctx.Err() != nil:
		outcome = "cancelled"
	case db.Explain(err).Status < http.StatusInternalServerError:
		outcome = "refused"
	}
	o.uploads.WithLabelValues(outcome).Inc()
}

// Metrics answers GET /metrics.
func (o *Ops) Metrics() http.Handler {
	return promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// Health answers GET /healthz: the process is alive. It does not check the database, because a missing database
// is no reason to restart the program.
func (o *Ops) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"is_alive": true})
	})
}

// A readiness is the answer of GET /readyz. Anyone may read it, so it names nothing of the server.
type readiness struct {
	IsReady  bool              `json:"is_ready"`
	IsAsleep bool              `json:"is_asleep,omitempty"`
	NotReady map[string]string `json:"not_ready,omitempty"`
	Degraded map[string]string `json:"degraded,omitempty"`
}

// Ready answers GET /readyz: 503 while something is missing, with what that is. What works, but worse than it
// should, is named and is no reason to send requests elsewhere.
func (o *Ops) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if o.IsAsleep() {
			writeJSON(w, http.StatusOK, readiness{IsReady: true, IsAsleep: true})
			return
		}
		missing, degraded := make(map[string]string), make(map[string]string)
		if what, why := o.checkDatabase(); why != "" {
			missing[what] = why
		}
		switch listener := o.Listener(); {
		case !listener.IsListening:
			missing["listener"] = "is not connected"
		case listener.IsDeaf:
			degraded["listener"] = "receives no notifications; events are looked for every ten seconds"
		}
		if !o.Changes() {
			degraded["changes"] = "are not looked for; pg_cron refreshes views on change within a minute"
		}
		for name, isAlive := range o.Loops {
			if !isAlive() {
				missing[name] = "is not delivered"
			}
		}
		status := http.StatusOK
		if len(missing) > 0 {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, readiness{IsReady: len(missing) == 0, NotReady: missing, Degraded: degraded})
	})
}

// checkDatabase returns what is wrong with the database or its schema.
func (o *Ops) checkDatabase() (what, why string) {
	version, err := o.share("check", checkWithin, func(ctx context.Context) (any, error) {
		var version int
		var isDirty bool
		err := o.Pool.QueryRowContext(ctx,
			"select version, dirty from public.schema_migrations").Scan(&version, &isDirty)
		if isDirty {
			version = -version
		}
		return version, err
	})
	var refusal *pq.Error
	switch {
	case errors.Is(err, sql.ErrNoRows), errors.As(err, &refusal) && refusal.Code == "42P01":
		return "schema", "is not there"
	case err != nil:
		return "database", "does not answer"
	case version.(int) < 0:
		return "schema", fmt.Sprintf("broke off at version %d", -version.(int))
	case version != o.SchemaVersion:
		return "schema", fmt.Sprintf("is at version %d, this program has %d", version, o.SchemaVersion)
	}
	return "", ""
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A caller that does not wait for the answer does not need the error.
	_ = json.NewEncoder(w).Encode(body)
}
