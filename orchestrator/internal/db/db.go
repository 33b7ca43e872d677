// Package db opens the database and turns its errors into messages, an HTTP status and an exit code. The other
// packages import it and words, and no other package of ours.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
)

const (
	// MaxConns bounds the pool of a command, and that of the page.
	MaxConns = 8
	// maxSilence is the longest that statements of OpenImpatient wait for the server. maxStatement is a little
	// shorter: a server that still answers ends the statement itself, and does not go on computing what nobody
	// waits for.
	maxSilence   = 30 * time.Second
	maxStatement = 25 * time.Second
)

// Open returns a pool of at most maxConns connections to the database at url and checks that it
// answers.
//
// The url is what libpq takes, a connection URI or "key=value" pairs; what it leaves out comes from
// the PG* variables of the environment. The sslmode is require unless it says otherwise.
func Open(ctx context.Context, url string, maxConns int) (*sql.DB, error) {
	return Access{URL: url}.Open(ctx, maxConns)
}

// ParseURL reads a url as Open takes it.
func ParseURL(url string) (*pgx.ConnConfig, error) {
	// The listener connects by lib/pq, which must be able to read the url too.
	listens, err := pq.NewConfig(url)
	if err != nil {
		// The message may repeat the url, and with it a password.
		return nil, ErrBadURL
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, ErrBadURL
	}
	if listens.SSLMode == "" { // require to lib/pq, and prefer to pgx
		config.Fallbacks = slices.DeleteFunc(config.Fallbacks, func(other *pgconn.FallbackConfig) bool {
			return other.TLSConfig == nil && !filepath.IsAbs(other.Host) // a socket needs no TLS
		})
	}
	// Of several hosts, one that does not answer leaves time for the others.
	if attempts := 1 + len(config.Fallbacks); config.ConnectTimeout == 0 && attempts > 1 {
		config.ConnectTimeout = connectWithin / time.Duration(attempts)
	}
	config.DialFunc = (&net.Dialer{}).DialContext
	config.BuildContextWatcherHandler = cancelOrClose
	// A statement and its arguments are one message. Otherwise a pooler in transaction mode may give the second
	// message to a session that does not know the statement.
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.RuntimeParams["standard_conforming_strings"] = "on"
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["datestyle"] = "ISO, MDY"
	return config, nil
}

// OpenConfig is Open for a parsed URL, which the caller may have changed.
func OpenConfig(ctx context.Context, config *pgx.ConnConfig, maxConns int) (*sql.DB, error) {
	return openConfig(ctx, config, maxConns)
}

func openConfig(ctx context.Context, config *pgx.ConnConfig, maxConns int, options ...stdlib.OptionOpenDB) (*sql.DB, error) {
	pool := sql.OpenDB(connector{stdlib.GetConnector(*config, options...), max(connectWithin, config.ConnectTimeout)})
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(mostIdle(maxConns))
	pool.SetConnMaxIdleTime(time.Minute)

	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

func mostIdle(maxConns int) int { return (maxConns + 1) / 2 }

// CloseIdle closes the connections of a pool that nobody uses. The pool opens new ones when it needs them.
func CloseIdle(pool *sql.DB) {
	pool.SetMaxIdleConns(-1)
	pool.SetMaxIdleConns(mostIdle(pool.Stats().MaxOpenConnections))
}

// OpenImpatient is Open for short statements. The server ends one that takes longer than maxStatement. When it
// sends nothing for half a minute, the connection is closed, and the next statement opens a new one.
func OpenImpatient(ctx context.Context, url string, maxConns int) (*sql.DB, error) {
	return Access{URL: url}.OpenImpatient(ctx, maxConns)
}

// OpenImpatient is OpenImpatient with this access.
func (a Access) OpenImpatient(ctx context.Context, maxConns int) (*sql.DB, error) {
	config, err := ParseURL(a.URL)
	if err != nil {
		return nil, err
	}
	config.DialFunc = Dialer{Silence: maxSilence}.DialContext
	plain := config.Copy()
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(maxStatement.Milliseconds(), 10)
	pool, err := openConfig(ctx, config, maxConns, a.logIn())
	if isUnsupported(err) {
		// The pooler passes on no settings. A statement still ends after maxSilence, by the connection.
		return openConfig(ctx, plain, maxConns, a.logIn())
	}
	return pool, err
}

// isUnsupported reports whether a pooler has refused a connection for a setting that it cannot pass on.
func isUnsupported(err error) bool {
	var refusal *pq.Error
	return errors.As(err, &refusal) && refusal.Code == "08P01" &&
		strings.Contains(refusal.Message, "statement_timeout")
}
