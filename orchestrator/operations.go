package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// webhookConns is how many connections receive and acknowledge deliveries of webhooks.
const webhookConns = 2

// sockets are what up listens on. metrics is nil when the metrics have no address of their own.
type sockets struct{ page, metrics net.Listener }

func (p *program) openSockets() (sockets, error) {
	page, err := net.Listen("tcp", p.listenAddr)
	if err != nil {
		return sockets{}, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("cannot serve the page: %v", err),
			Hint:    "Choose another port with --listen-addr or LISTEN_ADDR.",
		}
	}
	if p.metricsAddr == "" {
		return sockets{page: page}, nil
	}
	metrics, err := net.Listen("tcp", p.metricsAddr)
	if err != nil {
		page.Close()
		return sockets{}, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("cannot serve the metrics: %v", err),
			Hint:    "Choose another port with --metrics-addr.",
		}
	}
	return sockets{page: page, metrics: metrics}, nil
}

func (s sockets) close() {
	s.page.Close()
	if s.metrics != nil {
		s.metrics.Close()
	}
}

// addresses are the addresses for the log.
func (s sockets) addresses() []any {
	found := []any{"page", "http://" + s.page.Addr().String() + "/"}
	if s.metrics != nil {
		found = append(found, "metrics", "http://"+s.metrics.Addr().String()+"/metrics")
	}
	return found
}

// pools are separate connections for what must go on however busy the page is.
type pools struct{ log, webhooks, operations *sql.DB }

func (p *program) openPools(ctx context.Context) (pools, error) {
	var opened pools
	for _, pool := range []struct {
		opened   **sql.DB
		maxConns int
	}{{&opened.log, 1}, {&opened.webhooks, webhookConns}, {&opened.operations, ops.MaxConns}} {
		var err error
		if *pool.opened, err = db.OpenImpatient(ctx, p.databaseURL, pool.maxConns); err != nil {
			opened.close()
			return pools{}, err
		}
	}
	return opened, nil
}

func (s pools) close() {
	for _, pool := range []*sql.DB{s.log, s.webhooks, s.operations} {
		if pool != nil {
			pool.Close()
		}
	}
}

// operations reports the state of all of these.
func (p *program) operations(ctx context.Context, page *sql.DB, own pools, hub *listen.Hub, worker *deliver.Worker, webhooks *deliver.Webhooks, diagnostics *slog.Logger) (*ops.Ops, error) {
	latest, err := migrate.Latest()
	if err != nil {
		return nil, err
	}
	operations := ops.New(ctx, ops.Config{
		Pool:          own.operations,
		SchemaVersion: latest,
		Listener:      hub.State,
		Loops:         map[string]func() bool{"log": worker.IsAlive, "webhook": webhooks.IsAlive},
		Pools: map[string]*sql.DB{
			"page":       page,
			"log":        own.log,
			"webhooks":   own.webhooks,
			"operations": own.operations,
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
func (p *program) routesBesidePage(operations *ops.Ops) map[string]http.Handler {
	routes := map[string]http.Handler{
		"GET /healthz": operations.Health(),
		"GET /readyz":  operations.Ready(),
	}
	if !p.hasUsers && p.metricsAddr == "" {
		routes["GET /metrics"] = operations.Metrics()
	}
	return routes
}

type uploadFunc = func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (web.Imported, error)

// counted is upload that also counts the result.
func counted(operations *ops.Ops, upload uploadFunc) uploadFunc {
	return func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (web.Imported, error) {
		imported, err := upload(ctx, pool, file, source, options)
		operations.CountUpload(ctx, err)
		return imported, err
	}
}
