package web

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A session is the user or client who acts: a pool of connections, and limits for the work that may run at once
// in it. Each upload, download and action holds a connection while it runs. Together they leave one connection
// to the page.
type session struct {
	pool *sql.DB
	// user is the role; empty without log-ins.
	user      string
	transfers slots
	actions   slots
	flashes   *flashes
	// release releases the pool before the request ends; nil when that is not needed.
	release func()
}

func newSession(transfers, actions int) *session {
	return &session{
		transfers: newSlots("uploads and downloads", transfers),
		actions:   newSlots("requests to the database", actions),
		flashes:   &flashes{},
	}
}

// sessions keep the slots and flashes of each user between requests.
type sessions struct {
	mu     sync.Mutex
	byUser map[string]*session
}

func (s *sessions) of(user string, pool *sql.DB, release func()) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.byUser[user]
	if kept == nil {
		// One of each, because a user has three connections.
		kept = newSession(1, 1)
		if s.byUser == nil {
			s.byUser = make(map[string]*session)
		}
		s.byUser[user] = kept
	}
	return &session{
		pool: pool, user: user, transfers: kept.transfers, actions: kept.actions, flashes: kept.flashes, release: release,
	}
}

type sessionKey struct{}

// session returns the session of a request.
func (s *server) session(ctx context.Context) *session {
	if found, ok := ctx.Value(sessionKey{}).(*session); ok {
		return found
	}
	return s.everyone
}

func (s *server) pool(ctx context.Context) *sql.DB { return s.session(ctx).pool }

// errLocked means that a role may no longer log in.
var errLocked = errors.New("the role may not log in")

// roleOf returns the oid of the role of a session's user while it may log in; 0 without log-ins.
func (s *server) roleOf(ctx context.Context, user string) (role int64, err error) {
	if user == "" {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = s.Pool.QueryRowContext(ctx, `
		select oid::bigint
		  from pg_catalog.pg_roles
		 where rolname = $1
		   and rolcanlogin
		   and (rolvaliduntil is null or rolvaliduntil > clock_timestamp())`, user).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, errLocked
	}
	return role, err
}

// authenticate makes each request log in to Postgres by HTTP Basic, if there are users.
func (s *server) authenticate(next http.Handler) http.Handler {
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

func (s *server) refuseLogin(w http.ResponseWriter, r *http.Request, err error) {
	if wantsPage(r) && db.Explain(err).IsAway {
		s.fail(w, r, stepPage, page{}, err)
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
	s.writeProblem(w, r, err)
}
