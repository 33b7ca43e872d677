// Package db opens the database and turns its errors into messages, an HTTP status and an exit code. The other
// packages import it and words, and no other package of ours.
package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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
// the PG* variables of the environment. lib/pq's sslmode is require unless it says otherwise.
func Open(ctx context.Context, url string, maxConns int) (*sql.DB, error) {
	config, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	return OpenConfig(ctx, config, maxConns)
}

// ParseURL reads a url as Open takes it.
func ParseURL(url string) (pq.Config, error) {
	config, err := pq.NewConfig(url)
	if err != nil {
		// lib/pq's message may repeat the url, and with it a password.
		return pq.Config{}, ErrBadURL
	}
	return config, nil
}

// OpenConfig is Open for a parsed URL, which the caller may have changed.
func OpenConfig(ctx context.Context, config pq.Config, maxConns int) (*sql.DB, error) {
	config = inOneMessage(config)
	parsed, err := pq.NewConnectorConfig(config)
	if err != nil {
		return nil, err
	}
	return open(ctx, connector{parsed, config}, maxConns)
}

// inOneMessage has lib/pq send a statement and its arguments in one message. Otherwise it sends two, and a pooler in
// transaction mode may give the second to a session that does not know the statement. A []byte is then a bytea: JSON is
// given as a string.
func inOneMessage(config pq.Config) pq.Config {
	config = config.Clone()
	config.BinaryParameters = true
	return config
}

// OpenImpatient is Open for short statements. The server ends one that takes longer than maxStatement. When it
// sends nothing for half a minute, the connection is closed, and the next statement opens a new one.
func OpenImpatient(ctx context.Context, url string, maxConns int) (*sql.DB, error) {
	config, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	config = inOneMessage(config)
	plain := config.Clone()
	if config.Runtime == nil {
		config.Runtime = make(map[string]string)
	}
	config.Runtime["statement_timeout"] = strconv.FormatInt(maxStatement.Milliseconds(), 10)
	pool, err := openImpatient(ctx, config, maxConns)
	if isUnsupported(err) {
		// The pooler passes on no settings. A statement still ends after maxSilence, by the connection.
		return openImpatient(ctx, plain, maxConns)
	}
	return pool, err
}

// isUnsupported reports whether a pooler has refused a connection for a setting that it cannot pass on.
func isUnsupported(err error) bool {
	var refusal *pq.Error
	return errors.As(err, &refusal) && refusal.Code == "08P01" &&
		strings.Contains(refusal.Message, "statement_timeout")
}

func openImpatient(ctx context.Context, config pq.Config, maxConns int) (*sql.DB, error) {
	impatient, err := pq.NewConnectorConfig(config)
	if err != nil {
		return nil, err
	}
	impatient.Dialer(Dialer{Silence: maxSilence})
	return open(ctx, impatient, maxConns)
}

func open(ctx context.Context, source driver.Connector, maxConns int) (*sql.DB, error) {
	pool := sql.OpenDB(waryConnector{source})
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns((maxConns + 1) / 2)
	pool.SetConnMaxIdleTime(time.Minute)

	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}
