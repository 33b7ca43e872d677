package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/lib/pq"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/channel"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/fresh"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/migrate"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/watchdog"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	defaultListenAddr = "localhost:5000"
	// logSubscription is the subscription whose events up logs.
	logSubscription = "log"
	// shutdownWithin is how long running requests may take once the program ends.
	shutdownWithin = 5 * time.Second
)

func (p *program) upCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "up",
		Short: "Migrate, serve the page, log events, post webhooks (the default command)",
		Example: "  orchestrator up\n" +
			"  orchestrator up --listen-addr :5000 --public-url https://crm.example.com --host crm.example.com",
		Annotations: map[string]string{untilStopped: "yes"},
		RunE: func(command *cobra.Command, _ []string) error {
			return p.up(command.Context())
		},
	}
	addr := p.listenAddr
	if addr == "" {
		addr = defaultListenAddr
	}
	command.Flags().StringVar(&p.listenAddr, "listen-addr", addr,
		"host:port of the page; $LISTEN_ADDR sets it too")
	p.publicURLFlag(command)
	p.clockFlag(command)
	p.cronURLFlag(command)
	p.connectionsFlag(command)
	p.idleFlag(command)
	command.Flags().StringVar(&p.metricsAddr, "metrics-addr", "",
		"host:port of /metrics, /healthz and /readyz, without log-in (default: /metrics is on the page, or with --auth nowhere)")
	command.Flags().StringSliceVar(&p.hosts, "host", nil,
		"domain name of the page, for use behind a proxy; IP addresses and names without a dot always work")
	command.Flags().BoolVar(&p.hasUsers, "auth", false,
		"users log in to the page as their Postgres role (HTTP Basic: put a proxy with TLS in front of it)")
	command.Flags().StringVar(&p.authURL, "auth-url", "",
		"database URL for the log-ins of users; the server must ask for passwords (default --database-url)")
	command.Flags().BoolVar(&p.letSupers, "allow-superuser-login", false,
		"with --auth: let superusers log in too, whose passwords are worth the whole server")
	command.Flags().Int64Var(&p.maxUpload, "max-upload", 4096,
		"size in MB up to which the page and sources take a file, packed and unpacked; 0 takes any")
	command.Flags().Int64Var(&p.maxRatio, "max-unpack-ratio", 100,
		"how many times its size a packed file may unpack to, beyond 16 MB; 0 takes any")
	command.Flags().StringVar(&p.inbox, "inbox", "",
		"folder from which each file is imported, as a source 'file:PATTERN' says, and then moved to done/ or failed/")
	command.Flags().BoolVar(&p.webhookProxy, "webhook-proxy", false,
		"post webhooks and fetch sources through the proxy that $HTTPS_PROXY, $HTTP_PROXY and $NO_PROXY name")
	command.Flags().Func("allow-webhooks-to",
		"private addresses to which webhooks may post, and from which sources are fetched, such as 127.0.0.0/8; may be repeated", p.allowWebhooksTo)
	return command
}

// users are the users of the page; nil without --auth.
func (p *program) users(ctx context.Context, pool *sql.DB, most int) (*login.Users, loginFunc, error) {
	if !p.hasUsers {
		return nil, nil, nil
	}
	url := p.authURL
	if url == "" {
		url = p.databaseURL
	}
	users, err := login.NewUsers(ctx, pool, url, p.letSupers, most)
	if err != nil {
		return nil, nil, err
	}
	return users, users.Login, nil
}

type loginFunc = func(ctx context.Context, name, password, address string) (*sql.DB, func(), error)

func (p *program) allowWebhooksTo(value string) error {
	network := value
	if address, err := netip.ParseAddr(value); err == nil {
		network = netip.PrefixFrom(address, address.BitLen()).String()
	}
	prefix, err := netip.ParsePrefix(network)
	if err != nil || prefix.Addr().Is4In6() {
		return fmt.Errorf("%q is not a network: write 10.1.0.0/16 or fd00::/8", value)
	}
	p.webhooksTo = append(p.webhooksTo, prefix)
	return nil
}

