// Package login lets requests act as users of Postgres: a request with a name and a password gets a pool of
// connections that have logged in with them. Postgres keeps the passwords and decides what each user may do.
package login

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"
	"golang.org/x/sync/singleflight"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// MaxUsers is how many users are active at once unless NewUsers gets fewer, each with at most ConnsPerUser
	// connections. The pools of all other users are closed.
	MaxUsers     = 20
	ConnsPerUser = 3

	// trustFor is how long a password that Postgres has accepted is accepted without asking Postgres again.
	// For so long a changed password, or a locked or dropped role, still works. While Postgres cannot be
	// asked, as when the role has all its connections in use, the limit is trustAtMost.
	trustFor    = 15 * time.Second
	trustAtMost = 5 * time.Minute
	// closeAfter is when the pool of an idle user is closed.
	closeAfter  = 2 * time.Minute
	loginWithin = 10 * time.Second
	// patience is how long a user waits until the requests of another user are done.
	patience = 10 * time.Second
)

// Users keeps the pools of the active users.
type Users struct {
	config *pgx.ConnConfig
	// roles is the orchestrator's own pool, for queries about roles.
	roles     *sql.DB
	letSupers bool
	most      int
	// key makes proofs of passwords that are of no use elsewhere.
	key      []byte
	attempts *attempts

	flights singleflight.Group

	mu     sync.Mutex
	active map[string]*user
	// proven are proofs of the password with which each name last logged in.
	proven map[string][]byte
	// freed receives a value when a user has no more running requests.
	freed chan struct{}
}

type user struct {
	pool       *sql.DB
	proof      []byte
	verifiedAt time.Time
	usedAt     time.Time
	holders    int
	isOver     bool
}

// NewUsers returns Users of the server at databaseURL, whose user and password are replaced by theirs. It
// checks that the server asks for passwords. Superusers may log in only if letSupers is true; roles is queried
// for who is one. At most so many are active at once.
func NewUsers(ctx context.Context, roles *sql.DB, databaseURL string, letSupers bool, most int) (*Users, error) {
	config, err := db.ParseURL(databaseURL)
	if err != nil {
		return nil, err
	}
	u := &Users{
		config:    config,
		roles:     roles,
		letSupers: letSupers,
		most:      most,
		key:       []byte(rand.Text()),
		attempts:  newAttempts(),
		active:    make(map[string]*user),
		proven:    make(map[string][]byte),
		freed:     make(chan struct{}, 1),
	}

	// A role that does not exist is refused for its password, unless the server does not check passwords.
	_, err = u.open(ctx, rand.Text(), rand.Text())
	var refused *pq.Error
	if !errors.As(err, &refused) {
		return nil, fmt.Errorf("ask the server for a password: %w", err)
	}
	if refused.Code != "28P01" {
		return nil, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: "the server lets users in without a password: " + refused.Message,
			Hint:    `Give --auth-url one that asks for it, with "host … scram-sha-256" in pg_hba.conf.`,
		}
	}
	return u, nil
}

func (u *Users) open(ctx context.Context, name, password string) (*sql.DB, error) {
	config := u.config.Copy()
	config.User, config.Password = name, password
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	pool, err := db.OpenConfig(ctx, config, ConnsPerUser)
	if err != nil {
		return nil, err
	}
	pool.SetMaxIdleConns(1)
	pool.SetConnMaxIdleTime(30 * time.Second)
	return pool, nil
}

// Login returns the pool of a user, and a function that releases it. The error is a UserError when the password
// is wrong, or when there were too many attempts from that address.
func (u *Users) Login(ctx context.Context, name, password, address string) (pool *sql.DB, release func(), err error) {
	proof := u.prove(name, password)
	if pool, release := u.hold(name, proof, trustFor); pool != nil {
		return pool, release, nil
	}
	// Postgres refuses such names and shortens longer ones, so that several names would be the same role.
	if len(name) > 63 || strings.ContainsRune(name+password, 0) {
		return nil, nil, errWrong
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		// The requests of one page arrive together: one of them logs in for all.
		_, err, _ := u.flights.Do(string(proof), func() (any, error) {
			if pool, release := u.hold(name, proof, trustFor); pool != nil {
				release()
				return nil, nil
			}
			return nil, u.logIn(context.WithoutCancel(ctx), name, password, address, proof)
		})
		isKept := errors.Is(err, errUnasked)
		if err != nil && err != errFull && !isKept {
			return nil, nil, err
		}
		trusted := trustFor
		if isKept {
			trusted = trustAtMost
		}
		if pool, release := u.hold(name, proof, trusted); pool != nil {
			return pool, release, nil
		}
		if isKept {
			return nil, nil, err
		}
		select {
		case <-u.freed:
		case <-ctx.Done():
			return nil, nil, errFull
		}
	}
}

var errWrong = &db.UserError{
	Status:  http.StatusUnauthorized,
	Message: "the name or the password is wrong",
}

var errSuper = &db.UserError{
	Status:  http.StatusUnauthorized,
	Message: "superusers do not log in here",
	Hint:    "Log in as another role, such as a member of tinydevcrm_admin. up --allow-superuser-login lets superusers in.",
}

// errUnasked means that Postgres could not be asked whether a password is right.
var errUnasked = errors.New("log in")

