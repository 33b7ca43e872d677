package main

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/fresh"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/idle"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// operations says how all of this goes.
func (p *program) operations(ctx context.Context, page *sql.DB, own pools, hub *listen.Hub, worker *deliver.Worker, webhooks *deliver.Webhooks, changes *fresh.Runner, sources *source.Runner, sleeper *idle.Sleeper, diagnostics *slog.Logger) (*ops.Ops, error) {
	latest, err := migrate.Latest()
	if err != nil {
		return nil, err
	}
	operations := ops.New(ctx, ops.Config{
		Pool:          own.operations,
		SchemaVersion: latest,
		Build:         readBuild().labels(),
		Listener:      func() ops.Listener { return ops.Listener(hub.State()) },
		Loops:         map[string]func() bool{"log": worker.IsAlive, "webhook": webhooks.IsAlive, "source": sources.IsAlive},
		Changes:       changes.IsAlive,
		IsAsleep:      sleeper.IsAsleep,
		Pools: map[string]*sql.DB{
			"page":       page,
			"log":        own.log,
			"webhooks":   own.webhooks,
			"operations": own.operations,
			"changes":    own.fresh,
			"sources":    own.sources,
		},
		Logger: diagnostics,
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
