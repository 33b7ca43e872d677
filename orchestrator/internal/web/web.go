// Package web serves the page: the workflow from a CSV to events, from top to bottom, and the same
// routes to programs.
//
// The rules are SQL. A handler reads a request, calls one function of the database and writes the
// answer: a page to a browser, JSON to anyone else.
package web

import (
	"context"
	"database/sql"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

const (
	// readTimeout bounds what the page reads.
	readTimeout = 10 * time.Second
	// runTimeout bounds what a button starts: a query of the user's, over any amount of data.
	runTimeout = 10 * time.Minute
	// previewTimeout bounds a look at what a query gives.
	previewTimeout = 30 * time.Second
	// writeTimeout is how long a client may take to accept what we write.
	writeTimeout = 30 * time.Second
	// maxTransfers and maxActions run at once; one of them waits for its turn as long as patience.
	maxTransfers = db.MaxConns / 2
	maxActions   = db.MaxConns - maxTransfers - 1
	patience     = 10 * time.Second
	// heartbeat is how often a quiet event stream says that it is there.
	heartbeat = 15 * time.Second
)

// Config is what the page needs of the rest of the program.
type Config struct {
	// Pool is what everyone acts by, unless they log in.
	Pool *sql.DB
	// Login gives the pool of a user, and what gives it back; nil asks nobody who they are.
	Login func(ctx context.Context, name, password, address string) (pool *sql.DB, release func(), err error)
	// Upload streams a file into a table, as the options say.
	Upload UploadFunc
	// Preview says what Upload would do, going by the beginning of the file.
	Preview func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Plan, error)
	// Events gives the ids of told events as they are notified; 0 says that some may have been missed.
	Events func() (ids <-chan int64, cancel func())
	Logger *slog.Logger
	// MaxUpload is the size in bytes up to which an upload is taken; 0 takes any.
	MaxUpload int64
	// Hosts are domain names under which the page may be asked for, as behind a proxy. IP addresses,
	// localhost and names without a dot always work.
	Hosts []string
	// Others are routes of the rest of the program that need no log-in, by their patterns.
	Others map[string]http.Handler
}

// An UploadFunc is upload.Limits.Load.
type UploadFunc func(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (upload.Import, error)

type server struct {
	Config
	heartbeat time.Duration
	templates *template.Template
	assets    map[string]asset
	// look changes with templates and assets.
	look string
	// everyone is who acts where nobody logs in.
	everyone *session
	users    sessions
	// widgets are for everyone: one connection has to do for them, so that they take none of the users'.
	widgets slots
	// clients bound the transfers of each where nobody logs in.
	clients clientSlots
	// slow is how long an upload may be slow.
	slow time.Duration
	// awaySince is when a request first found the database away; nil while it is there.
	awaySince atomic.Pointer[time.Time]
}

// Handler serves the page and its routes. Requests' contexts end the event streams.
func Handler(config Config) http.Handler {
	return newHandler(config, heartbeat)
}

func newHandler(config Config, heartbeat time.Duration) http.Handler {
	return newServer(config, heartbeat).handler()
}

func newServer(config Config, heartbeat time.Duration) *server {
	s := &server{
		Config:    config,
		heartbeat: heartbeat,
		assets:    loadAssets(),
		everyone:  newSession(maxTransfers, maxActions),
		widgets:   newSlots("widgets", 1),
		clients:   clientSlots{what: "uploads and downloads from your address", count: maxTransfers - 1},
		slow:      slowTimeout,
	}
	s.everyone.pool = config.Pool
	s.templates = parseTemplates(s.assets)
	s.look = look()
	return s
}

func (s *server) handler() http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(s.denyCrossOrigin))
	return s.guard(protection.Handler(s.routes()))
}

// guard sets the headers that keep others' code off the page, and checks by which name it was asked
// for: a site elsewhere can point a name of its own at this machine, and would then count as ours.
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
			s.writeProblem(w, r, &db.UserError{
				Status:  http.StatusMisdirectedRequest,
				Message: "this is not a name of this server: " + r.Host,
				Hint:    "Ask for it by its IP address, or as localhost.",
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
	s.writeProblem(w, r, &db.UserError{
		Status:  http.StatusForbidden,
		Message: "another site sent this request",
		Hint:    "Send it from this server's own page, or from a program.",
	})
}
