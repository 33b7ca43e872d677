// Package web serves the screens, and the same routes for programs.
//
// The rules are SQL. A handler reads a request, calls one function of the database and writes the answer: a
// page for a browser, JSON for a program.
package web

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/events"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/home"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/sources"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/subscriptions"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/tables"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/uploads"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/screens/views"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/widget"
)

const (
	// heartbeat is how often an idle event stream sends a sign of life.
	heartbeat = 15 * time.Second
	// slowTimeout is how long an upload may send nothing, or too little.
	slowTimeout = 30 * time.Second
)

// Config is what the page needs from the rest of the program.
type Config struct {
	// Pool is used for all requests, unless users log in.
	Pool *sql.DB
	// Login returns the pool of a user, and a function that releases it; nil means that users do not log in.
	Login func(ctx context.Context, name, password, address string) (pool *sql.DB, release func(), err error)
	// Upload streams a file into a table, as the options say.
	Upload UploadFunc
	// Preview says what Upload would do, going by the beginning of the file.
	Preview func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Plan, error)
	// CheckSource fetches a file, and says what an import of it would do.
	CheckSource sources.CheckFunc
	// Events gives the ids of events that notify; 0 says that some may have been missed.
	Events func() (ids <-chan int64, cancel func())
	Logger *slog.Logger
	// MaxUpload is the size limit of an upload in bytes; 0 means no limit.
	MaxUpload int64
	// Hosts are domain names of the page, as behind a proxy. IP addresses, localhost and names without a dot
	// always work.
	Hosts []string
	// PublicURL is where people reach the page; links in messages lead there.
	PublicURL string
	// Others are routes of the rest of the program that need no log-in, by their patterns.
	Others map[string]http.Handler
}

// An UploadFunc is upload.Limits.Load.
type UploadFunc func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Import, error)

type server struct {
	Config
	site    *kit.Site
	screens []kit.Screen
	// widgets are public.
	widgets map[string]http.HandlerFunc
}

// Handler serves the page and its routes. The event streams end with the requests' contexts.
func Handler(config Config) http.Handler {
	return newHandler(config, heartbeat)
}

func newHandler(config Config, heartbeat time.Duration) http.Handler {
	return newServer(config, heartbeat, slowTimeout).handler()
}

// newServer puts the screens together. An idle stream sends a sign of life each heartbeat; an upload may be slow for
// that long.
func newServer(config Config, heartbeat, slow time.Duration) *server {
	site := kit.New(kit.Options{Pool: config.Pool, Login: config.Login, Logger: config.Logger})
	happened := parts.NewEvents(site)
	downloads := parts.NewDownloads(site)
	s := &server{Config: config, site: site, widgets: widget.Routes(site)}
	s.screens = []kit.Screen{
		home.New(site, happened),
		uploads.New(site, uploads.Config{Upload: config.Upload, Preview: config.Preview, MaxUpload: config.MaxUpload, Slow: slow}),
		tables.New(site, downloads),
		sources.New(site, config.CheckSource),
		views.New(site, happened, downloads),
		subscriptions.New(site, config.PublicURL),
		events.New(site, happened, config.Events, heartbeat),
	}
	site.Add(s.screens...)
	return s
}

func (s *server) handler() http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(s.denyCrossOrigin))
	return compress(s.guard(protection.Handler(s.routes())))
}

// guard sets the headers that keep foreign code off the page, and checks the host name of the request: another
// site could point a name of its own to this machine, and would then count as the same site.
func (s *server) guard(next http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; " +
		"img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		// Not no-referrer, which makes browsers send "Origin: null" with our own forms.
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")

		if !s.answersTo(r.Host) {
			s.site.WriteProblem(w, r, &db.UserError{
				Status:  http.StatusMisdirectedRequest,
				Message: "this is not a name of this server: " + r.Host,
				Hint:    "Use its IP address, or localhost. orchestrator up --host adds a name.",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) answersTo(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))

	_, err := netip.ParseAddr(host)
	return err == nil ||
		!strings.Contains(host, ".") ||
		strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(s.Hosts, func(known string) bool { return strings.EqualFold(known, host) })
}

func (s *server) denyCrossOrigin(w http.ResponseWriter, r *http.Request) {
	s.site.WriteProblem(w, r, &db.UserError{
		Status:  http.StatusForbidden,
		Message: "another site sent this request",
		Hint:    "Send it from this server's own page, or from a program.",
	})
}
