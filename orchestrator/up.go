package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

const (
	defaultListenAddr = "localhost:5000"
	// logSubscription is what up delivers to its log.
	logSubscription = "log"
	// shutdownWithin is how long requests under way may take once the program is told to end.
	shutdownWithin = 5 * time.Second
	// maxUpload bounds a file that the page takes; the upload command has no bound.
	maxUpload = 4 << 30
)

func (p *program) upCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "up",
		Short: "Migrate, serve the page, log events (what no command means)",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return p.up(command.Context())
		},
	}
	addr := p.listenAddr
	if addr == "" {
		addr = defaultListenAddr
	}
	command.Flags().StringVar(&p.listenAddr, "listen-addr", addr,
		"host:port of the page (default $LISTEN_ADDR)")
	command.Flags().StringSliceVar(&p.hosts, "host", nil,
		"domain name of the page, as behind a proxy; IP addresses and names without a dot always work")
	return command
}

func (p *program) up(ctx context.Context) error {
	socket, err := net.Listen("tcp", p.listenAddr)
	if err != nil {
		return &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("cannot serve the page: %v", err),
			Hint:    "--listen-addr or LISTEN_ADDR names another port.",
		}
	}
	defer socket.Close()

	return p.withDatabase(ctx, func(pool *sql.DB) error {
		if err := migrateUp(ctx, pool); err != nil {
			return err
		}
		diagnostics := logger(p.stderr)
		findings, err := checkInstallation(ctx, pool)
		if err != nil {
			return err
		}
		for _, finding := range findings {
			diagnostics.Warn("the server is not set up as it should be",
				"not_so", finding.what, "detail", finding.detail, "hint", finding.hint)
		}
		// A connection of its own: however busy the page is, the log goes on.
		deliveries, err := db.Open(ctx, p.databaseURL, 1)
		if err != nil {
			return err
		}
		defer deliveries.Close()
		worker := deliver.NewWorker(deliveries, logSubscription, deliver.ToLog(logger(p.stdout)), diagnostics)
		if err := worker.Subscribe(ctx); err != nil {
			return err
		}
		hub := listen.NewHub(p.databaseURL, diagnostics)
		wake, cancel := hub.Subscribe()
		defer cancel()

		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return hub.Run(ctx) })
		group.Go(func() error { return worker.Run(ctx, wake) })
		group.Go(func() error {
			return serve(ctx, socket, web.Handler(web.Config{
				Pool:      pool,
				Upload:    uploader(pool),
				Preview:   previewer(pool),
				Events:    hub.Subscribe,
				Logger:    diagnostics,
				MaxUpload: maxUpload,
				Hosts:     p.hosts,
			}), diagnostics)
		})
		diagnostics.Info("ready", "page", "http://"+socket.Addr().String()+"/")
		return group.Wait()
	})
}

func migrateUp(ctx context.Context, pool *sql.DB) error {
	migrator, err := migrate.Open(ctx, pool)
	if err != nil {
		return err
	}
	defer migrator.Close()
	return migrator.Up(0)
}

// uploader is upload.Load in the page's terms.
func uploader(pool *sql.DB) func(context.Context, io.Reader, string, url.Values) (web.Imported, error) {
	return func(ctx context.Context, file io.Reader, source string, options url.Values) (web.Imported, error) {
		request, err := upload.NewRequest(source, options)
		if err != nil {
			return web.Imported{}, err
		}
		request.MaxBytes = maxUpload
		done, err := upload.Load(ctx, pool, file, request)
		if err != nil {
			return web.Imported{}, err
		}
		row, err := json.Marshal(done)
		if err != nil {
			return web.Imported{}, fmt.Errorf("write the import: %w", err)
		}
		return web.Imported{Schema: done.SchemaName, Table: done.TableName, Rows: done.RowCount, Row: row}, nil
	}
}

// previewer is upload.Preview in the page's terms.
func previewer(pool *sql.DB) func(context.Context, io.Reader, string, url.Values) (web.Plan, error) {
	return func(ctx context.Context, file io.Reader, source string, options url.Values) (web.Plan, error) {
		request, err := upload.NewRequest(source, options)
		if err != nil {
			return web.Plan{}, err
		}
		found, err := upload.Preview(ctx, pool, file, request)
		if err != nil {
			return web.Plan{}, err
		}
		plan := web.Plan{
			Dialect:    found.Dialect.String(),
			Statements: found.Statements,
			IsWhole:    found.IsWhole,
		}
		for _, column := range found.Columns {
			plan.Columns = append(plan.Columns, web.PlannedColumn{Name: column.Name, Type: column.Type})
		}
		if plan.JSON, err = json.Marshal(found); err != nil {
			return web.Plan{}, fmt.Errorf("write the plan: %w", err)
		}
		return plan, nil
	}
}

// serve answers requests until ctx ends, then lets those under way finish.
func serve(ctx context.Context, socket net.Listener, handler http.Handler, diagnostics *slog.Logger) error {
	// Requests outlive ctx by the grace below. Event streams end at once, with the hub.
	requests, endRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer endRequests()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(diagnostics.Handler(), slog.LevelWarn),
	}

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(socket) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWithin)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}
