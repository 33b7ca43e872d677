package main

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/channel"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/deliver"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/fresh"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/idle"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/watchdog"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// services are what up runs.
type services struct {
	pool        *sql.DB // of the page
	pools       pools
	hub         *listen.Hub
	log         *deliver.Worker
	webhooks    *deliver.Webhooks
	tests       *trial.Runner
	changes     *fresh.Runner
	sources     *source.Runner
	users       *login.Users // nil without --auth
	logIn       loginFunc
	files       upload.Limits
	sleeper     *idle.Sleeper
	operations  *ops.Ops
	publicURL   string
	diagnostics *slog.Logger
}

// runAll listens, delivers and serves until ctx ends.
func (p *program) runAll(ctx context.Context, pool *sql.DB, share connections, at sockets, diagnostics *slog.Logger) error {
	// These connections are separate, so that the log goes on however busy the page and webhooks are.
	pools, err := p.openPools(ctx, share)
	if err != nil {
		return err
	}
	defer pools.close()
	s := &services{pool: pool, pools: pools, publicURL: p.linkTo(at.page.Addr().String()), diagnostics: diagnostics}
	if err := p.connectServices(ctx, s, share); err != nil {
		return err
	}
	awake, err := p.clockLoops(ctx, pools.clock, share.runs, diagnostics)
	if err != nil {
		return err
	}
	awake = append(awake, s.loops()...)

	group, ctx := errgroup.WithContext(ctx)
	// Event streams end at once, however long the loops take.
	defer context.AfterFunc(ctx, s.hub.Close)()
	group.Go(func() error { return s.sleeper.Run(ctx, awake.run) })
	if p.inbox != "" {
		group.Go(func() error { return s.sources.WatchInbox(ctx, p.inbox) })
	}
	if at.metrics != nil {
		group.Go(func() error { return serve(ctx, at.metrics, operationsHandler(s.operations), diagnostics) })
	}
	group.Go(func() error { return serve(ctx, at.page, p.pageHandler(s), diagnostics) })
	diagnostics.Info("ready", append(at.addresses(), "version", readBuild().version)...)
	return group.Wait()
}

// connectServices makes the services, and says to the database what it has to know of them. None of them runs yet.
func (p *program) connectServices(ctx context.Context, s *services, share connections) error {
	s.log = deliver.NewWorker(s.pools.log, logSubscription, deliver.ToLog(logger(p.stdout)), s.diagnostics)
	if err := s.log.Subscribe(ctx); err != nil {
		return err
	}
	var err error
	if s.users, s.logIn, err = p.users(ctx, s.pool, share.users); err != nil {
		return err
	}
	if err := p.recordWebhookNetworks(ctx, s.pool); err != nil {
		return err
	}

	s.hub = listen.NewHub(p.direct(), s.diagnostics)
	sender := p.sender(s.publicURL)
	s.webhooks = deliver.NewWebhooks(s.pools.webhooks, sender.Send, s.diagnostics)
	s.tests = trial.NewRunner(s.pools.webhooks, sender.Post, s.diagnostics)
	s.changes = fresh.NewRunner(s.pools.fresh, s.diagnostics)
	s.files = upload.Limits{MaxBytes: p.maxUpload << 20, MaxRatio: p.maxRatio}
	s.sources = p.sourceRunner(s)
	s.sleeper = p.sleeper(s.pool, s.pools, s.diagnostics)
	s.sources.OnFile(s.sleeper.Begin)
	s.operations, err = s.newOperations(ctx)
	return err
}

// sender sends events by webhook and e-mail.
func (p *program) sender(publicURL string) *channel.Sender {
	client := webhook.NewClient(p.webhooksTo)
	if p.webhookProxy {
		client.UseProxy(http.ProxyFromEnvironment)
	}
	sender := channel.NewSender(client, publicURL)
	if p.mail != nil {
		sender.UseMail(p.mail)
	}
	return sender
}

func (p *program) sourceRunner(s *services) *source.Runner {
	network := source.NewNetwork(p.webhooksTo)
	if p.webhookProxy {
		network.UseProxy(http.ProxyFromEnvironment)
	}
	return source.NewRunner(s.pools.sources, network, s.files, s.diagnostics)
}

// loops are those that run while the program is awake. What the hub hears wakes some of them; their subscriptions end with
// the hub.
func (s *services) loops() loops {
	woken := func(run func(context.Context, <-chan int64) error) func(context.Context) error {
		ids, _ := s.hub.Subscribe()
		return func(ctx context.Context) error { return run(ctx, ids) }
	}
	prompt, _ := s.hub.SubscribePromptly()
	all := loops{
		s.hub.Listen,
		func(ctx context.Context) error { return s.hub.Probe(ctx, s.pools.log) },
		func(ctx context.Context) error { return s.log.Run(ctx, prompt) },
		woken(s.webhooks.Run),
		woken(s.tests.Run),
		woken(s.sources.Run),
		func(ctx context.Context) error { return s.changes.Run(ctx, s.hub.Changes()) },
		func(ctx context.Context) error { return watchdog.Run(ctx, s.pools.watchdog, s.diagnostics) },
		func(ctx context.Context) error { return noteLate(ctx, s.pool, s.diagnostics) },
	}
	if s.users != nil {
		all = append(all, s.users.Run)
	}
	return all
}

// pageHandler serves the page. Each request but those of machines that look whether it is well wakes the program.
func (p *program) pageHandler(s *services) http.Handler {
	return s.sleeper.Handler(web.Handler(web.Config{
		Pool:        s.pool,
		Login:       s.logIn,
		Upload:      counted(s.operations, s.files.Load),
		Preview:     s.files.Preview,
		CheckSource: s.sources.Preview,
		Events:      s.hub.Subscribe,
		Logger:      s.diagnostics,
		MaxUpload:   s.files.MaxBytes,
		Hosts:       p.pageHosts(),
		PublicURL:   s.publicURL,
		Others:      p.routesBesidePage(s.operations, s.pool, s.diagnostics),
	}), "/healthz", "/readyz", "/metrics")
}