// logIn makes a user active. errFull means that too many others are.
func (u *Users) logIn(ctx context.Context, name, password, address string, proof []byte) error {
	if !u.hasRoom(name) {
		return errFull
	}
	// Who knows the password that was right the last time does not guess it, whatever others have tried from there.
	takeBack, ok := func() {}, true
	if !u.isProven(name, proof) {
		takeBack, ok = u.attempts.begin(name, address, time.Now())
	}
	if !ok {
		return &db.UserError{
			Status:  http.StatusTooManyRequests,
			Message: "too many attempts to log in",
			Hint:    "Try again in a minute.",
		}
	}
	// This comes before the password is checked, so that the answer does not reveal whether it is right.
	if isSuper, err := u.isSuper(ctx, name); err != nil || isSuper && !u.letSupers {
		if err != nil {
			takeBack()
			return fmt.Errorf("%w: %w", errUnasked, err)
		}
		return errSuper
	}
	opened, err := u.open(ctx, name, password)
	var refused *pq.Error
	if errors.As(err, &refused) && refused.Code.Class() == "28" {
		u.disprove(name, proof)
		return errWrong
	}
	// Only a refusal by Postgres counts as a failed attempt.
	takeBack()
	if err != nil {
		return fmt.Errorf("%w: %w", errUnasked, err)
	}
	u.attempts.remember(name, address)
	if err := u.admit(name, proof, opened, time.Now()); err != nil {
		opened.Close()
		return err
	}
	return nil
}

// isSuper reports whether a role is a superuser, or can become one.
func (u *Users) isSuper(ctx context.Context, name string) (isSuper bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	err = u.roles.QueryRowContext(ctx, `
		select exists (
		           select
		             from pg_catalog.pg_roles as own
		             join pg_catalog.pg_roles as super
		               on super.rolsuper
		              and pg_has_role(own.oid, super.oid, 'member')
		            where own.rolname = $1)`, name).Scan(&isSuper)
	return isSuper, err
}

func (u *Users) isProven(name string, proof []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return hmac.Equal(u.proven[name], proof)
}

// disprove forgets a password that was right once and no longer is, and makes its user inactive.
func (u *Users) disprove(name string, proof []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if hmac.Equal(u.proven[name], proof) {
		delete(u.proven, name)
	}
	if found := u.active[name]; found != nil && hmac.Equal(found.proof, proof) {
		u.end(name, found)
	}
}

func (u *Users) prove(name, password string) []byte {
	mac := hmac.New(sha256.New, u.key)
	fmt.Fprintf(mac, "%d:%s%s", len(name), name, password)
	return mac.Sum(nil)
}

// hold returns the pool of a user who has recently given this password.
func (u *Users) hold(name string, proof []byte, trusted time.Duration) (*sql.DB, func()) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	found := u.active[name]
	if found == nil || !hmac.Equal(found.proof, proof) || now.Sub(found.verifiedAt) > trusted {
		return nil, nil
	}
	found.holders++
	found.usedAt = now
	return found.pool, sync.OnceFunc(func() { u.release(found) })
}

func (u *Users) release(held *user) {
	u.mu.Lock()
	defer u.mu.Unlock()
	held.holders--
	held.usedAt = time.Now()
	if held.holders > 0 {
		return
	}
	if held.isOver {
		held.pool.Close()
	}
	select {
	case u.freed <- struct{}{}:
	default:
	}
}

var errFull = &db.UserError{
	Status:  http.StatusServiceUnavailable,
	Message: "the maximum number of users is active",
	Hint:    "Try again later.",
}

// hasRoom reports whether a user could become active, so that a password is not checked for nothing.
func (u *Users) hasRoom(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.active[name] != nil || len(u.active) < u.most || u.idlest() != ""
}

// idlest is the user who has been idle for the longest; empty when all have running requests.
func (u *Users) idlest() string {
	var idlest string
	for name, candidate := range u.active {
		if candidate.holders == 0 && (idlest == "" || candidate.usedAt.Before(u.active[idlest].usedAt)) {
			idlest = name
		}
	}
	return idlest
}

// admit makes a user active, and replaces the idlest one if there are too many.
func (u *Users) admit(name string, proof []byte, pool *sql.DB, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.proven[name] = proof
	if before := u.active[name]; before != nil {
		u.end(name, before)
	}
	if len(u.active) >= u.most {
		idlest := u.idlest()
		if idlest == "" {
			return errFull
		}
		u.end(idlest, u.active[idlest])
	}
	u.active[name] = &user{pool: pool, proof: proof, verifiedAt: now, usedAt: now}
	return nil
}

// end makes a user inactive. The pool closes when the last request has released it.
func (u *Users) end(name string, ended *user) {
	delete(u.active, name)
	ended.isOver = true
	if ended.holders == 0 {
		ended.pool.Close()
	}
}

// Run closes the pools of idle users, and all pools when ctx ends.
func (u *Users) Run(ctx context.Context) error {
	tick := time.NewTicker(closeAfter / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			u.closeIdle(time.Time{})
			return nil
		case now := <-tick.C:
			u.closeIdle(now.Add(-closeAfter))
		}
	}
}

// closeIdle makes users inactive who have been idle since then; the zero time means all users.
func (u *Users) closeIdle(since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, found := range u.active {
		if since.IsZero() || found.holders == 0 && found.usedAt.Before(since) {
			u.end(name, found)
		}
	}
}