// recordWebhookNetworks lets the database refuse other private addresses when a webhook is created. A role that may
// not record them leaves what an administrator has set.
func (p *program) recordWebhookNetworks(ctx context.Context, pool *sql.DB) error {
	networks := make([]string, len(p.webhooksTo))
	for i, prefix := range p.webhooksTo {
		networks[i] = prefix.Masked().String()
	}
	if _, err := pool.ExecContext(ctx, `
		select tinydevcrm._allow_webhook_networks($1::text[]::cidr[])
		 where has_function_privilege('tinydevcrm._allow_webhook_networks(cidr[])', 'execute')`,
		pq.Array(networks)); err != nil {
		return fmt.Errorf("record the networks of webhooks: %w", err)
	}
	return nil
}

func (p *program) up(ctx context.Context) error {
	if p.authURL != "" && !p.hasUsers {
		return badUsage("Add --auth, or leave it out.", "--auth-url needs --auth")
	}
	if p.letSupers && !p.hasUsers {
		return badUsage("Add --auth, or leave it out.", "--allow-superuser-login needs --auth")
	}
	if p.cronURL != "" && !p.hasClock {
		return badUsage("Add --clock, or leave it out.", "--cron-url needs --clock")
	}
	if err := p.checkIdle(); err != nil {
		return err
	}
	if err := p.checkPublicURL(); err != nil {
		return err
	}
	if err := p.readMailServer(); err != nil {
		return err
	}
	share, err := p.shareConnections()
	if err != nil {
		return err
	}
	at, err := p.openSockets()
	if err != nil {
		return err
	}
	defer at.close()

	return p.withPool(ctx, p.access(), share.page, func(pool *sql.DB) error {
		diagnostics := logger(p.stderr)
		if err := p.prepare(ctx, pool, diagnostics); err != nil {
			return err
		}
		return p.runAll(ctx, pool, share, at, diagnostics)
	})
}

// prepare migrates, moves the jobs of a restored dump to this server, and warns about what is wrong with the
// server's set-up.
func (p *program) prepare(ctx context.Context, pool *sql.DB, diagnostics *slog.Logger) error {
	if err := p.checkDirect(ctx, pool); err != nil {
		return err
	}
	if err := p.migrateAll(ctx, pool); err != nil {
		return err
	}
	if err := settleJobs(ctx, pool); err != nil {
		return err
	}
	if err := p.recordMailServer(ctx, pool); err != nil {
		return err
	}
	if err := p.checkClock(ctx, pool, diagnostics); err != nil {
		return err
	}
	findings, err := checkInstallation(ctx, pool)
	if err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.what == "a clock is running" && p.hasClock {
			continue
		}
		diagnostics.Warn("a check of the server failed",
			"check", finding.what, "detail", finding.detail, "hint", finding.hint)
	}
	return nil
}

// settleJobs makes pg_cron's jobs run on this server. Jobs that came with a dump connect to the old server,
// including the upkeep job that would correct this. When our role may not do it, a finding says so.
func settleJobs(ctx context.Context, pool *sql.DB) error {
	var may bool
	err := pool.QueryRowContext(ctx, "select has_function_privilege('tinydevcrm.settle_jobs()', 'execute')").Scan(&may)
	if err == nil && may {
		_, err = pool.ExecContext(ctx, "call tinydevcrm.settle_jobs()")
	}
	if err != nil {
		return fmt.Errorf("settle pg_cron's jobs: %w", err)
	}
	return nil
}

