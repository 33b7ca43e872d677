// Package login lets requests act as users of Postgres: whoever sends a name and a password gets a pool of
// connections that logged in with them. Postgres keeps the passwords and says what anyone may do.
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
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
	"golang.org/x/sync/singleflight"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

const (
	// MaxUsers are active at once, each with ConnsPerUser connections at most: all other users' pools
	// are closed.
	MaxUsers     = 20
	ConnsPerUser = 3

	// trustFor is how long a password that Postgres has taken is not shown to it again: for so long one that was
	// changed, or a role that was locked or dropped, may go on. While Postgres can be shown none, as when the
	// role has all its connections in use, it is trustAtMost.
	trustFor    = 15 * time.Second
	trustAtMost = 5 * time.Minute
	// closeAfter ends the pool of a user who does nothing.
	closeAfter  = 2 * time.Minute
	loginWithin = 10 * time.Second
	// patience is how long a user waits until another one's requests are over.
	patience = 10 * time.Second
)

// Users keeps the pools of those who are active.
type Users struct {
	config pq.Config
	// roles is the orchestrator's own pool, to ask what a role is.
	roles     *sql.DB
	letSupers bool
	// key makes proofs of passwords that are worth nothing elsewhere.
	key      []byte
	attempts *attempts

	flights singleflight.Group

	mu     sync.Mutex
	active map[string]*user
	// freed says that a user has no request under way any more.
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

// NewUsers returns Users of the server at databaseURL, in place of whose user and password theirs come. It
// checks that the server asks for passwords. Superusers are among them only if letSupers says so; roles is
// asked who is one.
func NewUsers(ctx context.Context, roles *sql.DB, databaseURL string, letSupers bool) (*Users, error) {
	config, err := db.ParseURL(databaseURL)
	if err != nil {
		return nil, err
	}
	// A file of passwords would go before the one that is given.
	config.Passfile = os.DevNull
	u := &Users{
		config:    config,
		roles:     roles,
		letSupers: letSupers,
		key:       []byte(rand.Text()),
		attempts:  newAttempts(),
		active:    make(map[string]*user),
		freed:     make(chan struct{}, 1),
	}

	// A role that is not there is refused for its password, unless nobody looks at passwords.
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
	config := u.config.Clone()
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

// Login gives the pool of a user, and the function that gives it back. Its error is a UserError when the
// password is wrong, or too many were tried from that address.
func (u *Users) Login(ctx context.Context, name, password, address string) (pool *sql.DB, release func(), err error) {
	proof := u.prove(name, password)
	if pool, release := u.hold(name, proof, trustFor); pool != nil {
		return pool, release, nil
	}
	// Postgres takes no such name, and shortens longer ones: several would be the same role.
	if len(name) > 63 || strings.ContainsRune(name+password, 0) {
		return nil, nil, errWrong
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		// The requests of one page come together: one of them logs in for all.
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

// errUnasked says that Postgres could not be asked whether a password is right.
var errUnasked = errors.New("log in")

// logIn makes a user active; errFull says that too many others are.
func (u *Users) logIn(ctx context.Context, name, password, address string, proof []byte) error {
	if !u.hasRoom(name) {
		return errFull
	}
	// Who shows again what was right a moment ago does not try passwords.
	takeBack, ok := func() {}, true
	if !u.isActive(name, proof) {
		takeBack, ok = u.attempts.begin(name, address, time.Now())
	}
	if !ok {
		return &db.UserError{
			Status:  http.StatusTooManyRequests,
			Message: "too many attempts to log in",
			Hint:    "Try again in a minute.",
		}
	}
	// Before the password, so that nobody learns here whether it is right.
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
		u.endIf(name, proof)
		return errWrong
	}
	// Only what Postgres refuses counts as an attempt in vain.
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

// isSuper says of a role that it is a superuser, or can become one.
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

func (u *Users) isActive(name string, proof []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	found := u.active[name]
	return found != nil && hmac.Equal(found.proof, proof)
}

// endIf takes a user out whose password was right once, and is no more.
func (u *Users) endIf(name string, proof []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if found := u.active[name]; found != nil && hmac.Equal(found.proof, proof) {
		u.end(name, found)
	}
}

func (u *Users) prove(name, password string) []byte {
	mac := hmac.New(sha256.New, u.key)
	fmt.Fprintf(mac, "%d:%s%s", len(name), name, password)
	return mac.Sum(nil)
}

// hold gives the pool of a user who has shown this password lately.
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
	Message: "as many users are active as can be at once",
	Hint:    "Try again in a while.",
}

// hasRoom says that a user could become active, so that nobody is asked for a password in vain.
func (u *Users) hasRoom(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.active[name] != nil || len(u.active) < MaxUsers || u.idlest() != ""
}

// idlest is the user who has done nothing for the longest; empty when all have requests under way.
func (u *Users) idlest() string {
	var idlest string
	for name, candidate := range u.active {
		if candidate.holders == 0 && (idlest == "" || candidate.usedAt.Before(u.active[idlest].usedAt)) {
			idlest = name
		}
	}
	return idlest
}

// admit makes a user active, in the place of the idlest if there are too many.
func (u *Users) admit(name string, proof []byte, pool *sql.DB, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if before := u.active[name]; before != nil {
		u.end(name, before)
	}
	if len(u.active) >= MaxUsers {
		idlest := u.idlest()
		if idlest == "" {
			return errFull
		}
		u.end(idlest, u.active[idlest])
	}
	u.active[name] = &user{pool: pool, proof: proof, verifiedAt: now, usedAt: now}
	return nil
}

// end takes a user out; the pool closes when the last request has given it back.
func (u *Users) end(name string, ended *user) {
	delete(u.active, name)
	ended.isOver = true
	if ended.holders == 0 {
		ended.pool.Close()
	}
}

// Run closes the pools of users who do nothing, and all of them when ctx ends.
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

// closeIdle ends the users who have done nothing since; the zero time stands for all.
func (u *Users) closeIdle(since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, found := range u.active {
		if since.IsZero() || found.holders == 0 && found.usedAt.Before(since) {
			u.end(name, found)
		}
	}
}
