package kit

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A Session is the user or client who acts: a pool of connections, and limits for the work that may run at once
// in it. Each upload, download and action holds a connection while it runs. Together they leave one connection
// to the page.
type Session struct {
	pool *sql.DB
	// User is the role; empty without log-ins.
	User               string
	transfers, actions *Slots
	flashes            *flashes
	// Release releases the pool before the request ends; nil when that is not needed.
	Release func()
}

func newSession(transfers, actions int) *Session {
	return &Session{
		transfers: NewSlots("uploads and downloads", transfers, patience),
		actions:   NewSlots("requests to the database", actions, patience),
		flashes:   &flashes{},
	}
}

// sessions keep the slots and flashes of each user between requests.
type sessions struct {
	mu     sync.Mutex
	byUser map[string]*Session
}

func (s *sessions) of(user string, pool *sql.DB, release func()) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.byUser[user]
	if kept == nil {
		// One of each, because a user has three connections.
		kept = newSession(1, 1)
		if s.byUser == nil {
			s.byUser = make(map[string]*Session)
		}
		s.byUser[user] = kept
	}
	return &Session{
		pool: pool, User: user, transfers: kept.transfers, actions: kept.actions, flashes: kept.flashes, Release: release,
	}
}

type sessionKey struct{}

// Session returns the session of a request.
func (s *Site) Session(ctx context.Context) *Session {
	if found, ok := ctx.Value(sessionKey{}).(*Session); ok {
		return found
	}
	return s.everyone
}

// DB returns the pool of the user who sends a request.
func (s *Site) DB(ctx context.Context) *sql.DB { return s.Session(ctx).pool }

// ErrLocked means that a role may no longer log in.
var ErrLocked = errors.New("the role may not log in")

// RoleOf returns the oid of the role of a session's user while it may log in; 0 without log-ins.
func (s *Site) RoleOf(ctx context.Context, user string) (role int64, err error) {
	if user == "" {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ReadTimeout)
	defer cancel()
	err = s.Pool.QueryRowContext(ctx, `
		select oid::bigint
		  from pg_catalog.pg_roles
		 where rolname = $1
		   and rolcanlogin
		   and (rolvaliduntil is null or rolvaliduntil > clock_timestamp())`, user).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrLocked
	}
	return role, err
}

// Authenticate makes each request log in to Postgres by HTTP Basic, if there are users.
func (s *Site) Authenticate(next http.Handler) http.Handler {
	if s.Login == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, ok := r.BasicAuth()
		if !ok || name == "" {
			s.refuseLogin(w, r, &db.UserError{Status: http.StatusUnauthorized, Message: "log in first"})
			return
		}
		pool, release, err := s.Login(r.Context(), name, password, r.RemoteAddr)
		if err != nil {
			s.refuseLogin(w, r, err)
			return
		}
		defer release()
		session := s.users.of(name, pool, release)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sessionKey{}, session)))
	})
}

func (s *Site) refuseLogin(w http.ResponseWriter, r *http.Request, err error) {
	if WantsPage(r) && db.Explain(err).IsAway {
		s.showFailure(w, r, err)
		return
	}
	var mistake *db.UserError
	if errors.As(err, &mistake) {
		switch mistake.Status {
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", `Basic realm="TinyDevCRM", charset="UTF-8"`)
		case http.StatusTooManyRequests:
			w.Header().Set("Retry-After", "60")
		}
	}
	s.WriteProblem(w, r, err)
}

// AwaySince is when a request first noticed that the database is away; nil while it answers.
func (s *Site) AwaySince() *time.Time { return s.awaySince.Load() }

// NoteAnswer says that the database has answered.
func (s *Site) NoteAnswer() { s.awaySince.Store(nil) }
