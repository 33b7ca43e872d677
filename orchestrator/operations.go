package main

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// newOperations says how all of this goes.
func (s *services) newOperations(ctx context.Context) (*ops.Ops, error) {
	latest, err := migrate.Latest()
	if err != nil {
		return nil, err
	}
	operations := ops.New(ctx, ops.Config{
		Pool:          s.pools.operations,
		SchemaVersion: latest,
		Build:         readBuild().labels(),
		Listener:      func() ops.Listener { return ops.Listener(s.hub.State()) },
		Loops:         map[string]func() bool{"log": s.log.IsAlive, "webhook": s.webhooks.IsAlive, "source": s.sources.IsAlive},
		Changes:       s.changes.IsAlive,
		IsAsleep:      s.sleeper.IsAsleep,
		Pools: map[string]*sql.DB{
			"page":       s.pool,
			"log":        s.pools.log,
			"webhooks":   s.pools.webhooks,
			"operations": s.pools.operations,
			"changes":    s.pools.fresh,
			"sources":    s.pools.sources,
		},
		Logger: s.diagnostics,
	})
	operations.Start()
	return operations, nil
}

// operationsHandler serves an address of its own, under any host name that Prometheus uses.
func operationsHandler(operations *ops.Ops) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", operations.Health())
	mux.Handle("GET /readyz", operations.Ready())
	mux.Handle("GET /metrics", operations.Metrics())
	return mux
}

// routesBesidePage are for everyone who reaches the page. Strangers must not see numbers of all users' views:
// when users log in, the metrics are served on an address of their own, or not at all.
func (p *program) routesBesidePage(operations *ops.Ops, pool *sql.DB, diagnostics *slog.Logger) map[string]http.Handler {
	unsubscribe := mail.Unsubscriber(pool, diagnostics)
	routes := map[string]http.Handler{
		"GET /healthz":      operations.Health(),
		"GET /readyz":       operations.Ready(),
		"GET /unsubscribe":  unsubscribe,
		"POST /unsubscribe": unsubscribe,
	}
	if !p.hasUsers && p.metricsAddr == "" {
		routes["GET /metrics"] = operations.Metrics()
	}
	return routes
}

// counted is load, with how it ended counted.
func counted(operations *ops.Ops, load web.UploadFunc) web.UploadFunc {
	return func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Import, error) {
		imported, err := load(ctx, pool, file, source, options)
		operations.CountUpload(ctx, err)
		return imported, err
	}
}
