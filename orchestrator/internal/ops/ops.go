// Package ops tells those who run the program how it goes: whether it lives, whether it is ready, and
// what Prometheus asks for.
//
// Nothing here waits for long, or for the database at all where that is not the question. One check and
// one scrape are under way at most, each with a connection: however often they are asked for, a server
// that has stalled holds no more.
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
	// MaxConns is what the pool has to have: one for checks, one for scrapes.
	MaxConns = 2
	// checkWithin and scrapeWithin are less than what those who ask usually wait, 3 and 10 seconds.
	checkWithin  = 2 * time.Second
	scrapeWithin = 5 * time.Second
	// maxScrapes are answered at once; they share one look at the database.
	maxScrapes = 4
)

// Config is what is looked at.
type Config struct {
	// Pool is for checks and scrapes alone, MaxConns wide.
	Pool *sql.DB
	// SchemaVersion is that of this program's last migration.
	SchemaVersion int
	// Listener says whether the listening connection is there, and how often it was made again.
	Listener func() (isListening bool, reconnects int64)
	// Loops say by what they deliver whether they go round.
	Loops map[string]func() bool
	// Pools have their connections counted, by what they are for.
	Pools  map[string]*sql.DB
	Logger *slog.Logger
}

// Ops answers GET /healthz, /readyz and /metrics.
type Ops struct {
	Config
	// ctx ends what is under way with the program.
	ctx      context.Context
	once     singleflight.Group
	database *database
	descs    map[string]*prometheus.Desc
	registry *prometheus.Registry
	uploads  *prometheus.CounterVec
	// isFailing says that the last scrape did not get at the database.
	isFailing atomic.Bool
}

// New returns an Ops whose looks at the database end with ctx.
func New(ctx context.Context, config Config) *Ops {
	o := &Ops{
		Config:   config,
		ctx:      ctx,
		database: newDatabase(config.Pool),
		descs:    descriptions(),
		registry: prometheus.NewPedanticRegistry(),
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tinydevcrm_uploads_total",
			Help: "Uploads through the page since the program started, by how they ended.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"imported", "refused", "failed", "cancelled"} {
		o.uploads.WithLabelValues(outcome)
	}
	o.registry.MustRegister(o, o.uploads,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector())
	for name, pool := range config.Pools {
		o.registry.MustRegister(collectors.NewDBStatsCollector(pool, name))
	}
	return o
}

// share has all who ask for the same thing at once wait for one answer, each as long as within.
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
		// lib/pq waits for a server that has stalled whatever the context says. It goes on, alone.
		return nil, context.DeadlineExceeded
	}
}

// Start looks at the database once, so that its counters begin with the program and not with the first
// scrape.
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

// Metrics is GET /metrics.
func (o *Ops) Metrics() http.Handler {
	return promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// Health is GET /healthz: the process lives. It says nothing of the database, for whose absence nobody
// should restart the program.
func (o *Ops) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"is_alive": true})
	})
}

// A readiness is what GET /readyz answers. Its words are for anyone: they name nothing of the server.
type readiness struct {
	IsReady  bool              `json:"is_ready"`
	NotReady map[string]string `json:"not_ready,omitempty"`
}

// Ready is GET /readyz: 503 while something is missing, with what it is.
func (o *Ops) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		missing := make(map[string]string)
		if what, why := o.checkDatabase(); why != "" {
			missing[what] = why
		}
		if isListening, _ := o.Listener(); !isListening {
			missing["listener"] = "is not connected"
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
		writeJSON(w, status, readiness{IsReady: len(missing) == 0, NotReady: missing})
	})
}

// checkDatabase gives what is wrong with the database or its schema.
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
	// Whoever does not wait for the answer has no use for an error.
	_ = json.NewEncoder(w).Encode(body)
}
