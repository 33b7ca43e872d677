// Package kit is what all screens share: the session of a request, how an answer is written, the frame around a
// page, forms and lists. It knows no screen.
package kit

import (
	"context"
	"database/sql"
	"html/template"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// ReadTimeout bounds what a page reads.
	ReadTimeout = 10 * time.Second
	// runTimeout bounds what a button starts: a query of the user, over any amount of data.
	runTimeout = 10 * time.Minute
	// writeTimeout is how long a client may take to accept an answer.
	writeTimeout = 30 * time.Second
	// patience is how long a transfer or an action waits for its turn.
	patience = 10 * time.Second
)

// Options are what the screens need from the rest of the program.
type Options struct {
	// Pool is used for all requests, unless users log in.
	Pool *sql.DB
	// Login returns the pool of a user, and a function that releases it; nil means that users do not log in.
	Login  func(ctx context.Context, name, password, address string) (pool *sql.DB, release func(), err error)
	Logger *slog.Logger
}

// A Site holds what all screens share.
type Site struct {
	Options
	assets map[string]asset
	// look changes with the templates and static files of all screens.
	look    string
	layout  *template.Template
	screens []Screen
	// everyone is the session of all requests when users do not log in.
	everyone *Session
	users    sessions
	// clients bound the transfers of each client when users do not log in.
	clients *ClientSlots
	// awaySince is when a request first noticed that the database is away; nil while it answers.
	awaySince atomic.Pointer[time.Time]
}

// New returns a site without screens.
func New(options Options) *Site {
	conns := db.MaxConns
	if options.Pool != nil {
		conns = options.Pool.Stats().MaxOpenConnections
	}
	// So many run at once, and leave a connection for what is read.
	transfers := conns / 2
	s := &Site{
		Options:  options,
		assets:   map[string]asset{},
		everyone: newSession(transfers, conns-transfers-1),
		clients:  NewClientSlots("uploads and downloads from your address", transfers-1, patience),
	}
	s.everyone.pool = options.Pool
	s.AddFiles(files)
	s.layout = s.parse(template.New("layout").Funcs(s.functions()), files)
	return s
}
