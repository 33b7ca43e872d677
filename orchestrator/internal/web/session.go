package web

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"sync"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A session is who acts: a pool of connections, and the work that may be under way in it at once. Uploads
// and downloads, and actions, each hold a connection for as long as they take; together they leave one to the page.
type session struct {
	pool *sql.DB
	// user is the role; empty where nobody logs in.
	user      string
	transfers slots
	actions   slots
	flashes   *flashes
	// release gives the pool back before the request ends; nil where there is no need.
	release func()
}

func newSession(transfers, actions int) *session {
	return &session{
		transfers: newSlots("uploads and downloads", transfers),
		actions:   newSlots("requests to the database", actions),
		flashes:   &flashes{},
	}
}

// sessions keep the slots and flashes of each user from one request to the next.
type sessions struct {
	mu     sync.Mutex
	byUser map[string]*session
}

func (s *sessions) of(user string, pool *sql.DB, release func()) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.byUser[user]
	if kept == nil {
		// One of each: a user has three connections.
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

// session is that of a request.
func (s *server) session(ctx context.Context) *session {
	if found, ok := ctx.Value(sessionKey{}).(*session); ok {
		return found
	}
	return s.everyone
}

func (s *server) pool(ctx context.Context) *sql.DB { return s.session(ctx).pool }

// errLocked says that a role may not log in any more.
var errLocked = errors.New("the role may not log in")

// roleOf gives the number of the role of a session's user, as long as it may log in; 0 where nobody does.
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

// authenticate has each request log in to Postgres by HTTP Basic, where there are users.
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