// runAll listens, delivers and serves until ctx ends.
func (p *program) runAll(ctx context.Context, pool *sql.DB, share connections, at sockets, diagnostics *slog.Logger) error {
	// These connections are separate, so that the log goes on however busy the page and webhooks are.
	pools, err := p.openPools(ctx, share)
	if err != nil {
		return err
	}
	defer pools.close()
	worker := deliver.NewWorker(pools.log, logSubscription, deliver.ToLog(logger(p.stdout)), diagnostics)
	if err := worker.Subscribe(ctx); err != nil {
		return err
	}
	users, logIn, err := p.users(ctx, pool, share.users)
	if err != nil {
		return err
	}
	if err := p.recordWebhookNetworks(ctx, pool); err != nil {
		return err
	}
	client := webhook.NewClient(p.webhooksTo)
	if p.webhookProxy {
		client.UseProxy(http.ProxyFromEnvironment)
	}
	publicURL := p.linkTo(at.page.Addr().String())
	sender := channel.NewSender(client, publicURL)
	if p.mail != nil {
		sender.UseMail(p.mail)
	}
	webhooks := deliver.NewWebhooks(pools.webhooks, sender.Send, diagnostics)
	hub := listen.NewHub(p.direct(), diagnostics)
	wakeLog, cancelLog := hub.SubscribePromptly()
	defer cancelLog()
	wakeWebhooks, cancelWebhooks := hub.Subscribe()
	defer cancelWebhooks()

	tests := trial.NewRunner(pools.webhooks, sender.Post, diagnostics)
	wakeTests, cancelTests := hub.Subscribe()
	defer cancelTests()

	changes := fresh.NewRunner(pools.fresh, diagnostics)

	files := upload.Limits{MaxBytes: p.maxUpload << 20, MaxRatio: p.maxRatio}
	network := source.NewNetwork(p.webhooksTo)
	if p.webhookProxy {
		network.UseProxy(http.ProxyFromEnvironment)
	}
	sources := source.NewRunner(pools.sources, network, files, diagnostics)
	wakeSources, cancelSources := hub.Subscribe()
	defer cancelSources()

	sleeper := p.sleeper(pool, pools, diagnostics)
	sources.OnFile(sleeper.Begin)
	operations, err := p.operations(ctx, pool, pools, hub, worker, webhooks, changes, sources, sleeper, diagnostics)
	if err != nil {
		return err
	}

	awake, err := p.clockLoops(ctx, pools.clock, share.runs, diagnostics)
	if err != nil {
		return err
	}
	awake = append(awake,
		hub.Listen,
		func(ctx context.Context) error { return hub.Probe(ctx, pools.log) },
		func(ctx context.Context) error { return worker.Run(ctx, wakeLog) },
		func(ctx context.Context) error { return webhooks.Run(ctx, wakeWebhooks) },
		func(ctx context.Context) error { return tests.Run(ctx, wakeTests) },
		func(ctx context.Context) error { return changes.Run(ctx, hub.Changes()) },
		func(ctx context.Context) error { return sources.Run(ctx, wakeSources) },
		func(ctx context.Context) error { return watchdog.Run(ctx, pools.watchdog, diagnostics) },
		func(ctx context.Context) error { return noteLate(ctx, pool, diagnostics) })
	if users != nil {
		awake = append(awake, users.Run)
	}

	group, ctx := errgroup.WithContext(ctx)
	// Event streams end at once, however long the loops take.
	defer context.AfterFunc(ctx, hub.Close)()
	group.Go(func() error { return sleeper.Run(ctx, awake.run) })
	if p.inbox != "" {
		group.Go(func() error { return sources.WatchInbox(ctx, p.inbox) })
	}
	if at.metrics != nil {
		group.Go(func() error { return serve(ctx, at.metrics, operationsHandler(operations), diagnostics) })
	}
	group.Go(func() error {
		return serve(ctx, at.page, sleeper.Handler(web.Handler(web.Config{
			Pool:        pool,
			Login:       logIn,
			Upload:      counted(operations, files.Load),
			Preview:     files.Preview,
			CheckSource: sources.Preview,
			Events:      hub.Subscribe,
			Logger:      diagnostics,
			MaxUpload:   files.MaxBytes,
			Hosts:       p.pageHosts(),
			PublicURL:   publicURL,
			Others:      p.routesBesidePage(operations, pool, diagnostics),
		}), "/healthz", "/readyz", "/metrics"), diagnostics)
	})
	diagnostics.Info("ready", append(at.addresses(), "version", readBuild().version)...)
	return group.Wait()
}

func (p *program) migrateAll(ctx context.Context, pool *sql.DB) error {
	if migrate.IsCurrent(ctx, pool) {
		return nil
	}
	return p.withPool(ctx, p.direct(), migrate.MaxConns, func(own *sql.DB) error { return p.migrateUp(ctx, own) })
}

func (p *program) migrateUp(ctx context.Context, pool *sql.DB) error {
	migrator, err := migrate.Open(ctx, pool, p.migrateSettings()...)
	if err != nil {
		return err
	}
	defer migrator.Close()
	return migrator.Up(0)
}

// serve answers requests until ctx ends, then lets the running ones finish.
func serve(ctx context.Context, socket net.Listener, handler http.Handler, diagnostics *slog.Logger) error {
	// Requests may outlive ctx by shutdownWithin. Event streams end at once, with the hub.
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
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWithin)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
